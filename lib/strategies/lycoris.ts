/** Options shared by LoHa and LoKr, as PEFT adopted them from LyCORIS: scale, dropout of the update, and patterns. */
import * as z from 'zod'
import { flag, numberWithin, positive } from '../core/schema.js'
import type { LohaConfig, LoraConfig } from './configs.js'
import { loraRules } from './lora.js'
import type { StrategyConfig } from './strategy.js'

/** Options that `loha()` and `lokr()` have in common. */
export type LycorisConfig = StrategyConfig &
  Pick<
    LohaConfig,
    'alpha' | 'moduleDropout' | 'alphaPattern' | Exclude<keyof LoraConfig & keyof LohaConfig, 'name' | 'r'>
  >

/** A dropout probability. */
export const probability = () => numberWithin(0, 0.999999, 'a number in [0, 1)').default(0)

/** Initialization of the factors: `true`, `false`, or `lycoris`. */
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
  alphaPattern: z
    .record(z.string(), positive())
    .default({})
    .describe('Values of `alpha` for modules whose path ends in the pattern; the first match counts.'),
}
