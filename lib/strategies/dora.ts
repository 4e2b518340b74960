/**
 * DoRA: LoRA that trains the magnitude of each weight row separately from its direction. W becomes diag(m / c) (W + s B
 * A), where c holds the row norms of W + s B A and is constant in the backward pass; A, B, and m are trained. Files,
 * names, and initial values follow PEFT: a LoRA folder with `use_dora` and one magnitude vector per layer.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, parseOptions, word } from '../core/schema.js'
import type { DoraConfig, DoraOptions, LoraConfig } from './configs.js'
import { drawnStart, loraRules, overLora } from './lora.js'
import { freezeShape, withFrozenA } from './lora-fa.js'
import type { Factor, StrategyRules } from './strategy.js'
import { withRoles } from './terms.js'

const schema = z.strictObject({
  ...loraRules.schema.shape,
  name: z.literal('dora'),
  initLoraWeights: drawnStart(),
  bias: word(['none']).default('none').describe('Biases of the base stay frozen.'),
  ...freezeShape,
}) as unknown as z.ZodObject & z.ZodType<DoraConfig>

/**
 * LoRA with a trained magnitude per row of the adapted weights. Adds `out` trained parameters per layer to LoRA's and
 * behaves like a higher rank, so it pays off most at low ranks.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example dora({ r: 8, loraAlpha: 16 })
 * @see Liu et al. 2024, arXiv 2402.09353; PEFT's `use_dora`
 */
export function dora(options: DoraOptions = {}): DoraConfig {
  return deepFreeze(checkedOptions(schema, options, 'dora()', { name: 'dora' }))
}

const asLora = ({ freezeA, projectGradient, ...config }: DoraConfig): LoraConfig => ({
  ...config,
  name: 'lora',
})

/** The magnitude has its own group without weight decay, since decaying it would shrink the whole weight. */
const MAGNITUDE = 'magnitude'

function magnitude(path: string, out: number): Factor {
  const name = `${path}.lora_magnitude_vector`
  return {
    name,
    rows: 1,
    cols: out,
    trained: true,
    initializer: { kind: 'row_norms' },
    group: MAGNITUDE,
    role: 'b',
    tensor: { name: `base_model.model.${name}`, shape: [out] },
  }
}

export const doraRules: StrategyRules<DoraConfig> = {
  ...overLora(asLora),
  name: 'dora',
  label: 'DoRA',
  mark: { hue: 2, shape: 'filled' },
  compared: { widerGrid: 2 },
  foreign: {
    'use_dora peft_use_dora': { here: 'strategy.name', values: { true: 'dora', false: null } },
  },
  paper: 'arXiv 2402.09353',
  trainable: 'A, B, and the magnitude of every row of every adapted linear',
  schema,
  learningRate: () => 1e-3,
  groups: (config) => [
    ...loraRules.groups(asLora(config)),
    { name: MAGNITUDE, learningRateFactor: 1, decays: false },
  ],
  linears: (config, sites) =>
    loraRules.linears(asLora(config), sites).map((answer, i) => {
      const { path, out } = sites[i] as (typeof sites)[number]
      const lengths = magnitude(path, out)
      const own = {
        ...answer,
        term: withRoles(answer.term, { magnitude: lengths.name }),
        factors: [...answer.factors, lengths],
      }
      return config.freezeA ? withFrozenA(own, config.projectGradient) : own
    }),
  toPeft: (config) => ({ ...loraRules.toPeft(asLora(config)), use_dora: true }),
  ownsPeft: (fields) => fields.use_dora === true,
  peftKeys: [...(loraRules.peftKeys ?? []), 'use_dora'],
  fromPeft: ({ use_dora: _, ...fields }) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'dora' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}
