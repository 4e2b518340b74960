/** Metrics of a compare other than the loss: one number per test row, reported as the mean. */
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/schema.js'

/** A test row with its answer. */
export interface ScoredRow {
  prompt: string
  expected: string
  prediction: string
}

/** A user-defined metric, which scores each answer. */
export interface CustomMetric {
  name: string
  /** Returns a finite number for one row. */
  score: (row: ScoredRow) => number
  /** Whether a higher score is better. Default true. */
  higherIsBetter?: boolean
}

/** A metric to compute. */
export interface Metric {
  name: string
  higherIsBetter: boolean
  score?: (row: ScoredRow) => number
}

/** Metrics by name. `loss` is always measured. */
export const METRIC_NAMES = ['loss', 'exact_match', 'accuracy', 'f1'] as const
export type MetricName = (typeof METRIC_NAMES)[number]
export const DEFAULT_METRICS: readonly MetricName[] = ['loss', 'exact_match']

/** @throws {ConfigError} for an unknown or duplicate name */
export function metricsOf(asked: readonly (string | CustomMetric)[]): Metric[] {
  const found = new Map<string, Metric>([['loss', { name: 'loss', higherIsBetter: false }]])
  for (const metric of asked) {
    const name = typeof metric === 'string' ? metric : metric.name
    const isKnown = (METRIC_NAMES as readonly string[]).includes(name)
    if (typeof metric === 'string') {
      if (!isKnown) {
        const close = nearest(name, [...METRIC_NAMES])
        throw new ConfigError(
          `compare: metric ${JSON.stringify(name)} does not exist; ${close ? `did you mean ${close}?` : `expected some of ${METRIC_NAMES.join(', ')}.`}`,
          { name, known: METRIC_NAMES },
        )
      }
      if (name !== 'loss') found.set(name, { name, higherIsBetter: true })
      continue
    }
    if (isKnown || found.has(name))
      throw new ConfigError(`compare: the metric ${name} is there twice; give your own another name.`, {
        name,
      })
    const { higherIsBetter = true, score } = metric
    found.set(name, { name, higherIsBetter, score })
  }
  return [...found.values()]
}

/** Losses and scores of the test rows. */
export interface RowResults {
  matched: readonly boolean[]
  accuracies: readonly number[]
  predictions: readonly string[]
  expected: readonly string[]
  prompts: readonly string[]
}

/** Scores of each row, by metric name. */
export function scoresOf(metrics: readonly Metric[], results: RowResults): Record<string, number[]> {
  const { matched, accuracies, predictions, expected, prompts } = results
  const rows = predictions.map((prediction, i): ScoredRow => {
    return { prompt: prompts[i] as string, expected: expected[i] as string, prediction }
  })
  const known: Record<string, () => number[]> = {
    exact_match: () => matched.map(Number),
    accuracy: () => [...accuracies],
    f1: () => rows.map(wordF1),
  }
  return Object.fromEntries(
    metrics
      .filter(({ name }) => name !== 'loss')
      .map(({ name, score }) => [
        name,
        score ? rows.map((row) => checked(name, score(row))) : (known[name]?.() ?? []),
      ]),
  )
}

function checked(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw new ConfigError(
    `compare: metric ${name} returned ${String(value)} for a row, expected a finite number.`,
    { name, value: String(value) },
  )
}

/**
 * F1 over the words shared by the prediction and the expected answer, ignoring case and punctuation, as in SQuAD.
 * @see Rajpurkar et al. 2016, arXiv 1606.05250
 */
export function wordF1({ prediction, expected }: Pick<ScoredRow, 'prediction' | 'expected'>): number {
  const [given, wanted] = [wordsOf(prediction), wordsOf(expected)]
  if (given.length === 0 || wanted.length === 0) return Number(given.length === wanted.length)
  const left = new Map<string, number>()
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1)
  let shared = 0
  for (const word of given) {
    const count = left.get(word) ?? 0
    if (count === 0) continue
    shared++
    left.set(word, count - 1)
  }
  return (2 * shared) / (given.length + wanted.length)
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
}
