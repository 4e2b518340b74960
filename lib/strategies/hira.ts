/**
 * HiRA: the change of a weight is its Hadamard product with a low-rank matrix, delta W = W ∘ (B A). Its rank is bounded
 * by that of the weight times r, and a weight that is zero stays zero.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, flag, parseOptions, rank } from '../core/schema.js'
import type { TermSpec } from '../native/addon.js'
import type { HiraConfig, HiraOptions } from './configs.js'
import { loraRules } from './lora.js'
import type { Factor, Initializer, LinearAdapter, LinearSite, StrategyRules } from './strategy.js'

const { loraDropout, targetModules, excludeModules, layersToTransform } = loraRules.schema.shape

const schema = z.strictObject({
  name: z.literal('hira'),
  r: rank().default(32).describe('Rank of the matrix that the weight is multiplied by, element by element.'),
  hiraDropout: loraDropout,
  initWeights: z
    .union([flag(), z.literal('gaussian')], { error: 'true, false or gaussian' })
    .default(true)
    .describe(
      '`true`: B zero, A uniform as in LoRA. `gaussian`: B zero, A normal with standard deviation `1 / r`. `false`: both normal, for debugging.',
    ),
  targetModules,
  excludeModules,
  layersToTransform,
}) as unknown as z.ZodObject & z.ZodType<HiraConfig>

/**
 * HiRA: a change of high rank with LoRA's number of trained parameters, `r × (in + out)` per layer.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example hira({ r: 32, targetModules: ['q_proj', 'v_proj'] })
 * @see Huang, Ko, Zhuang, Liu and Zhang 2025, "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large
 * Language Models", ICLR, OpenReview TwJrTz9cRS; PEFT's `HiraModel`
 */
export function hira(options: HiraOptions = {}): HiraConfig {
  return deepFreeze(checkedOptions(schema, options, 'hira()', { name: 'hira' }))
}

/** y += (W ∘ (b a)) x */
interface HadamardTerm extends TermSpec {
  kind: 'hadamard'
  /** `[rank, in]` and `[out, rank]` */
  parameters: { a: string; b: string }
  /** Dropout probability on the adapter's input during training. Default 0. */
  numbers: { dropout?: number }
}

export const hiraRules: StrategyRules<HiraConfig> = {
  name: 'hira',
  label: 'HiRA',
  mark: { hue: 0, shape: 'square' },
  paper: 'OpenReview TwJrTz9cRS',
  peftType: 'HIRA',
  peftPrefix: 'hira_',
  bases: loraRules.bases,
  trainable: 'A and B of every adapted linear, whose product multiplies its weight',
  schema,
  learningRate: () => 1e-2,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'hira', learningRateFactor: 1 }],
  linears: (config, sites) => sites.map((site) => hiraLinear(config, site)),
  toPeft: (config) => ({
    r: config.r,
    hira_dropout: config.hiraDropout,
    fan_in_fan_out: false,
    init_weights: true,
  }),
  peftKeys: ['r', 'hira_dropout', 'rank_pattern', 'init_weights'],
  // PEFT's linears have rank r, whatever rank_pattern says.
  fromPeft: ({ rank_pattern: _, ...fields }) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'hira' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

function startOfA({ initWeights, r }: HiraConfig, columns: number): Initializer {
  if (initWeights === true) return { kind: 'uniform', bound: 1 / Math.sqrt(columns) }
  return { kind: 'normal', std: initWeights === 'gaussian' ? 1 / r : 1 }
}

function hiraLinear(config: HiraConfig, site: LinearSite): LinearAdapter {
  const factor = (role: 'a' | 'b', rows: number, cols: number, initializer: Initializer): Factor => {
    const name = `${site.path}.hira_${role.toUpperCase()}`
    const tensor = { name: `base_model.model.${name}`, shape: [rows, cols] }
    return { name, rows, cols, trained: true, initializer, group: 'hira', role, tensor }
  }
  const a = factor('a', config.r, site.in, startOfA(config, site.in))
  const b = factor(
    'b',
    site.out,
    config.r,
    config.initWeights ? { kind: 'zeros' } : { kind: 'normal', std: 1 },
  )
  return {
    term: {
      kind: 'hadamard',
      target: site.path,
      parameters: { a: a.name, b: b.name },
      numbers: { dropout: config.hiraDropout },
    } satisfies HadamardTerm,
    factors: [a, b],
  }
}
