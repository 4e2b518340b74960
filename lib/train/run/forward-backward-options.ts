/** Inputs and results of `forwardBackward`, `optimStep` and `forward`, and their checks. */
import * as z from 'zod'
import { abortSignal, badArgument, checkedOptions } from '../../core/arguments.js'
import { DivergedError } from '../../core/errors.js'
import { integer, numberWithin } from '../../core/schema.js'
import { isRecord } from '../../core/schema-shape.js'
import {
  denominatorOf,
  isWeightless,
  type LossName,
  type LossOptions,
  type NamedLoss,
} from '../../losses/index.js'
import type { Denominators } from '../../losses/rows.js'
import { numbersOf, type Pair, type Row, type Split, type TokenRow } from '../../losses/token-rows.js'

const MICRO_BATCH_TOKENS = 2048

/** A row with its log-probabilities, as passed to a loss function. */
export interface LossRow {
  readonly tokens: Int32Array
  readonly weights: Float64Array
  /** Log-probability of each token, including tokens of weight 0; entry 0 is 0. */
  readonly logprobs: Float64Array
}

/** Result of a custom loss function. */
export interface FunctionLoss {
  loss: number
  /**
   * Derivative of the loss with respect to the log-probability of each token, one array per row, not multiplied
   * by weights.
   */
  gradient: readonly (readonly number[] | Float64Array | Float32Array)[]
  metrics?: Readonly<Record<string, number>>
}

/** Rows or pairs; or a list of micro-batches of them, each of which is computed at once. */
export type TrainBatch =
  | readonly Row[]
  | readonly Pair[]
  | readonly (readonly Row[])[]
  | readonly (readonly Pair[])[]

/** A named loss, with or without options, or a function of the log-probabilities of all rows. */
export type Loss = LossName | LossOptions | LossFunction

/** A loss of the log-probabilities of all rows. */
export type LossFunction = (rows: readonly LossRow[]) => FunctionLoss | Promise<FunctionLoss>

/** Options of `forwardBackward`. */
export interface ForwardBackwardOptions {
  /**
   * Divisor of the loss. Default: the count that the loss averages over, summed over all calls since the last step.
   * ORPO has two counts: pairs and tokens.
   */
  normalizer?: number | { pairs: number; tokens: number }
  /** Divisor of the logits. Default 1. */
  temperature?: number
  /**
   * Most tokens in a micro-batch; a longer row or pair gets its own. Default 2048. A batch that is a list of
   * micro-batches keeps them.
   */
  microBatchTokens?: number
  /** Stops between micro-batches and discards the accumulated gradient. */
  signal?: AbortSignal | undefined
}

/** Result of `forwardBackward`. */
export interface ForwardBackward {
  /** `lossSum / denominator`. */
  loss: number
  lossSum: number
  denominator: number
  /** Means over the batch. */
  metrics: Record<string, number>
  /** All tokens processed. */
  tokens: number
  /** Rows or pairs that were skipped, because the weights of a row are all 0. */
  skipped: number
}

/** Options of `optimStep`. */
export interface OptimStepOptions {
  learningRate: number
  /** Default 0. */
  weightDecay?: number
  /** L2 norm to which the gradient is clipped. Default 0: no clipping. */
  maxGradNorm?: number
  /** Decay rates of AdamW's moments. Default [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Term added to AdamW's denominator. Default 1e-8. */
  eps?: number
}

/** Rows or pairs in groups, and how they share micro-batches. */
export interface Batch {
  groups: readonly (readonly TokenRow[])[]
  split: Split
}

/** Checked options of `forwardBackward`. */
export interface Settings {
  normalizer: Denominators | null
  temperature: number
  microBatchTokens: number
  signal?: AbortSignal | undefined
}

export function diverged(loss: number): DivergedError {
  return new DivergedError(
    `forwardBackward(): the loss is ${loss}. Lower the learning rate, or check the rows and their reference.`,
    { loss: String(loss) },
  )
}

export function checkedFunctionLoss(value: unknown, rows: readonly LossRow[]): FunctionLoss {
  const name = 'forwardBackward()'
  const expected = '{ loss, gradient }, the gradient being an array of numbers for each row'
  if (!isRecord(value) || !Array.isArray(value.gradient))
    throw badArgument(value, name, 'the result of the loss function', expected)
  if (typeof value.loss !== 'number' || !Number.isFinite(value.loss)) throw diverged(Number(value.loss))
  if (value.gradient.length !== rows.length)
    throw badArgument(`${value.gradient.length} arrays`, name, 'gradient', `${rows.length}, one for each row`)
  const gradient = rows.map(({ tokens }, index) =>
    numbersOf((value.gradient as unknown[])[index], tokens.length, name, `gradient.${index}`),
  )
  return { ...(value as unknown as FunctionLoss), gradient }
}

const ABOVE_0 = 'a number above 0'
const above0 = () => numberWithin(Number.MIN_VALUE, Number.MAX_VALUE, ABOVE_0)
const NORMALIZERS = `${ABOVE_0}, or { pairs, tokens } for orpo`
const settingsShape = {
  temperature: above0().default(1),
  microBatchTokens: integer(2).default(MICRO_BATCH_TOKENS),
  signal: abortSignal().optional(),
}
export const forwardSchema = z.strictObject(settingsShape)
const forwardBackwardSchema = z.strictObject({
  ...settingsShape,
  normalizer: z
    .union([above0(), z.strictObject({ pairs: above0(), tokens: above0() })], { error: NORMALIZERS })
    .optional(),
})
const BETAS = 'two numbers in [0, 1)'
const beta = z.number({ error: BETAS }).min(0, { error: BETAS }).lt(1, { error: BETAS })
export const stepSchema = z.strictObject({
  learningRate: above0(),
  weightDecay: numberWithin(0, Number.MAX_VALUE, 'a number from 0').default(0),
  maxGradNorm: numberWithin(0, Number.MAX_VALUE, 'a number from 0 (0 is off)').default(0),
  betas: z.tuple([beta, beta], { error: BETAS }).default([0.9, 0.999]),
  eps: above0().default(1e-8),
})

export function checkedSettings(options: unknown, name: string, loss: NamedLoss | null): Settings {
  const { normalizer, ...settings } = checkedOptions(forwardBackwardSchema, options, name)
  if (normalizer === undefined) return { ...settings, normalizer: null }
  if (loss !== null && denominatorOf(loss) === null) {
    if (typeof normalizer === 'number')
      throw badArgument(normalizer, name, 'normalizer', `{ pairs, tokens }: ${loss.name} is a mean over both`)
    return { ...settings, normalizer: { ...normalizer, rows: normalizer.pairs } }
  }
  if (typeof normalizer !== 'number') throw badArgument(normalizer, name, 'normalizer', ABOVE_0)
  return { ...settings, normalizer: { pairs: normalizer, tokens: normalizer, rows: normalizer } }
}

/** The rows or pairs that have something to learn. */
export function learned({ groups, split }: Batch): Batch {
  const isKept = groups.map((group) => !isWeightless(group))
  const kept = groups.filter((_, index) => isKept[index])
  if (typeof split === 'number') return { groups: kept, split }
  let from = 0
  const counts = split.map((count) => {
    from += count
    return isKept.slice(from - count, from).filter(Boolean).length
  })
  return { groups: kept, split: counts.filter((count) => count > 0) }
}
