/** Prometheus' text format for metrics, version 0.0.4. */

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export type Labels = Readonly<Record<string, string>>

interface Sample {
  value: number
  labels?: Labels
  /** End of the name, as in `_bucket`. */
  suffix?: string
}

/** A metric with the samples of all its labels. */
export interface Metric {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram'
  samples: readonly Sample[]
}

export function exposition(metrics: readonly Metric[]): string {
  const lines = metrics.flatMap(({ name, help, type, samples }) => [
    `# HELP ${name} ${escaped(help)}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(
      ({ suffix = '', labels = {}, value }) => `${name}${suffix}${labelled(labels)} ${number(value)}`,
    ),
  ])
  return `${lines.join('\n')}\n`
}

function labelled(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`,
  )
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function number(value: number): string {
  return Number.isFinite(value) || Number.isNaN(value) ? String(value) : value > 0 ? '+Inf' : '-Inf'
}

/** Counts of each set of labels. */
export class Counts {
  readonly #samples = new Map<string, { labels: Labels; value: number }>()

  add(labels: Labels): void {
    const key = JSON.stringify(labels)
    const sample = this.#samples.get(key) ?? { labels, value: 0 }
    this.#samples.set(key, sample)
    sample.value++
  }

  get samples(): Sample[] {
    return [...this.#samples.values()]
  }
}

/** How many values are at most each bound, for each set of labels. */
export class Histogram {
  readonly #bounds: readonly number[]
  readonly #observed = new Map<string, { labels: Labels; counts: number[]; sum: number }>()

  /** @param bounds ascending; one of infinity is added */
  constructor(bounds: readonly number[]) {
    this.#bounds = [...bounds, Number.POSITIVE_INFINITY]
  }

  observe(labels: Labels, value: number): void {
    const key = JSON.stringify(labels)
    const observed = this.#observed.get(key) ?? { labels, counts: this.#bounds.map(() => 0), sum: 0 }
    this.#observed.set(key, observed)
    observed.sum += value
    for (const [i, bound] of this.#bounds.entries())
      if (value <= bound) observed.counts[i] = (observed.counts[i] as number) + 1
  }

  get samples(): Sample[] {
    return [...this.#observed.values()].flatMap(({ labels, counts, sum }) => [
      ...this.#bounds.map((bound, i) => ({
        suffix: '_bucket',
        labels: { ...labels, le: number(bound) },
        value: counts[i] as number,
      })),
      { suffix: '_sum', labels, value: sum },
      { suffix: '_count', labels, value: counts.at(-1) as number },
    ])
  }
}
