/**
 * VeRA: one random pair of matrices, frozen and shared by all adapted layers, and two small trained vectors per layer.
 * delta W = diag(b) B diag(d) A, where A is the first columns of `vera_A` and B the first rows of `vera_B`.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, flag, integer, parseOptions, rank } from '../core/schema.js'
import type { VeraConfig, VeraOptions } from './configs.js'
import { loraRules } from './lora.js'
import type { Factor, LinearAdapter, LinearSite, StrategyRules } from './strategy.js'
import type { LowRankTerm } from './terms.js'

const { loraDropout, targetModules, excludeModules, layersToTransform } = loraRules.schema.shape

const schema = z.strictObject({
  name: z.literal('vera'),
  r: rank()
    .default(256)
    .describe(
      'Rank of the shared matrices. Adds arithmetic, but only one trained parameter per linear and rank.',
    ),
  dInitial: z.number({ error: 'a number' }).default(0.1).describe('Initial value of the vector d.'),
  projectionPrngKey: integer(0).default(0).describe('Seed of the shared matrices.'),
  saveProjection: flag()
    .default(true)
    .describe(
      'Save the shared matrices with the vectors. Without them the file is small, and readers draw them again from the key.',
    ),
  veraDropout: loraDropout,
  targetModules,
  excludeModules,
  layersToTransform,
}) as unknown as z.ZodObject & z.ZodType<VeraConfig>

/**
 * VeRA: `out + r` trained parameters per layer. Needs a learning rate about ten times LoRA's.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example vera({ r: 256, targetModules: ['q_proj', 'v_proj'] })
 * @see Kopiczko, Blankevoort and Asano 2023, arXiv 2310.11454; PEFT's `VeraModel`
 */
export function vera(options: VeraOptions = {}): VeraConfig {
  return deepFreeze(checkedOptions(schema, options, 'vera()', { name: 'vera' }))
}

/** Names of the shared matrices, which PEFT's file prefixes with `base_model.`. */
const SHARED_A = 'vera_A'
const SHARED_B = 'vera_B'

export const veraRules: StrategyRules<VeraConfig> = {
  name: 'vera',
  label: 'VeRA',
  mark: { hue: 4, shape: 'filled' },
  compared: { ownRank: true, widerGrid: 2 },
  paper: 'arXiv 2310.11454',
  peftType: 'VERA',
  peftPrefix: 'vera_',
  bases: loraRules.bases,
  trainable: 'two vectors of every adapted linear; the matrices are shared and frozen',
  schema,
  learningRate: () => 3e-2,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'vera', learningRateFactor: 1 }],
  linears: (config, sites) => {
    const shared = sharedFactors(config, sites)
    return sites.map((site) => veraLinear(config, site, shared))
  },
  toPeft: (config) => ({
    r: config.r,
    d_initial: config.dInitial,
    projection_prng_key: config.projectionPrngKey,
    save_projection: config.saveProjection,
    vera_dropout: config.veraDropout,
    bias: 'none',
    fan_in_fan_out: false,
    init_weights: true,
    exclude_modules: undefined,
  }),
  peftKeys: ['r', 'd_initial', 'projection_prng_key', 'save_projection', 'vera_dropout'],
  fromPeft: (fields) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'vera' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

/** PEFT draws A and then B from one generator, as wide and as tall as the largest layer, with Kaiming's bound. */
function sharedFactors(
  { r, projectionPrngKey: seed, saveProjection }: VeraConfig,
  sites: readonly LinearSite[],
): Factor[] {
  const widest = Math.max(...sites.map((site) => site.in))
  const tallest = Math.max(...sites.map((site) => site.out))
  const factor = (name: string, rows: number, cols: number, skip: number): Factor => ({
    name,
    rows,
    cols,
    trained: false,
    initializer: { kind: 'torch_uniform', bound: Math.sqrt(3) * (Math.SQRT2 / Math.sqrt(cols)), seed, skip },
    group: 'vera',
    ...(saveProjection ? { tensor: { name: `base_model.${name}`, shape: [rows, cols] } } : {}),
  })
  return [factor(SHARED_A, r, widest, 0), factor(SHARED_B, tallest, r, r * widest)]
}

function veraLinear(config: VeraConfig, site: LinearSite, shared: Factor[]): LinearAdapter {
  const b = `${site.path}.vera_lambda_b`
  const d = `${site.path}.vera_lambda_d`
  const vector = (name: string, cols: number, value: number): Factor => ({
    name,
    rows: 1,
    cols,
    trained: true,
    initializer: value === 0 ? { kind: 'zeros' } : { kind: 'constant', value },
    group: 'vera',
    role: 'b',
    tensor: { name: `base_model.model.${name}`, shape: [cols] },
  })
  return {
    term: {
      kind: 'low_rank',
      target: site.path,
      parameters: { a: SHARED_A, b: SHARED_B, d, bGain: b },
      numbers: { rank: config.r, scale: 1, dropout: config.veraDropout },
    } satisfies LowRankTerm,
    factors: [...shared, vector(b, site.out, 0), vector(d, config.r, config.dInitial)],
  }
}
