/** Tasks of a run: predict the next token, or prefer one answer to another. */
import { badValue, numberWithin, type OptionSource, positive, word } from '../core/schema.js'

export const TASKS = ['causal_lm', 'dpo', 'orpo'] as const
/** `causal_lm`: the next token. `dpo` and `orpo`: the better of two answers. */
export type Task = (typeof TASKS)[number]

/** Options of the task. */
export interface TaskOptions {
  /** Default causal_lm. */
  readonly task: Task
  /** `dpo`: strength of the pull toward the reference. `orpo`: weight of the odds ratio. Default null: 0.1. */
  readonly beta: number | null
  /** `dpo`: the logistic loss, or IPO. Default null: sigmoid. */
  readonly lossType: 'sigmoid' | 'ipo' | null
  /** `dpo` with the logistic loss: probability that a preference is the wrong way round, in [0, 0.5). Default null: 0. */
  readonly labelSmoothing: number | null
}

export const taskShape = {
  task: word(TASKS)
    .default('causal_lm')
    .describe(
      'What to train for: `causal_lm` predicts the next token; `dpo` and `orpo` prefer the chosen of two answers, see [Preference pairs](data.md#preference-pairs).',
    ),
  beta: positive()
    .nullable()
    .default(null)
    .describe(
      '`dpo`: strength of the pull toward the reference. `orpo`: weight of the odds ratio. Default: 0.1.',
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
}

/** The loss of a task over pairs of answers, with its options. */
export type PreferenceLoss =
  | { name: 'dpo'; beta: number; lossType: 'sigmoid' | 'ipo'; labelSmoothing: number }
  | { name: 'orpo'; beta: number }

/** Null for a task that has no pairs. */
export function preferenceLoss(options: TaskOptions): PreferenceLoss | null {
  const { task, beta, lossType, labelSmoothing } = options
  if (task === 'orpo') return { name: 'orpo', beta: beta ?? 0.1 }
  if (task !== 'dpo') return null
  return {
    name: 'dpo',
    beta: beta ?? 0.1,
    lossType: lossType ?? 'sigmoid',
    labelSmoothing: labelSmoothing ?? 0,
  }
}

/** Options that a task does not go with. */
interface Beside extends TaskOptions {
  readonly trainOn: string
  readonly metricForBestModel: string
}

/** @throws {ConfigError} for an option that the task does not have */
export function checkTask(options: Beside, source: OptionSource): void {
  const { task, beta, lossType, labelSmoothing, trainOn, metricForBestModel } = options
  const dpoOnly = { lossType, labelSmoothing }
  const others = task === 'dpo' ? {} : task === 'orpo' ? dpoOnly : { beta, ...dpoOnly }
  for (const [key, value] of Object.entries(others))
    if (value !== null)
      throw badValue(
        source,
        key,
        value,
        `it to be absent with task ${task}${key === 'beta' ? '; it belongs to dpo and orpo' : '; it belongs to dpo'}`,
      )
  if (task === 'causal_lm') return
  if (lossType === 'ipo' && labelSmoothing)
    throw badValue(source, 'labelSmoothing', labelSmoothing, 'it to be absent with loss_type ipo')
  if (trainOn === 'all')
    throw badValue(source, 'trainOn', trainOn, `completions or last, since task ${task} compares answers`)
  if (metricForBestModel !== 'loss')
    throw badValue(source, 'metricForBestModel', metricForBestModel, `loss with task ${task}`)
}
