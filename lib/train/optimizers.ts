/** Optimisers as printable settings; their arithmetic is native. */
import * as z from 'zod'
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

/** An optimiser with its settings. */
export type Optimizer = AdamW

/** Named by users of transformers and not available. */
const ELSEWHERE = 'adamw (8-bit and paged variants, lion, adafactor and sgd are not available)'

const beta = () => numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
const adamwSchema = z.strictObject({
  type: z.literal('adamw', { error: ELSEWHERE }),
  betas: z
    .tuple([beta(), beta()], { error: 'two numbers in [0, 1)' })
    .default([0.9, 0.999])
    .describe('Decay rates of the two moments.'),
  eps: positive().default(1e-8).describe('Added to the denominator.'),
  weightDecay: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
    .nullable()
    .default(null)
    .describe("Goes before the run's `weight_decay`."),
})

/** The option `optimizer`: a name, or an optimiser with settings. */
export const optimizerSchema = z.union([z.enum(['adamw'], { error: ELSEWHERE }), adamwSchema], {
  error: ELSEWHERE,
})

/**
 * AdamW with its settings.
 * @see Loshchilov and Hutter 2017, arXiv 1711.05101
 */
export function adamW(options: Partial<Omit<AdamW, 'type'>> = {}): AdamW {
  return deepFreeze(
    parseOptions(adamwSchema, { ...options, type: 'adamw' }, { name: 'adamW()', spelling: 'camel' }),
  )
}

/** An optimiser from the option's value. */
export function optimizerOf(value: Optimizer['type'] | Optimizer): Optimizer {
  return typeof value === 'string' ? adamW() : value
}
