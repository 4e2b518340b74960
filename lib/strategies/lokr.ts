/**
 * LoKr: the weight update is a Kronecker product of two small matrices. The second (and optionally the first) is itself
 * a product of two factors where that is smaller. delta W = s kron(w1, w2).
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, flag, integer, parseOptions, rank } from '../core/schema.js'
import type { LokrConfig, LokrOptions } from './configs.js'
import { loraRules } from './lora.js'
import { alpha, initWeights, moduleDropout, modulesShape, probability } from './lycoris.js'
import { rankLookup } from './patterns.js'
import type { Factor, Initializer, LinearAdapter, LinearSite, StrategyRules } from './strategy.js'
import type { KroneckerTerm } from './terms.js'

const schema = z.strictObject({
  name: z.literal('lokr'),
  r: rank()
    .default(8)
    .describe(
      'Rank of a factorized side. A side is factorized if the rank is below half of its larger dimension.',
    ),
  alpha,
  decomposeBoth: flag().default(false).describe('Factorize the first side too, if `r` is small enough.'),
  decomposeFactor: integer(-1, '-1 or a positive integer')
    .refine((factor) => factor !== 0, { error: '-1 or a positive integer' })
    .default(-1)
    .describe(
      'Split of a dimension: `-1` near its square root; `n` into `n` and the rest if it divides, otherwise the nearest split whose smaller part is at most `n`.',
    ),
  rankDropout: probability().describe(
    'Probability of dropping an output row of the change, in training only.',
  ),
  rankDropoutScale: flag().default(false).describe('Rescale the remaining rows.'),
  moduleDropout,
  initWeights: initWeights().describe(
    '`true`: the first side zero, the second uniform, as in PEFT. `lycoris`: the second zero, the first uniform. `false`: all uniform, for debugging.',
  ),
  ...modulesShape,
}) as unknown as z.ZodObject & z.ZodType<LokrConfig>

/**
 * LoKr: full-rank updates with few parameters, hundreds to thousands per layer. Needs a higher learning rate than LoRA.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example lokr({ r: 8, alpha: 8, decomposeFactor: 8 })
 * @see Yeh et al. 2023, arXiv 2309.14859 (LyCORIS); Edalati et al. 2022, arXiv 2212.10650 (KronA); PEFT's `LoKrModel`
 */
export function lokr(options: LokrOptions = {}): LokrConfig {
  return deepFreeze(checkedOptions(schema, options, 'lokr()', { name: 'lokr' }))
}

export const lokrRules: StrategyRules<LokrConfig> = {
  name: 'lokr',
  label: 'LoKr',
  mark: { hue: 5, shape: 'open' },
  compared: {
    widerGrid: 2,
    // Its size is limited by its shape, whatever the rank.
    shapes: (config) => [16, 8, 4, 2].map((decomposeFactor) => ({ ...config, decomposeFactor })),
  },
  paper: 'arXiv 2309.14859',
  peftType: 'LOKR',
  peftPrefix: 'lokr_',
  bases: loraRules.bases,
  trainable: 'the two sides of the Kronecker product of every adapted linear',
  schema,
  learningRate: () => 3e-3,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'lokr', learningRateFactor: 1 }],
  linears: (config, sites) => {
    const resolve = rankLookup(config, sites)
    return sites.map((site) => lokrLinear(config, site, resolve(site.path)))
  },
  toPeft: (config) => ({
    r: config.r,
    alpha: config.alpha,
    decompose_both: config.decomposeBoth,
    decompose_factor: config.decomposeFactor,
    rank_dropout: config.rankDropout,
    rank_dropout_scale: config.rankDropoutScale,
    module_dropout: config.moduleDropout,
    rank_pattern: config.rankPattern,
    alpha_pattern: config.alphaPattern,
    use_effective_conv2d: false,
    init_weights: true,
  }),
  peftKeys: [
    'r',
    'alpha',
    'decompose_both',
    'decompose_factor',
    'rank_dropout',
    'rank_dropout_scale',
    'module_dropout',
    'rank_pattern',
    'alpha_pattern',
  ],
  fromPeft: (fields) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'lokr' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

/**
 * Splits a dimension into two factors, the smaller one first, as LyCORIS and PEFT do: the search stops at the first
 * split whose sum exceeds that of (1, dimension), and a `factor` that divides the dimension comes first even if it is
 * the larger.
 * @param factor -1, or at least 1
 */
export function splitDimension(dimension: number, factor: number): [number, number] {
  if (factor > 0 && dimension % factor === 0) return [factor, dimension / factor]
  const most = factor === -1 ? dimension : factor
  let [small, large] = [1, dimension]
  while (small < large) {
    let next = small + 1
    while (dimension % next !== 0) next++
    if (next + dimension / next > 1 + dimension || next > most) break
    ;[small, large] = [next, dimension / next]
  }
  return small < large ? [small, large] : [large, small]
}

function lokrLinear(
  config: LokrConfig,
  site: LinearSite,
  { rank, alpha }: { rank: number; alpha: number },
): LinearAdapter {
  const [p, q] = splitDimension(site.in, config.decomposeFactor)
  const [l, k] = splitDimension(site.out, config.decomposeFactor)
  const small = (rows: number, cols: number) => rank < Math.max(rows, cols) / 2
  const first = side(site.path, 'lokr_w1', l, p, config.decomposeBoth && small(l, p) ? rank : null, 'b')
  const second = side(site.path, 'lokr_w2', k, q, small(k, q) ? rank : null, 'a')
  // If the zero matrix is a product, PEFT zeroes its first factor and LyCORIS its second.
  const zero =
    config.initWeights === true ? first[0] : config.initWeights === 'lycoris' ? second.at(-1) : undefined
  const factors = [...first, ...second].map(
    (factor): Factor => (factor === zero ? { ...factor, initializer: { kind: 'zeros' } } : factor),
  )
  const [c, c2] = first.map(({ name }) => name)
  const [d, d2] = second.map(({ name }) => name)
  return {
    term: {
      kind: 'kronecker',
      target: site.path,
      parameters: {
        c: c as string,
        ...(c2 === undefined ? {} : { c2 }),
        d: d as string,
        ...(d2 === undefined ? {} : { d2 }),
      },
      numbers: {
        scale: alpha / rank,
        rowDropout: config.rankDropout,
        rowDropoutScale: Number(config.rankDropoutScale),
        moduleDropout: config.moduleDropout,
      },
    } satisfies KroneckerTerm,
    factors,
  }
}

/** One matrix of the product, as one array or as two low-rank factors. */
function side(
  path: string,
  part: string,
  rows: number,
  cols: number,
  rank: number | null,
  role: 'a' | 'b',
): Factor[] {
  const factor = (suffix: string, shape: [number, number]): Factor => {
    const name = `${path}.${part}${suffix}`
    // Kaiming's bound, 1 / sqrt(columns).
    const initializer: Initializer = { kind: 'uniform', bound: 1 / Math.sqrt(shape[1]) }
    const tensor = { name: `base_model.model.${name}`, shape }
    return { name, rows: shape[0], cols: shape[1], trained: true, initializer, group: 'lokr', role, tensor }
  }
  if (rank === null) return [factor('', [rows, cols])]
  return [factor('_a', [rows, rank]), factor('_b', [rank, cols])]
}
