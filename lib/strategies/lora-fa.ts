/**
 * LoRA-FA: LoRA with A frozen after random initialization. Only B is trained, so the backward pass needs A x (`rank`
 * numbers per token) instead of the input x. Files are in LoRA's format.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, flag } from '../core/schema.js'
import type { LoraConfig, LoraFaConfig, LoraFaOptions } from './configs.js'
import { checkStart, loraRules, overLora } from './lora.js'
import type { LinearAdapter, StrategyRules } from './strategy.js'

export const freezeA = () =>
  flag()
    .default(false)
    .describe('Freeze `A` at its initial values and train only `B`, as in [LoRA-FA](strategies/lora-fa.md).')

/** Options of other strategies that support LoRA-FA's frozen A. */
export const freezeShape = {
  freezeA: freezeA(),
  projectGradient: flag()
    .default(true)
    .describe("With `freeze_a`, project `B`'s gradient by `A` before each update, as in LoRA-FA."),
}

/** The layer with A frozen at its initial values. */
export function withFrozenA(answer: LinearAdapter, projected: boolean): LinearAdapter {
  const { term, factors } = answer
  return {
    ...answer,
    factors: factors.map((factor) =>
      factor.name === term.parameters.a ? { ...factor, trained: false } : factor,
    ),
    projected,
  }
}

const schema = z
  .strictObject({
    ...loraRules.schema.shape,
    name: z.literal('lora-fa'),
    projectGradient: flag()
      .default(true)
      .describe(
        "Replace the gradient of `B` by `dB (A Aᵀ + 1e-8 I)⁻¹ / s²` before each update, so that the weight moves as closely along the full gradient as `A` allows (the paper's second version, and PEFT's optimizer). `false`: the plain gradient of the first version.",
      ),
  })
  .superRefine((config, context) =>
    checkStart(config as unknown as LoraFaConfig, context),
  ) as unknown as z.ZodObject & z.ZodType<LoraFaConfig>

/**
 * LoRA with a frozen A. Has half of LoRA's trained parameters for square layers and keeps no inputs for the backward
 * pass.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example loraFa({ r: 16, loraAlpha: 32 })
 * @see Zhang et al. 2023, arXiv 2308.03303; PEFT's `create_lorafa_optimizer`
 */
export function loraFa(options: LoraFaOptions = {}): LoraFaConfig {
  return deepFreeze(checkedOptions(schema, options, 'loraFa()', { name: 'lora-fa' }))
}

const asLora = (config: LoraFaConfig): LoraConfig => ({ ...config, name: 'lora' })

export const loraFaRules: StrategyRules<LoraFaConfig> = {
  ...overLora(asLora),
  name: 'lora-fa',
  label: 'LoRA-FA',
  mark: { hue: 1, shape: 'open' },
  paper: 'arXiv 2308.03303',
  trainable: 'B of every adapted linear; A is frozen',
  schema,
  learningRate: () => 3e-3,
  linears: (config, sites) =>
    loraRules.linears(asLora(config), sites).map((answer) => withFrozenA(answer, config.projectGradient)),
}
