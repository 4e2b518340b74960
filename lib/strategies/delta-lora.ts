/**
 * Delta-LoRA: the weight itself moves with its adapter, by lambda times the change of s B A in each step. These changes
 * sum to W = W0 + lambda s (B A - B* A*), where A* and B* are the factors at the start, so instead of modifying W it
 * keeps a frozen copy of A and B.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, integer, numberWithin, positive } from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { DeltaLoraConfig, DeltaLoraOptions, LoraConfig } from './configs.js'
import { drawnStart, loraRules, overLora } from './lora.js'
import { savedWithSnapshot, withSnapshot } from './snapshot.js'
import type { RunFacts, StepRules, StrategyRules } from './strategy.js'
import { isLowRank } from './terms.js'

const schema = z.strictObject({
  ...loraRules.schema.shape,
  name: z.literal('delta-lora'),
  lambda: positive().default(2).describe('Change of the weight per change of `s B A` (λ in the paper).'),
  startStep: integer(-1, 'an integer from -1')
    .default(0)
    .describe(
      'The weight moves in every step after this one, counted from 0; -1: from the first (K in the paper).',
    ),
  loraDropout: named(numberWithin(0, 0, '0, as Delta-LoRA has no dropout'), { type: '0' })
    .default(0)
    .describe('Must be 0, because the weight moves by the full product.'),
  initLoraWeights: drawnStart(),
}) as unknown as z.ZodObject & z.ZodType<DeltaLoraConfig>

/**
 * LoRA that also moves the base weight, even a quantized one. The change of the weight has rank at most 2 r.
 * @throws {ConfigError} for an unknown option or a value out of range, including nonzero dropout
 * @example deltaLora({ r: 8, loraAlpha: 16, lambda: 2, startStep: 100 })
 * @see Zi et al. 2023, arXiv 2309.02411
 */
export function deltaLora(options: DeltaLoraOptions = {}): DeltaLoraConfig {
  return deepFreeze(checkedOptions(schema, options, 'deltaLora()', { name: 'delta-lora' }))
}

function asLora({ lambda, startStep, ...config }: DeltaLoraConfig): LoraConfig {
  return { ...config, name: 'lora' }
}

/** Lambda once the snapshot is taken and 0 before; shared by all layers. */
const RATIO = 'delta_ratio'

export const deltaLoraRules: StrategyRules<DeltaLoraConfig> = {
  ...overLora(asLora),
  name: 'delta-lora',
  label: 'Delta-LoRA',
  mark: { hue: 2, shape: 'open' },
  compared: {
    controls: ({ lambda }, reference) => [
      {
        name: 'lora+alpha',
        about: 'LoRA with lora_alpha (1 + lambda): the part of Delta-LoRA that a larger scale explains.',
        options: { ...reference, loraAlpha: (reference.loraAlpha as number) * (1 + lambda) },
      },
    ],
  },
  paper: 'arXiv 2309.02411',
  trainable: 'A and B of every adapted linear, and through them the weight',
  schema,
  learningRate: () => 1e-3,
  linears: (config, sites) =>
    loraRules
      .linears(asLora(config), sites)
      .map((answer) =>
        withSnapshot(answer, { name: RATIO, initializer: { kind: 'zeros' }, subtracts: false }),
      ),
  savedAs: (config, description, read) => savedWithSnapshot(asLora(config), description, read),
  steps: (config) => ({ begin: (run) => takesSnapshot(config, run), byLength: false }),
}

/** Takes the snapshot once; later runs continue from it. */
function takesSnapshot({ lambda, startStep }: DeltaLoraConfig, { description, native }: RunFacts): StepRules {
  const take = () => {
    if (native.read(RATIO, 'value')[0] !== 0) return
    for (const { parameters } of description.spec.terms.filter(isLowRank)) {
      const { a, b, snapshotA, snapshotB } = parameters
      native.write(snapshotA as string, 'value', native.read(a, 'value'))
      native.write(snapshotB as string, 'value', native.read(b, 'value'))
    }
    native.write(RATIO, 'value', Float32Array.of(lambda))
  }
  if (startStep === -1) take()
  return {
    updated: async (step) => {
      if (step > startStep) take()
    },
  }
}
