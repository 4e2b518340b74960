/** Metrics for comparing the evaluations of a run: by name, or custom functions. */
import * as z from 'zod'
import { callback } from '../core/arguments.js'
import { flag, text, word } from '../core/schema.js'
import { named } from '../core/type-names.js'

export const METRICS = [
  'loss',
  'perplexity',
  'exact_match',
  'mean_token_accuracy',
  'accuracy',
  'f1',
  'rewards_accuracies',
  'rewards_margins',
  'reward',
] as const

/**
 * Metric for comparing evaluations: the mean loss, or its exponential; of `causal_lm` also the share of rows answered
 * word for word, the share of supervised tokens predicted correctly, or the mean F1 of words of the answers; of a
 * classifier the share of rows whose class is predicted, or the mean F1 of the classes; of pairs of answers the share of
 * pairs whose chosen answer has the larger reward, or the mean difference of their rewards, which is also of good and bad
 * answers; of `grpo` the mean reward of greedy answers, or a metric of `causal_lm`.
 */
export type Metric = (typeof METRICS)[number]

/** A row with the model's answer to its prompt. */
export interface ScoredRow {
  prompt: string
  expected: string
  prediction: string
}

/** A user-defined metric, which scores each answer; the mean is reported. */
export interface CustomMetric {
  name: string
  /** Returns a finite number for one row. */
  score: (row: ScoredRow) => number
  /** Whether a higher score is better. Default true. */
  higherIsBetter?: boolean | undefined
}

export const customMetricSchema = named(
  z.strictObject({
    name: text('a name'),
    score: callback<CustomMetric['score']>(),
    higherIsBetter: flag().optional(),
  }),
  { type: 'CustomMetric', from: 'tasks/metrics' },
)

/** A metric of a config file, which has no functions. */
export const namedMetricSchema = word(METRICS)
  .default('loss')
  .describe(
    'Metric that evaluations are compared by: the loss; its exponential; the share of rows answered word for word; the share of supervised tokens predicted correctly; the mean F1 of the words of generated answers. Task `classification`: the share of rows whose class is predicted, or the mean F1 of the classes. Tasks `dpo` and `orpo`: the share of pairs preferred, or the mean margin of rewards, which is also of `kto`. Task `grpo`: the mean reward of generated answers, or a metric of `causal_lm`.',
  )

export const metricSchema = z
  .union([named(word(METRICS), { type: 'Metric', from: 'tasks/metrics' }), customMetricSchema], {
    error: `one of ${METRICS.join(', ')}, or { name, score }`,
  })
  .default('loss')
  .describe(
    'Metric that evaluations are compared by: its name, or with tasks `causal_lm` and `grpo` a function that scores each held-out answer.',
  )

const LOWER_IS_BETTER: readonly string[] = ['loss', 'perplexity'] satisfies Metric[]

/** True if more of the metric is better. */
export function isGreaterBetter(metric: Metric | CustomMetric): boolean {
  return typeof metric === 'string' ? !LOWER_IS_BETTER.includes(metric) : (metric.higherIsBetter ?? true)
}

export function metricName(metric: Metric | CustomMetric): string {
  return typeof metric === 'string' ? metric : metric.name
}
