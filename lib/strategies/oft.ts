/**
 * OFT: rotates the input of a linear layer before the frozen weight is applied, y = W (x R). R is block-diagonal; each
 * block is nearly orthogonal, a Cayley-Neumann series of a trained skew-symmetric matrix.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { deepFreeze, flag, integer, parseOptions } from '../core/schema.js'
import type { TermSpec } from '../native/addon.js'
import type { OftConfig, OftOptions } from './configs.js'
import { loraRules } from './lora.js'
import type { LinearAdapter, LinearSite, StrategyRules } from './strategy.js'

const { targetModules, excludeModules, layersToTransform } = loraRules.schema.shape

const schema = z.strictObject({
  name: z.literal('oft'),
  oftBlockSize: integer(2)
    .default(32)
    .describe(
      "Number of input columns that each block rotates. If it does not divide a linear's width, the nearest size that does is used.",
    ),
  blockShare: flag().default(false).describe('Use one rotation for all blocks of a linear.'),
  numCayleyNeumannTerms: integer(2)
    .max(100, { error: 'at most 100' })
    .default(5)
    .describe(
      'Number of terms of the Cayley-Neumann series, counted as in PEFT. More terms come closer to an orthogonal matrix.',
    ),
  initWeights: flag()
    .default(true)
    .describe(
      '`true`: start without a rotation. `false`: random start (normal, standard deviation 0.1), for debugging.',
    ),
  targetModules,
  excludeModules,
  layersToTransform,
}) as unknown as z.ZodObject & z.ZodType<OftConfig>

/**
 * OFT: `in × (oftBlockSize − 1) / 2` trained parameters per layer, which rotate its input without changing lengths.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example oft({ oftBlockSize: 32, targetModules: ['q_proj', 'v_proj'] })
 * @see Qiu et al. 2023, arXiv 2306.07280; Qiu et al. 2025, arXiv 2506.19847; PEFT's `OFTModel`
 */
export function oft(options: OftOptions = {}): OftConfig {
  return deepFreeze(checkedOptions(schema, options, 'oft()', { name: 'oft' }))
}

/** y = W x becomes y = W (x R); R - I of a block is the series of a skew-symmetric matrix. */
interface RotationTerm extends TermSpec {
  kind: 'rotation'
  /** `[blocks, size (size - 1) / 2]`, upper triangles row by row; one row is shared by all blocks. */
  parameters: { skew: string }
  numbers: { size: number; terms: number }
}

const GROUP = 'oft'

export const oftRules: StrategyRules<OftConfig> = {
  name: 'oft',
  label: 'OFT',
  mark: { hue: 3, shape: 'square' },
  compared: { resize: (config, oftBlockSize) => ({ ...config, oftBlockSize }) },
  paper: 'arXiv 2506.19847',
  peftType: 'OFT',
  peftPrefix: 'oft_',
  bases: loraRules.bases,
  trainable: 'rotations of blocks of the input of every adapted linear',
  schema,
  learningRate: () => 1e-4,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: GROUP, learningRateFactor: 1 }],
  linears: (config, sites) => sites.map((site) => oftLinear(config, site)),
  toPeft: (config) => ({
    r: 0,
    oft_block_size: config.oftBlockSize,
    block_share: config.blockShare,
    use_cayley_neumann: true,
    num_cayley_neumann_terms: config.numCayleyNeumannTerms,
    module_dropout: 0,
    coft: false,
    bias: 'none',
    fan_in_fan_out: false,
    init_weights: true,
  }),
  // PEFT does not apply module_dropout to linear layers, and eps is used only by coft.
  peftKeys: [
    'r',
    'oft_block_size',
    'block_share',
    'use_cayley_neumann',
    'num_cayley_neumann_terms',
    'module_dropout',
    'eps',
  ],
  fromPeft: ({ r = 0, use_cayley_neumann: series = true, module_dropout: _, eps: __, ...fields }) => {
    for (const [key, value, expected] of [
      ['r', r, 'r 0 and a block size in oft_block_size'],
      ['use_cayley_neumann', series, 'true'],
    ] as const)
      if (value !== (key === 'r' ? 0 : true))
        throw new ConfigError(
          `adapter_config.json: ${key} is ${JSON.stringify(value)}, which is not supported; expected ${expected}.`,
          { key, value },
        )
    return deepFreeze(
      parseOptions(schema, { ...fields, name: 'oft' }, { name: 'adapter_config.json', spelling: 'snake' }),
    )
  },
}

/** The divisor of the width closest to the wanted size; the smaller one if tied. */
export function blockSizeFor(width: number, wanted: number): number {
  if (wanted >= width) return width
  let [above, below] = [wanted, wanted]
  while (width % above !== 0) above++
  while (width % below !== 0) below--
  return wanted - below <= above - wanted ? below : above
}

function oftLinear(config: OftConfig, site: LinearSite): LinearAdapter {
  const size = blockSizeFor(site.in, config.oftBlockSize)
  if (size < 2)
    throw new ConfigError(
      `oft_block_size is ${config.oftBlockSize}, but the ${site.in} inputs of ${site.path} cannot be divided into blocks of about that size; expected a size near a divisor of ${site.in}.`,
      { path: site.path, in: site.in, oftBlockSize: config.oftBlockSize },
    )
  const name = `${site.path}.oft_R.weight`
  const [rows, cols] = [config.blockShare ? 1 : site.in / size, (size * (size - 1)) / 2]
  return {
    term: {
      kind: 'rotation',
      target: site.path,
      parameters: { skew: name },
      numbers: { size, terms: config.numCayleyNeumannTerms },
    } satisfies RotationTerm,
    factors: [
      {
        name,
        rows,
        cols,
        trained: true,
        initializer: config.initWeights ? { kind: 'zeros' } : { kind: 'normal', std: 0.1 },
        group: GROUP,
        tensor: { name: `base_model.model.${name}`, shape: [rows, cols] },
      },
    ],
  }
}
