/**
 * LoRA: y += s B A drop(x) at chosen linears, A and B trained, the base frozen. Initialisation, scale and patterns are
 * PEFT's (A uniform by Kaiming's rule where the paper has a Gaussian; B zero).
 */
import * as z from 'zod'
import { deepFreeze, integer, numberWithin, parseOptions, positive, text, word } from '../schema.js'
import { rankLookup } from './patterns.js'
import type { Initialiser, LinearAdapter, LinearSite, StrategyConfig, StrategyRules } from './strategy.js'

/** Options of LoRA; names and defaults are PEFT's, but for the default of `targetModules`. */
export interface LoraConfig extends StrategyConfig {
  readonly name: 'lora'
  /** Rank: rows of A, columns of B. Memory grows linearly with it. Default 8. */
  readonly r: number
  /** The adapter's output is scaled by loraAlpha / r. Default 8. */
  readonly loraAlpha: number
  /** Probability with which elements of the adapter's input are dropped in training, in [0, 1). Default 0. */
  readonly loraDropout: number
  /**
   * What to adapt: `all-linear` (every linear of the blocks, the default), a list of module names or name ends, or one
   * regular expression that must match a module's whole path.
   */
  readonly targetModules: string | readonly string[]
  /** Modules left out of the above, as a list or a regular expression. Default null. */
  readonly excludeModules: string | readonly string[] | null
  /** Adapt only the layers of this index or these indices, from 0. Default null: all. */
  readonly layersToTransform: number | readonly number[] | null
  /** Ranks for modules that match a pattern (the first that matches counts). */
  readonly rankPattern: Readonly<Record<string, number>>
  /** The same for loraAlpha. */
  readonly alphaPattern: Readonly<Record<string, number>>
  /** Scale by loraAlpha / sqrt(r) (arXiv 2312.03732). Default false. */
  readonly useRslora: boolean
  /**
   * true: A uniform, B zero. gaussian: A normal with deviation 1 / r, B zero. false: both uniform, so that the adapter
   * changes the output from the start (for debugging).
   */
  readonly initLoraWeights: boolean | 'gaussian'
  /** Only `none`: biases of the base stay frozen. */
  readonly bias: 'none'
}

/** What `lora()` takes. */
export type LoraOptions = Partial<Omit<LoraConfig, 'name'>>

const modules = z.union([text(), z.array(text()).min(1, { error: 'at least one name' })], {
  error: 'all-linear, a list of module names, or a regular expression',
})

const schema = z.strictObject({
  name: z.literal('lora'),
  r: integer(1).default(8).describe('The rank. Memory of the adapter grows with it.'),
  loraAlpha: positive().default(8).describe("The adapter's output is scaled by `lora_alpha / r`."),
  loraDropout: numberWithin(0, 0.999999, 'a number in [0, 1)')
    .default(0)
    .describe("Dropout on the adapter's input, in training only."),
  targetModules: modules
    .default('all-linear')
    .describe(
      "What is adapted. Names match a module's last name or the end of its path after a dot; an expression must match the whole path.",
    ),
  excludeModules: modules.nullable().default(null).describe('Modules to leave out.'),
  layersToTransform: z
    .union([integer(0), z.array(integer(0)).min(1, { error: 'at least one layer' })], {
      error: 'a layer index or a list of them',
    })
    .nullable()
    .default(null)
    .describe('Adapt only these layers, counted from 0.'),
  rankPattern: z
    .record(z.string(), integer(1))
    .default({})
    .describe('Other ranks for modules whose path ends in the pattern; the first one that matches counts.'),
  alphaPattern: z.record(z.string(), positive()).default({}).describe('The same for `lora_alpha`.'),
  useRslora: z
    .boolean({ error: 'true or false' })
    .default(false)
    .describe('Scale by `lora_alpha / sqrt(r)` instead (arXiv 2312.03732).'),
  initLoraWeights: z
    .union([z.boolean(), z.literal('gaussian')], { error: 'true, false or gaussian' })
    .default(true)
    .describe(
      '`true`: A uniform as in PEFT, B zero, so that the model starts unchanged. `gaussian`: A normal with deviation 1 / r, B zero. `false`: both uniform, for debugging.',
    ),
  bias: word(['none']).default('none').describe('Biases of the base stay frozen.'),
}) satisfies z.ZodType<LoraConfig>

