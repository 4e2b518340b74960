/**
 * DoRA: LoRA that trains the length of every row of the weight apart from its direction. W becomes diag(m / c) (W + s B
 * A) with c the row norms of W + s B A, which count as constants in the backward pass; A, B and m train. Files, names
 * and start values are PEFT's: a LoRA folder with `use_dora` and a magnitude vector a linear.
 */
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, parseOptions, word } from '../core/schema.js'
import { type DrawnStart, drawnStart, type LoraConfig, loraRules, overLora } from './lora.js'
import { type FreezeOptions, freezeShape, withFrozenA } from './lora-fa.js'
import type { Factor, StrategyRules } from './strategy.js'
import { withRoles } from './terms.js'

/** Options of DoRA: those of LoRA, and whether A trains. */
export interface DoraConfig extends Omit<LoraConfig, 'name'>, FreezeOptions {
  readonly name: 'dora'
  readonly initLoraWeights: DrawnStart
  /** Only `none`: the gradient of a bias is not formed where rows are scaled. */
  readonly bias: 'none'
}

/** Options of `dora()`. */
export type DoraOptions = Partial<Omit<DoraConfig, 'name'>>

const schema = z.strictObject({
  ...loraRules.schema.shape,
  name: z.literal('dora'),
  initLoraWeights: drawnStart(),
  bias: word(['none']).default('none').describe('Biases of the base stay frozen.'),
  ...freezeShape,
}) as unknown as z.ZodObject & z.ZodType<DoraConfig>

/**
 * LoRA with a trained length for every row of the adapted weights. Takes `out` trained numbers a linear more than LoRA,
 * and acts like a rank that is higher than it is; worth a try where the rank is low.
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

/** The magnitude has a group of its own: a norm that decays is a weight that fades. */
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
