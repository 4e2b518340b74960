/** Tasks of a run: predict the next token, classify, or learn from preferences. */
import * as z from 'zod'
import { badValue, numberWithin, type OptionSource, positive, word } from '../core/schema.js'
import { type CustomMetric, METRICS, type Metric } from './metrics.js'

/**
 * `causal_lm` predicts the next token, `classification` the class of a text; `dpo` and `orpo` learn from preferences
 * between two answers, `kto` from answers that are good or bad.
 */
export type Task = 'causal_lm' | 'classification' | 'dpo' | 'orpo' | 'kto'
export const TASKS = ['causal_lm', 'classification', 'dpo', 'orpo', 'kto'] as const satisfies readonly Task[]

/** Class weights: inversely proportional to class frequency (`balanced`), or by class name, with a default of 1. */
export type ClassWeights = 'balanced' | Readonly<Record<string, number>>

/** Options of the task. */
export interface TaskOptions {
  /** Default causal_lm. */
  readonly task: Task
  /**
   * `dpo`, `kto`: strength of the pull toward the reference model. `orpo`: weight of the odds-ratio loss. Default null: 0.1.
   */
  readonly beta: number | null
  /** `dpo`: the logistic loss or IPO. Default null: sigmoid. */
  readonly lossType: 'sigmoid' | 'ipo' | null
  /** `dpo` with the logistic loss: probability that a preference label is flipped, in [0, 0.5). Default null: 0. */
  readonly labelSmoothing: number | null
  /** `kto`: weight of desirable rows in the loss. Default null: 1. */
  readonly desirableWeight: number | null
  /** `kto`: weight of undesirable rows in the loss. Default null: 1. */
  readonly undesirableWeight: number | null
  /** `classification`: weight of each class in the loss. Default null: all equal. */
  readonly classWeights: ClassWeights | null
}

const CLASS_WEIGHTS = 'balanced, or a number above 0 for each name of a class'
export const taskShape = {
  task: word(TASKS)
    .default('causal_lm')
    .describe(
      'What to train for: `causal_lm` predicts the next token; `classification` the class of a text, see [Classes](data.md#classes); `dpo` and `orpo` prefer the chosen of two answers, see [Preference pairs](data.md#preference-pairs); `kto` learns from good and bad answers, see [Good and bad answers](data.md#good-and-bad-answers).',
    ),
  beta: positive()
    .nullable()
    .default(null)
    .describe(
      '`dpo`, `kto`: strength of the pull toward the reference. `orpo`: weight of the odds ratio. Default: 0.1.',
    ),
  lossType: word(['sigmoid', 'ipo'])
    .nullable()
    .default(null)
    .describe('`dpo`: the logistic loss, or IPO. Default: `sigmoid`.'),
  labelSmoothing: numberWithin(0, 0.5 - Number.EPSILON, 'a number in [0, 0.5)')
    .nullable()
    .default(null)
    .describe(
      '`dpo` with the logistic loss: probability that a preference is the wrong way round. Default: 0.',
    ),
  desirableWeight: positive()
    .nullable()
    .default(null)
    .describe('`kto`: weight of good answers in the loss. Default: 1.'),
  undesirableWeight: positive()
    .nullable()
    .default(null)
    .describe('`kto`: weight of bad answers in the loss. Default: 1.'),
  classWeights: z
    .union([z.literal('balanced'), z.record(z.string(), positive())], { error: CLASS_WEIGHTS })
    .nullable()
    .default(null)
    .describe(
      '`classification`: how much a row of each class counts in the loss, by the name of the class; `balanced` counts rows of rare classes more. Default: all alike.',
    ),
}

/** The loss of a preference task, with its options. */
export type PreferenceLoss =
  | { name: 'dpo'; beta: number; lossType: 'sigmoid' | 'ipo'; labelSmoothing: number }
  | { name: 'orpo'; beta: number }
  | { name: 'kto'; beta: number; desirableWeight: number; undesirableWeight: number }

/** True for a task, or the loss of a task, on pairs of answers. */
export const hasPairs = (name: string): boolean => name === 'dpo' || name === 'orpo'

/** True for a task that learns from preferences. */
export const isPreference = (task: Task): boolean => hasPairs(task) || task === 'kto'

/** True for a task whose loss depends on the model at the start of the run. */
export const hasReference = (task: Task): boolean => task === 'dpo' || task === 'kto'

