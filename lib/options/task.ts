/** Tasks of a run: predict the next token, classify, or learn from preferences. */
import * as z from 'zod'
import { badValue, integer, numberWithin, type OptionSource, positive, word } from '../core/schema.js'
import type { ScaleRewards } from '../losses/advantages.js'
import type { NllOn } from '../losses/orpo.js'
import { type CustomMetric, METRICS, type Metric } from './metrics.js'
import { type Rewards, rewardsSchema } from './rewards.js'

/**
 * `causal_lm` predicts the next token, `classification` the class of a text; `dpo` and `orpo` learn from preferences
 * between two answers, `kto` from answers that are good or bad, and `grpo` from rewards of sampled answers.
 */
export type Task = 'causal_lm' | 'classification' | 'dpo' | 'orpo' | 'kto' | 'grpo'
export const TASKS = [
  'causal_lm',
  'classification',
  'dpo',
  'orpo',
  'kto',
  'grpo',
] as const satisfies readonly Task[]

/** Class weights: inversely proportional to class frequency (`balanced`), or by class name, with a default of 1. */
export type ClassWeights = 'balanced' | Readonly<Record<string, number>>

/** Names of the losses of `dpo`, and of `grpo`. */
export type LossType = 'sigmoid' | 'ipo' | 'dapo' | 'grpo' | 'dr_grpo'
const LOSS_TYPES = {
  dpo: ['sigmoid', 'ipo'],
  grpo: ['dapo', 'grpo', 'dr_grpo'],
} as const

const NLL_ON = ['all', 'completions'] as const satisfies readonly NllOn[]

/** Options of the task. */
export interface TaskOptions {
  /** Default causal_lm. */
  readonly task: Task
  /**
   * `dpo`, `kto`: strength of the pull toward the reference model. `orpo`: weight of the odds-ratio loss. Default null: 0.1.
   */
  readonly beta: number | null
  /**
   * `dpo`: the logistic loss (`sigmoid`) or IPO. `grpo`: mean over the tokens of a step (`dapo`), over the tokens of
   * each answer and then over answers (`grpo`), or sum of tokens over answers and `maxCompletionLength` (`dr_grpo`).
   * Default null: sigmoid, or dapo.
   */
  readonly lossType: LossType | null
  /** `dpo` with the logistic loss: probability that a preference label is flipped, in [0, 0.5). Default null: 0. */
  readonly labelSmoothing: number | null
  /**
   * `orpo`: tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), or
   * answers alone (`completions`). The odds ratio is always of answers. Default null: all.
   */
  readonly nllOn: NllOn | null
  /** `kto`: weight of desirable rows in the loss. Default null: 1. */
  readonly desirableWeight: number | null
  /** `kto`: weight of undesirable rows in the loss. Default null: 1. */
  readonly undesirableWeight: number | null
  /** `classification`: weight of each class in the loss. Default null: all equal. */
  readonly classWeights: ClassWeights | null
  /**
   * `grpo`: functions that score answers, or paths of modules that export such functions. The rewards of an answer add
   * up. Required by it.
   */
  readonly rewardFunctions: Rewards | null
  /** `grpo`: answers sampled per prompt, at least 2. Default null: 8. */
  readonly numGenerations: number | null
  /** `grpo`: most tokens in an answer. Default null: as many as `maxSeqLength` leaves after the prompt. */
  readonly maxCompletionLength: number | null
  /** `grpo`: how rewards are scaled. Default null: group. */
  readonly scaleRewards: ScaleRewards | null
}

