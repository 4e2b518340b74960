/** Optimisers as printable settings; their arithmetic is native. */
import * as z from 'zod'
import type { OptimizerStep } from '../native/addon.js'
import { deepFreeze, numberWithin, parseOptions, positive } from '../schema.js'

/** Settings of AdamW; the arithmetic is that of torch.optim.AdamW. */
export interface AdamW {
  readonly type: 'adamw'
  /** Decay rates of the two moments, each in [0, 1). Default [0.9, 0.999]. */
  readonly betas: readonly [number, number]
  /** Added to the denominator. Default 1e-8. */
  readonly eps: number
  /** Decoupled decay per step, as a share of learning rate times weight; null takes the run's `weightDecay`. */
  readonly weightDecay: number | null
}

/** Settings of stochastic gradient descent; the arithmetic is that of torch.optim.SGD. */
export interface Sgd {
  readonly type: 'sgd'
  /** Share of the last step that the next one goes on with, in [0, 1). Default 0. */
  readonly momentum: number
  /** Added to the gradient, as a share of the weight; null takes the run's `weightDecay`. */
  readonly weightDecay: number | null
}

/** An optimiser with its settings. */
export type Optimizer = AdamW | Sgd

/** Named by users of transformers and not available. */
const ELSEWHERE = 'adamw or sgd (8-bit and paged variants, lion and adafactor are not available)'

const beta = () => numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
const ownDecay = () =>
  numberWithin(0, Number.MAX_VALUE, 'a number from 0')
    .nullable()
    .default(null)
    .describe("Goes before the run's `weight_decay`.")
const adamwSchema = z.strictObject({
  type: z.literal('adamw', { error: ELSEWHERE }),
  betas: z
    .tuple([beta(), beta()], { error: 'two numbers in [0, 1)' })
    .default([0.9, 0.999])
    .describe('Decay rates of the two moments.'),
  eps: positive().default(1e-8).describe('Added to the denominator.'),
  weightDecay: ownDecay(),
})

const sgdSchema = z.strictObject({
  type: z.literal('sgd'),
  momentum: beta().default(0).describe('Share of the last step that the next one goes on with.'),
  weightDecay: ownDecay(),
})

/** The option `optimizer`: a name, or an optimiser with settings. */
export const optimizerSchema = z.union(
  [
    z.enum(['adamw', 'sgd'], { error: ELSEWHERE }),
    z.discriminatedUnion('type', [adamwSchema, sgdSchema], { error: ELSEWHERE }),
  ],
  { error: ELSEWHERE },
)

/**
 * AdamW with its settings.
 * @see Loshchilov and Hutter 2017, arXiv 1711.05101
 */
export function adamW(options: Partial<Omit<AdamW, 'type'>> = {}): AdamW {
  return deepFreeze(
    parseOptions(adamwSchema, { ...options, type: 'adamw' }, { name: 'adamW()', spelling: 'camel' }),
  )
}

/** Stochastic gradient descent with its settings. */
export function sgd(options: Partial<Omit<Sgd, 'type'>> = {}): Sgd {
  return deepFreeze(
    parseOptions(sgdSchema, { ...options, type: 'sgd' }, { name: 'sgd()', spelling: 'camel' }),
  )
}

/** An optimiser from the option's value. */
export function optimizerOf(value: Optimizer['type'] | Optimizer): Optimizer {
  if (typeof value !== 'string') return value
  return value === 'sgd' ? sgd() : adamW()
}

/** An optimiser's settings as a native step takes them. */
export function nativeOptimizer(
  optimizer: Optimizer,
): Pick<OptimizerStep, 'kind' | 'beta1' | 'beta2' | 'epsilon'> {
  return optimizer.type === 'sgd'
    ? { kind: 'sgd', beta1: optimizer.momentum, beta2: 0, epsilon: 0 }
    : { kind: 'adamw', beta1: optimizer.betas[0], beta2: optimizer.betas[1], epsilon: optimizer.eps }
}