/** The loss of a preference task; null for other tasks. */
export function preferenceLoss(options: TaskOptions): PreferenceLoss | null {
  const { task, beta, lossType, labelSmoothing, desirableWeight, undesirableWeight } = options
  if (task === 'orpo') return { name: 'orpo', beta: beta ?? 0.1 }
  if (task === 'kto')
    return {
      name: 'kto',
      beta: beta ?? 0.1,
      desirableWeight: desirableWeight ?? 1,
      undesirableWeight: undesirableWeight ?? 1,
    }
  if (task !== 'dpo') return null
  return {
    name: 'dpo',
    beta: beta ?? 0.1,
    lossType: lossType ?? 'sigmoid',
    labelSmoothing: labelSmoothing ?? 0,
  }
}

const OF_PAIRS: readonly Metric[] = ['loss', 'rewards_accuracies', 'rewards_margins']
const OF_TASK: Readonly<Record<Task, readonly Metric[]>> = {
  causal_lm: ['loss', 'perplexity', 'exact_match', 'accuracy', 'f1'],
  classification: ['loss', 'accuracy', 'f1'],
  dpo: OF_PAIRS,
  orpo: OF_PAIRS,
  kto: ['loss', 'rewards_margins'],
}

const OF_ANSWERS: readonly string[] = ['exact_match', 'accuracy', 'f1'] satisfies Metric[]

/** True if the metric is computed on answers, in addition to the loss. */
export function isOfAnswers(task: Task, metric: Metric | CustomMetric): boolean {
  return task === 'causal_lm' && (typeof metric !== 'string' || OF_ANSWERS.includes(metric))
}

/** True if the metric needs generated answers; others only need the most likely token at each position. */
export function isOfGenerated(task: Task, metric: Metric | CustomMetric): boolean {
  return task === 'causal_lm' && (typeof metric !== 'string' || metric === 'f1')
}

/** @throws {ConfigError} for a metric that the task does not compute */
function checkMetric(task: Task, metric: Metric | CustomMetric, source: OptionSource): void {
  const known = OF_TASK[task]
  const bad = (expected: string) => badValue(source, 'metricForBestModel', metric, expected)
  if (typeof metric === 'string') {
    if (!known.includes(metric)) throw bad(`one of ${known.join(', ')} with task ${task}`)
    return
  }
  if (task !== 'causal_lm')
    throw bad(`one of ${known.join(', ')} with task ${task}, whose evaluations generate no answers`)
  if ((METRICS as readonly string[]).includes(metric.name))
    throw bad(`another name than ${metric.name}, which is a metric of lowrank`)
}

/** The task options, plus options that some tasks do not support. */
interface Beside extends TaskOptions {
  readonly trainOn: string
  readonly metricForBestModel: Metric | CustomMetric
  readonly labelSmoothingFactor: number
  readonly neftuneNoiseAlpha: number | null
}

/** @throws {ConfigError} for an option that the task does not support */
export function checkTask(options: Beside, source: OptionSource): void {
  const { task, beta, lossType, labelSmoothing, classWeights, trainOn, metricForBestModel } = options
  const { labelSmoothingFactor, neftuneNoiseAlpha, desirableWeight, undesirableWeight } = options
  const own: Record<string, [value: unknown, tasks: readonly Task[]]> = {
    beta: [beta, ['dpo', 'orpo', 'kto']],
    desirableWeight: [desirableWeight, ['kto']],
    undesirableWeight: [undesirableWeight, ['kto']],
    lossType: [lossType, ['dpo']],
    labelSmoothing: [labelSmoothing, ['dpo']],
    classWeights: [classWeights, ['classification']],
  }
  for (const [key, [value, tasks]] of Object.entries(own))
    if (value !== null && !tasks.includes(task))
      throw badValue(
        source,
        key,
        value,
        `it to be absent with task ${task}; it belongs to ${tasks.join(' and ')}`,
      )
  checkMetric(task, metricForBestModel, source)
  if (task === 'causal_lm') return
  if (task === 'classification') {
    if (trainOn !== 'completions')
      throw badValue(source, 'trainOn', trainOn, 'it to be absent with task classification')
    return
  }
  if (lossType === 'ipo' && labelSmoothing)
    throw badValue(source, 'labelSmoothing', labelSmoothing, 'it to be absent with loss_type ipo')
  if (trainOn === 'all')
    throw badValue(source, 'trainOn', trainOn, `completions or last, since task ${task} compares answers`)
  if (labelSmoothingFactor > 0)
    throw badValue(source, 'labelSmoothingFactor', labelSmoothingFactor, `0 with task ${task}`)
  if (neftuneNoiseAlpha !== null)
    throw badValue(
      source,
      'neftuneNoiseAlpha',
      neftuneNoiseAlpha,
      `it to be absent with task ${task}, which would compare a noisy model with a clean one`,
    )
}
