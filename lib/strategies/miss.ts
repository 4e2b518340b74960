/**
 * MiSS: the input of a linear layer is summed over blocks of r neighboring elements and multiplied by a trained matrix.
 * This is a low-rank update whose A is frozen: identity matrices side by side, one array for all layers. delta W = B [I
 * I I …].
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { deepFreeze, flag, parseOptions, rank } from '../core/schema.js'
import type { MissConfig, MissOptions } from './configs.js'
import { loraRules } from './lora.js'
import type { Factor, LinearAdapter, LinearSite, StrategyRules } from './strategy.js'
import type { LowRankTerm } from './terms.js'

const { loraDropout, targetModules, excludeModules, layersToTransform } = loraRules.schema.shape

const schema = z.strictObject({
  name: z.literal('miss'),
  r: rank()
    .default(64)
    .describe(
      'Number of input columns in a block, which is also the rank; at most the width of every adapted linear.',
    ),
  missDropout: loraDropout,
  initWeights: flag()
    .default(true)
    .describe(
      '`true`: the matrix starts at zero. `false`: random start (uniform, as in PEFT), for debugging.',
    ),
  targetModules,
  excludeModules,
  layersToTransform,
}) as unknown as z.ZodObject & z.ZodType<MissConfig>

/**
 * MiSS: `r × out` trained parameters per layer, and no A to train or store.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example miss({ r: 64, targetModules: ['q_proj', 'v_proj'] })
 * @see Kang and Yin 2024, arXiv 2409.15371; PEFT's `MissModel`
 */
export function miss(options: MissOptions = {}): MissConfig {
  return deepFreeze(checkedOptions(schema, options, 'miss()', { name: 'miss' }))
}

const GROUP = 'miss'

export const missRules: StrategyRules<MissConfig> = {
  name: 'miss',
  label: 'MiSS',
  mark: { hue: 1, shape: 'square' },
  compared: { ownRank: true },
  paper: 'arXiv 2409.15371',
  peftType: 'MISS',
  peftPrefix: 'miss_',
  bases: loraRules.bases,
  trainable: 'one matrix of every adapted linear, over sums of blocks of the input',
  schema,
  learningRate: () => 3e-4,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: GROUP, learningRateFactor: 1 }],
  linears: (config, sites) => {
    const blocks = tiledIdentity(config.r, Math.max(...sites.map((site) => site.in)))
    return sites.map((site) => missLinear(config, site, blocks))
  },
  toPeft: (config) => ({
    r: config.r,
    miss_dropout: config.missDropout,
    mini_r: 1,
    bias: 'none',
    init_weights: true,
  }),
  peftKeys: ['r', 'miss_dropout', 'mini_r', 'init_weights'],
  fromPeft: ({ mini_r: _, init_weights: init = true, ...fields }) => {
    if (typeof init !== 'boolean')
      throw new ConfigError(
        `adapter_config.json: init_weights is ${JSON.stringify(init)}, a variant of MiSS with other matrices; expected true or false. The variants bat and mini are not supported.`,
        { key: 'init_weights', value: init },
      )
    return deepFreeze(
      parseOptions(schema, { ...fields, name: 'miss' }, { name: 'adapter_config.json', spelling: 'snake' }),
    )
  },
}

/** `[r, cols]` with a one at (i mod r, i) in every column i; narrower layers use the first columns. */
function tiledIdentity(r: number, cols: number): Factor {
  return {
    name: 'miss_blocks',
    rows: r,
    cols,
    trained: false,
    initializer: {
      kind: 'values',
      make: () => {
        const values = new Float32Array(r * cols)
        for (let i = 0; i < cols; i++) values[(i % r) * cols + i] = 1
        return values
      },
    },
    group: GROUP,
  }
}

function missLinear(config: MissConfig, site: LinearSite, blocks: Factor): LinearAdapter {
  const { r, missDropout, initWeights } = config
  if (r > site.in)
    throw new ConfigError(
      `r is ${r}, but ${site.path} has only ${site.in} inputs; expected at most ${site.in}.`,
      { path: site.path, r, most: site.in },
    )
  const name = `${site.path}.miss_block`
  const block: Factor = {
    name,
    rows: site.out,
    cols: r,
    trained: true,
    initializer: initWeights ? { kind: 'zeros' } : { kind: 'uniform', bound: 1 / Math.sqrt(site.out) },
    group: GROUP,
    role: 'b',
    tensor: { name: `base_model.model.${name}`, shape: [r, site.out], transposed: true },
  }
  return {
    term: {
      kind: 'low_rank',
      target: site.path,
      parameters: { a: blocks.name, b: name },
      numbers: { rank: r, scale: 1, dropout: missDropout },
    } satisfies LowRankTerm,
    factors: [blocks, block],
  }
}
