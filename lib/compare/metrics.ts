/** Metrics of a compare other than the loss: one number per test row, reported as the mean. */
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/schema.js'
import type { CustomMetric, ScoredRow } from '../tasks/metrics.js'
import { customScores, wordF1 } from '../train/measures/answer-scores.js'
import type { Question } from '../train/measures/row-measures.js'

/** A metric to compute. */
export interface Metric {
  name: string
  higherIsBetter: boolean
  score?: (row: ScoredRow) => number
}

/** Metrics by name. `loss` is always measured. */
export const METRIC_NAMES = ['loss', 'exact_match', 'mean_token_accuracy', 'f1'] as const
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

/** Results on the test rows: exact matches, token accuracies, and answers. */
export interface RowResults {
  matched: readonly boolean[]
  accuracies: readonly number[]
  rows: readonly ScoredRow[]
  /** Null for a row without a prompt, which cannot be answered. */
  questions: readonly (Question | null)[]
}

/** Scores of each row, by metric name. */
export function scoresOf(
  metrics: readonly Metric[],
  { matched, accuracies, rows, questions }: RowResults,
): Record<string, number[]> {
  const known: Record<string, () => number[]> = {
    exact_match: () => matched.map(Number),
    mean_token_accuracy: () => [...accuracies],
    f1: () => rows.map((row, i) => (questions[i] === null ? Number(matched[i]) : wordF1(row))),
  }
  return Object.fromEntries(
    metrics
      .filter(({ name }) => name !== 'loss')
      .map(({ name, score }) => [
        name,
        score ? customScores({ name, score }, rows, 'compare') : (known[name]?.() ?? []),
      ]),
  )
}
