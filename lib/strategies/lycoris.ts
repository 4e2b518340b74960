/**
 * Options shared by LoHa and LoKr, as PEFT took them over from LyCORIS: their scale, dropout of the change, and
 * patterns.
 */
import * as z from 'zod'
import { flag, numberWithin, positive } from '../core/schema.js'
import { loraRules } from './lora.js'
import type { StrategyConfig } from './strategy.js'

/** Options that `loha()` and `lokr()` have in common. */
export interface LycorisConfig extends StrategyConfig {
  /** The change is scaled by alpha / r. Default 8. */
  readonly alpha: number
  /** Probability with which a linear's whole change is left out of a training step, in [0, 1). Default 0. */
  readonly moduleDropout: number
  /** As for LoRA. */
  readonly targetModules: string | readonly string[]
  /** As for LoRA. */
  readonly excludeModules: string | readonly string[] | null
  /** As for LoRA. */
  readonly layersToTransform: number | readonly number[] | null
  /** As for LoRA. */
  readonly rankPattern: Readonly<Record<string, number>>
  /** The same for alpha. */
  readonly alphaPattern: Readonly<Record<string, number>>
}

/** A probability of leaving something out of a training step. */
export const probability = () => numberWithin(0, 0.999999, 'a number in [0, 1)').default(0)

/** `true`, `false` or `lycoris`: how the factors start. */
export const initWeights = () =>
  z.union([flag(), z.literal('lycoris')], { error: 'true, false or lycoris' }).default(true)

const { targetModules, excludeModules, layersToTransform, rankPattern } = loraRules.schema.shape

export const alpha = positive().default(8).describe('The change of a weight is scaled by `alpha / r`.')

export const moduleDropout = probability().describe(
  'Probability of dropping the whole change of a linear, in training only.',
)

/** Target modules, with their own ranks and alphas. */
export const modulesShape = {
  targetModules,
  excludeModules,
  layersToTransform,
  rankPattern,
  alphaPattern: z.record(z.string(), positive()).default({}).describe('The same for `alpha`.'),
}
