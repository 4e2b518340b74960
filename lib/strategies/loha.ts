/**
 * LoHa: the weight update is the Hadamard product of two low-rank matrices, which reaches rank r² with the parameters
 * of two matrices of rank r. delta W = s (w1_a w1_b) ∘ (w2_a w2_b).
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { deepFreeze, parseOptions, rank } from '../core/schema.js'
import type { LohaConfig, LohaOptions } from './configs.js'
import { loraRules } from './lora.js'
import { alpha, initWeights, moduleDropout, modulesShape, probability } from './lycoris.js'
import { rankLookup } from './patterns.js'
import type { Initializer, LinearAdapter, LinearSite, StrategyRules } from './strategy.js'
import type { PairTerm } from './terms.js'

const schema = z.strictObject({
  name: z.literal('loha'),
  r: rank()
    .default(8)
    .describe('Rank of each of the two products; their Hadamard product has rank up to `r²`.'),
  alpha,
  rankDropout: probability().describe(
    'Probability of dropping an output row of the change, in training only; the others are rescaled.',
  ),
  moduleDropout,
  initWeights: initWeights().describe(
    '`true`: `w2_b` zero, the others uniform as in PEFT. `lycoris`: `w2_a` zero, the others normal. `false`: all uniform, for debugging.',
  ),
  ...modulesShape,
}) as unknown as z.ZodObject & z.ZodType<LohaConfig>

/**
 * LoHa: an update of rank up to r² with twice the parameters of LoRA at rank r.
 * @throws {ConfigError} for an unknown option or a value out of range
 * @example loha({ r: 8, alpha: 8, targetModules: ['q_proj', 'v_proj'] })
 * @see Hyeon-Woo, Ye-Bin and Oh 2021, arXiv 2108.06098 (FedPara); Yeh et al. 2023, arXiv 2309.14859 (LyCORIS); PEFT's
 * `LoHaModel`
 */
export function loha(options: LohaOptions = {}): LohaConfig {
  return deepFreeze(checkedOptions(schema, options, 'loha()', { name: 'loha' }))
}

export const lohaRules: StrategyRules<LohaConfig> = {
  name: 'loha',
  label: 'LoHa',
  mark: { hue: 5, shape: 'filled' },
  paper: 'arXiv 2108.06098',
  peftType: 'LOHA',
  peftPrefix: 'hada_',
  bases: loraRules.bases,
  trainable: 'the four factors of every adapted linear',
  schema,
  learningRate: () => 1e-2,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'loha', learningRateFactor: 1 }],
  linears: (config, sites) => {
    const resolve = rankLookup(config, sites)
    return sites.map((site) => lohaLinear(config, site, resolve(site.path)))
  },
  toPeft: (config) => ({
    r: config.r,
    alpha: config.alpha,
    rank_dropout: config.rankDropout,
    module_dropout: config.moduleDropout,
    rank_pattern: config.rankPattern,
    alpha_pattern: config.alphaPattern,
    use_effective_conv2d: false,
    init_weights: true,
  }),
  peftKeys: ['r', 'alpha', 'rank_dropout', 'module_dropout', 'rank_pattern', 'alpha_pattern'],
  fromPeft: (fields) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'loha' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

/** Initial values of the four factors; uniform ones use Kaiming's bound, 1 / sqrt(columns). */
function startsOf(init: LohaConfig['initWeights'], rank: number, site: LinearSite): Initializer[] {
  const uniform = (cols: number): Initializer => ({ kind: 'uniform', bound: 1 / Math.sqrt(cols) })
  const normal = (std: number): Initializer => ({ kind: 'normal', std })
  const zeros: Initializer = { kind: 'zeros' }
  if (init === 'lycoris') return [normal(0.1), normal(1), zeros, normal(1)]
  return [uniform(rank), uniform(site.in), uniform(rank), init ? zeros : uniform(site.in)]
}

function lohaLinear(
  config: LohaConfig,
  site: LinearSite,
  { rank, alpha }: { rank: number; alpha: number },
): LinearAdapter {
  const starts = startsOf(config.initWeights, rank, site)
  const factors = ['hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b'].map((part, i) => {
    const name = `${site.path}.${part}`
    // PEFT calls the factor on the output side a, and the other one b.
    const shape: [number, number] = i % 2 === 0 ? [site.out, rank] : [rank, site.in]
    const [rows, cols] = shape
    return {
      name,
      rows,
      cols,
      trained: true,
      initializer: starts[i] as Initializer,
      group: 'loha',
      role: i % 2 === 0 ? ('b' as const) : ('a' as const),
      tensor: { name: `base_model.model.${name}`, shape },
    }
  })
  const [b, a, b2, a2] = factors.map(({ name }) => name) as [string, string, string, string]
  return {
    term: {
      kind: 'pair',
      target: site.path,
      parameters: { a, b, a2, b2 },
      numbers: {
        rank: rank * rank,
        scale: alpha / rank,
        rowDropout: config.rankDropout,
        rowDropoutScale: 1,
        moduleDropout: config.moduleDropout,
      },
    } satisfies PairTerm,
    factors,
  }
}
