/** A strict reader of Prometheus' text format 0.0.4, after its specification. */

interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export interface Family {
  type: string
  help: string
  samples: Sample[]
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y

/** @throws for anything that a strict reader refuses */
export function parsedMetrics(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const families = new Map<string, Family>()
  const seen = new Set<string>()
  const lines = text.slice(0, -1).split('\n')
  for (let at = 0; at < lines.length; ) {
    const [, name = '', help = ''] = match(lines[at++], new RegExp(`^# HELP (${NAME}) (.+)$`))
    const [, typed, type = ''] = match(
      lines[at++],
      new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram)$`),
    )
    if (typed !== name || families.has(name)) throw new Error(`${name} is typed as ${typed}, or twice there`)
    const samples: Sample[] = []
    for (; at < lines.length && !lines[at]?.startsWith('#'); at++) {
      const line = lines[at] as string
      const [, own = '', inner = '', value = ''] = match(
        line,
        new RegExp(`^(${NAME})(?:\\{(.+)\\})? (\\S+)$`),
      )
      const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
      if (!suffixes.some((suffix) => own === name + suffix)) throw new Error(`${line} stands under ${name}`)
      const key = line.slice(0, line.lastIndexOf(' '))
      if (seen.has(key)) throw new Error(`${key} is there twice`)
      seen.add(key)
      samples.push({ name: own, labels: labelsOf(inner), value: numberOf(value) })
    }
    check(name, { type, help, samples })
    families.set(name, { type, help, samples })
  }
  return families
}

function match(line: string | undefined, pattern: RegExp): RegExpExecArray {
  const found = pattern.exec(line ?? '')
  if (found === null) throw new Error(`${line} is not ${pattern}`)
  return found
}

function labelsOf(inner: string): Record<string, string> {
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  for (let at = 0; at < inner.length; at = LABEL.lastIndex) {
    const [, name = '', value = ''] = LABEL.exec(inner) ?? []
    if (name === '' || name in labels) throw new Error(`bad labels: ${inner}`)
    labels[name] = value.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one))
  }
  return labels
}

function numberOf(text: string): number {
  if (/^[+-]Inf$/.test(text)) return text === '+Inf' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
  if (text === 'NaN') return Number.NaN
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text)) throw new Error(`${text} is no number`)
  return Number(text)
}

function check(name: string, { type, samples }: Family): void {
  if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${type}`)
  if (type === 'counter' && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} is negative`)
  if (type !== 'histogram') return
  const groups = new Map<string, Sample[]>()
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels
    const key = JSON.stringify(labels)
    groups.set(key, [...(groups.get(key) ?? []), sample])
  }
  for (const [key, group] of groups) {
    const buckets = group.filter((sample) => sample.name === `${name}_bucket`)
    const bounds = buckets.map(({ labels: { le = '' } }) => numberOf(le))
    const counts = buckets.map(({ value }) => value)
    const rises = (list: number[]) => list.every((one, i) => i === 0 || one >= (list[i - 1] as number))
    const count = group.find((sample) => sample.name === `${name}_count`)?.value
    const hasSum = group.some((sample) => sample.name === `${name}_sum`)
    if (!rises(bounds) || !rises(counts) || bounds.at(-1) !== Number.POSITIVE_INFINITY)
      throw new Error(`the buckets of ${name}${key} do not rise to +Inf`)
    if (counts.at(-1) !== count || !hasSum) throw new Error(`${name}${key} has another count, or no sum`)
  }
}