/**
 * LoRA over frozen linears of any format.
 * @throws {ConfigError} for an unknown option or a value out of range (a rank below 1, dropout of 1)
 * @example lora({ r: 16, loraAlpha: 32, targetModules: ['q_proj', 'v_proj'] })
 * @see Hu et al. 2021, arXiv 2106.09685
 */
export function lora(options: LoraOptions = {}): LoraConfig {
  const parsed = parseOptions(schema, { ...options, name: 'lora' }, { name: 'lora()', spelling: 'camel' })
  return deepFreeze(parsed)
}

export const loraRules: StrategyRules<LoraConfig> = {
  name: 'lora',
  paper: 'arXiv 2106.09685',
  peftType: 'LORA',
  bases: ['fp32', 'fp16', 'bf16', 'nf4', 'fp4', 'int8'],
  trainable: 'A and B of every adapted linear',
  schema,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'lora', learningRateFactor: 1 }],
  linears: (config, sites) => {
    const resolve = rankLookup({ ...config, alpha: config.loraAlpha }, sites)
    return sites.map((site) => loraLinear(config, site, resolve(site.path)))
  },
  // What the file must say is fixed: any other init_lora_weights makes PEFT redo an initialisation on load.
  toPeft: (config) => ({
    r: config.r,
    lora_alpha: config.loraAlpha,
    lora_dropout: config.loraDropout,
    rank_pattern: config.rankPattern,
    alpha_pattern: config.alphaPattern,
    use_rslora: config.useRslora,
    use_dora: false,
    bias: config.bias,
    fan_in_fan_out: false,
    init_lora_weights: true,
  }),
  ownsPeft: (fields) => fields.use_dora !== true,
  peftKeys: ['r', 'lora_alpha', 'lora_dropout', 'rank_pattern', 'alpha_pattern', 'use_rslora'],
  fromPeft: (fields) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'lora' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

/**
 * What strategies that are LoRA with something more answer as LoRA does.
 * @param asLora the LoRA that is in a config
 */
export function overLora<Config extends Omit<LoraConfig, 'name'> & StrategyConfig>(
  asLora: (config: Config) => LoraConfig,
) {
  return {
    peftType: loraRules.peftType,
    bases: loraRules.bases,
    defaults: () => ({}),
    targeting: (config: Config) => config,
    groups: (config: Config) => loraRules.groups(asLora(config)),
    linears: (config: Config, sites: readonly LinearSite[]) => loraRules.linears(asLora(config), sites),
    toPeft: (config: Config) => loraRules.toPeft(asLora(config)),
  } satisfies Partial<StrategyRules<Config>>
}

function loraLinear(
  config: LoraConfig,
  site: LinearSite,
  { rank, alpha }: { rank: number; alpha: number },
): LinearAdapter {
  const a = `${site.path}.lora_A.weight`
  const b = `${site.path}.lora_B.weight`
  const inits: { a: Initialiser; b: Initialiser } = {
    a:
      config.initLoraWeights === 'gaussian'
        ? { kind: 'normal', std: 1 / rank }
        : { kind: 'uniform', bound: 1 / Math.sqrt(site.in) },
    b: config.initLoraWeights === false ? { kind: 'uniform', bound: 1 / Math.sqrt(rank) } : { kind: 'zeros' },
  }
  const factor = (role: 'a' | 'b', name: string, rows: number, cols: number, initialiser: Initialiser) => ({
    name,
    rows,
    cols,
    trained: true,
    initialiser,
    group: 'lora',
    role,
    tensor: { name: `base_model.model.${name}`, shape: [rows, cols] },
  })
  return {
    slot: {
      kind: 'low_rank',
      target: site.path,
      rank,
      scale: config.useRslora ? alpha / Math.sqrt(rank) : alpha / rank,
      dropout: config.loraDropout,
      a,
      b,
    },
    factors: [factor('a', a, rank, site.in, inits.a), factor('b', b, site.out, rank, inits.b)],
  }
}