const CLASS_WEIGHTS = 'balanced, or a number above 0 for each name of a class'
export const taskShape = {
  task: word(TASKS)
    .default('causal_lm')
    .describe(
      'What to train for: `causal_lm` predicts the next token; `classification` the class of a text, see [Classes](data.md#classes); `dpo` and `orpo` prefer the chosen of two answers, see [Preference pairs](data.md#preference-pairs); `kto` learns from good and bad answers, see [Good and bad answers](data.md#good-and-bad-answers); `grpo` from rewards of sampled answers, see [Rewards](data.md#rewards).',
    ),
  beta: positive()
    .nullable()
    .default(null)
    .describe(
      '`dpo`, `kto`: strength of the pull toward the reference. `orpo`: weight of the odds ratio. Default: 0.1.',
    ),
  lossType: word([...LOSS_TYPES.dpo, ...LOSS_TYPES.grpo])
    .nullable()
    .default(null)
    .describe(
      '`dpo`: the logistic loss (`sigmoid`, the default), or `ipo`. `grpo`: the mean over all tokens of a step (`dapo`, the default), over the tokens of each answer and then over answers (`grpo`), or the sum over tokens divided by the number of answers times `max_completion_length` (`dr_grpo`).',
    ),
  labelSmoothing: numberWithin(0, 0.5 - Number.EPSILON, 'a number in [0, 0.5)')
    .nullable()
    .default(null)
    .describe(
      '`dpo` with the logistic loss: probability that a preference is the wrong way round. Default: 0.',
    ),
  nllOn: word(NLL_ON)
    .nullable()
    .default(null)
    .describe(
      '`orpo`: tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), as in the code of the paper and in TRL, or answers alone (`completions`). Default: `all`.',
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
  rewardFunctions: rewardsSchema,
  numGenerations: integer(2, 'an integer from 2, since an answer is compared with others to its prompt')
    .nullable()
    .default(null)
    .describe('`grpo`: answers sampled per prompt. Default: 8.'),
  maxCompletionLength: integer(1)
    .nullable()
    .default(null)
    .describe(
      '`grpo`: most tokens in an answer. Default: as many as `max_seq_length` leaves after the prompt.',
    ),
  scaleRewards: word(['group', 'batch', 'none'])
    .nullable()
    .default(null)
    .describe(
      '`grpo`: what the difference of a reward from the mean of its group is divided by: the standard deviation of the `group`, that of all rewards of the step (`batch`), or nothing. Default: `group`.',
    ),
}

/** Options of `grpo` with their defaults. */
export interface PolicyOptions {
  lossType: 'dapo' | 'grpo' | 'dr_grpo'
  numGenerations: number
  maxCompletionLength: number
  scaleRewards: ScaleRewards
}

export function policyOptions(options: TaskOptions & { readonly maxSeqLength: number }): PolicyOptions {
  const { lossType, numGenerations, maxCompletionLength, scaleRewards, maxSeqLength } = options
  return {
    lossType: (lossType as PolicyOptions['lossType'] | null) ?? 'dapo',
    numGenerations: numGenerations ?? 8,
    maxCompletionLength: maxCompletionLength ?? maxSeqLength,
    scaleRewards: scaleRewards ?? 'group',
  }
}

/** The loss of a preference task, with its options. */
export type PreferenceLoss =
  | { name: 'dpo'; beta: number; lossType: 'sigmoid' | 'ipo'; labelSmoothing: number }
  | { name: 'orpo'; beta: number; nllOn: NllOn }
  | { name: 'kto'; beta: number; desirableWeight: number; undesirableWeight: number }

/** True for a task, or the loss of a task, on pairs of answers. */
export const hasPairs = (name: string): boolean => name === 'dpo' || name === 'orpo'

/** True for a task that learns from preferences. */
export const isPreference = (task: Task): boolean => hasPairs(task) || task === 'kto'

/** True for a task whose loss depends on the model at the start of the run. */
export const hasReference = (task: Task): boolean => task === 'dpo' || task === 'kto'

/** The loss of a preference task; null for other tasks. */
export function preferenceLoss(options: TaskOptions): PreferenceLoss | null {
  const { task, beta, lossType, labelSmoothing, nllOn, desirableWeight, undesirableWeight } = options
  if (task === 'orpo') return { name: 'orpo', beta: beta ?? 0.1, nllOn: nllOn ?? 'all' }
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
    lossType: lossType === 'ipo' ? 'ipo' : 'sigmoid',
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
  grpo: ['loss', 'perplexity', 'exact_match', 'accuracy', 'f1', 'reward'],
}

const OF_ANSWERS: readonly string[] = ['exact_match', 'accuracy', 'f1', 'reward'] satisfies Metric[]

/** True for a task whose evaluations may generate answers. */
const answers = (task: Task): boolean => task === 'causal_lm' || task === 'grpo'

/** True if the metric is computed on answers, in addition to the loss. */
export function isOfAnswers(task: Task, metric: Metric | CustomMetric): boolean {
  return answers(task) && (typeof metric !== 'string' || OF_ANSWERS.includes(metric))
}

/** True if the metric needs generated answers; others only need the most likely token at each position. */
export function isOfGenerated(task: Task, metric: Metric | CustomMetric): boolean {
  return answers(task) && (typeof metric !== 'string' || metric === 'f1' || metric === 'reward')
}

/** @throws {ConfigError} for a metric that the task does not compute */
function checkMetric(task: Task, metric: Metric | CustomMetric, source: OptionSource): void {
  const known = OF_TASK[task]
  const bad = (expected: string) => badValue(source, 'metricForBestModel', metric, expected)
  if (typeof metric === 'string') {
    if (!known.includes(metric)) throw bad(`one of ${known.join(', ')} with task ${task}`)
    return
  }
  if (!answers(task))
    throw bad(`one of ${known.join(', ')} with task ${task}, whose evaluations generate no answers`)
  if ((METRICS as readonly string[]).includes(metric.name))
    throw bad(`another name than ${metric.name}, which is a metric of lowrank`)
}

/** The task options, plus options that some tasks do not support. */
interface Beside extends TaskOptions {
  readonly trainOn: string
  readonly reasoningHistory: string
  readonly metricForBestModel: Metric | CustomMetric
  readonly labelSmoothingFactor: number
  readonly neftuneNoiseAlpha: number | null
  readonly optimizerInBackward: boolean
}

/** @throws {ConfigError} for an option that the task does not support */
export function checkTask(options: Beside, source: OptionSource): void {
  const {
    task,
    beta,
    lossType,
    labelSmoothing,
    classWeights,
    trainOn,
    reasoningHistory,
    metricForBestModel,
  } = options
  const { labelSmoothingFactor, neftuneNoiseAlpha, desirableWeight, undesirableWeight } = options
  const own: Record<string, [value: unknown, tasks: readonly Task[]]> = {
    beta: [beta, ['dpo', 'orpo', 'kto']],
    desirableWeight: [desirableWeight, ['kto']],
    undesirableWeight: [undesirableWeight, ['kto']],
    lossType: [lossType, ['dpo', 'grpo']],
    labelSmoothing: [labelSmoothing, ['dpo']],
    nllOn: [options.nllOn, ['orpo']],
    classWeights: [classWeights, ['classification']],
    rewardFunctions: [options.rewardFunctions, ['grpo']],
    numGenerations: [options.numGenerations, ['grpo']],
    maxCompletionLength: [options.maxCompletionLength, ['grpo']],
    scaleRewards: [options.scaleRewards, ['grpo']],
  }
  for (const [key, [value, tasks]] of Object.entries(own))
    if (value !== null && !tasks.includes(task))
      throw badValue(
        source,
        key,
        value,
        `it to be absent with task ${task}; it belongs to ${tasks.join(' and ')}`,
      )
  if (reasoningHistory === 'drop') checkHistory(options, source)
  checkMetric(task, metricForBestModel, source)
  if (task === 'causal_lm') return
  if (lossType !== null && (task === 'dpo' || task === 'grpo')) {
    const known: readonly string[] = LOSS_TYPES[task]
    if (!known.includes(lossType))
      throw badValue(source, 'lossType', lossType, `one of ${known.join(', ')} with task ${task}`)
  }
  if (task === 'classification') {
    if (trainOn !== 'completions')
      throw badValue(source, 'trainOn', trainOn, 'it to be absent with task classification')
    return
  }
  if (lossType === 'ipo' && labelSmoothing)
    throw badValue(source, 'labelSmoothing', labelSmoothing, 'it to be absent with loss_type ipo')
  if (task === 'grpo') checkRewards(options, source)
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

/** @throws {ConfigError} unless the run trains on answers of chats */
function checkHistory({ task, trainOn }: Beside, source: OptionSource): void {
  const bad = (why: string) => badValue(source, 'reasoningHistory', 'drop', `keep ${why}`)
  if (task !== 'causal_lm') throw bad(`with task ${task}`)
  const key = source.spelling === 'snake' ? 'train_on' : 'trainOn'
  if (trainOn === 'all') throw bad(`with ${key} all: drop trains on answers, each in an example of its own`)
}

/** @throws {ConfigError} when `grpo` has no rewards, or an option that it does not support */
function checkRewards({ rewardFunctions, optimizerInBackward }: Beside, source: OptionSource): void {
  if (rewardFunctions === null)
    throw badValue(
      source,
      'rewardFunctions',
      undefined,
      'functions that score the answers of task grpo, or the path of a module that exports them',
    )
  if (optimizerInBackward)
    throw badValue(
      source,
      'optimizerInBackward',
      true,
      'false with task grpo, whose answers take several micro-batches',
    )
}
