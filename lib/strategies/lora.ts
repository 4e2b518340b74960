/**
 * LoRA: y += s B A drop(x) at the target layers; A and B are trained, the base is frozen. Initialization, scale, and
 * patterns follow PEFT (A Kaiming-uniform where the paper uses a Gaussian; B zero).
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import {
  deepFreeze,
  integer,
  numberWithin,
  parseOptions,
  positive,
  rank,
  text,
  word,
} from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { LoraConfig, LoraOptions } from './configs.js'
import { rankLookup } from './patterns.js'
import { savedWithSnapshot, withSnapshot } from './snapshot.js'
import type {
  AdapterDescription,
  ComputedStart,
  Initializer,
  LinearAdapter,
  LinearSite,
  ReadFactor,
  StrategyConfig,
  StrategyRules,
  WeightSite,
} from './strategy.js'
import { trainedCopies, undecayedGroup } from './trained.js'

/** Random initialization of the factors. */
export type DrawnStart = boolean | 'gaussian'

const modules = z.union([text(), z.array(text()).min(1, { error: 'at least one name' })], {
  error: 'all-linear, a list of module names, or a regular expression',
})

const DRAWN =
  '`true`: A uniform as in PEFT, B zero, so the model starts unchanged. `gaussian`: A normal with standard deviation 1 / r, B zero. `false`: both uniform, for debugging.'

/** `init_lora_weights` of strategies with random initial values. */
export const drawnStart = () =>
  z
    .union([z.boolean(), z.literal('gaussian')], { error: 'true, false or gaussian' })
    .default(true)
    .describe(DRAWN)

const STARTS = 'true, false, gaussian, pissa, pissa_niter_N with a number N, olora or loftq'
const severalProducts = named(
  z
    .string({ error: STARTS })
    .regex(/^pissa_niter_\d{1,3}$/, { error: STARTS }) as z.ZodType as z.ZodType<`pissa_niter_${number}`>,
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a type of TypeScript
  { type: '`pissa_niter_${number}`' },
)

const schema = z
  .strictObject({
    name: z.literal('lora'),
    r: rank().default(8).describe('Rank. The memory of the adapter grows with it.'),
    loraAlpha: positive().default(8).describe("The adapter's output is scaled by `lora_alpha / r`."),
    loraDropout: numberWithin(0, 0.999999, 'a number in [0, 1)')
      .default(0)
      .describe("Dropout on the adapter's input, in training only."),
    targetModules: modules
      .default('all-linear')
      .describe(
        "Modules to adapt. A name matches the end of a module's path after a dot; a regular expression must match the whole path.",
      ),
    excludeModules: modules.nullable().default(null).describe('Modules to exclude.'),
    layersToTransform: z
      .union([integer(0), z.array(integer(0)).min(1, { error: 'at least one layer' })], {
        error: 'a layer index or a list of them',
      })
      .nullable()
      .default(null)
      .describe('Adapt only these layers, counted from 0.'),
    rankPattern: z
      .record(z.string(), rank())
      .default({})
      .describe('Ranks of modules whose path ends in the pattern; the first match counts.'),
    alphaPattern: z
      .record(z.string(), positive())
      .default({})
      .describe('Values of `lora_alpha` for modules whose path ends in the pattern; the first match counts.'),
    useRslora: z
      .boolean({ error: 'true or false' })
      .default(false)
      .describe('Scale by `lora_alpha / sqrt(r)` instead (arXiv 2312.03732).'),
    initLoraWeights: z
      .union([...drawnStart().unwrap().options, z.literal(['pissa', 'olora', 'loftq']), severalProducts], {
        error: STARTS,
      })
      .default(true)
      .describe(
        `${DRAWN} From the weight: \`pissa\`, its largest singular values; \`pissa_niter_4\`, the same, faster and less exact; \`olora\`, its QR factorization; \`loftq\`, its quantization error ([LoRA](strategies/lora.md#initialization-from-the-weight)).`,
      ),
    modulesToSave: z
      .array(text(), { error: 'a list of module names' })
      .min(1, { error: 'at least one name' })
      .max(1000, { error: 'at most 1000 names' })
      .nullable()
      .default(null)
      .describe(
        'Modules to train in full, as copies saved with the adapter, such as `lm_head`, `embed_tokens`, or norms. A name matches every module whose path ends in it.',
      ),
    bias: word(['none', 'all', 'lora_only'])
      .default('none')
      .describe('Biases of the base to train: `all`, or `lora_only` for those of adapted linears.'),
  })
  .superRefine(checkStart) satisfies z.ZodType<LoraConfig>

/**
 * Forbids dropout with subtracted initial values: they are part of the weight, which sees the whole input, while
 * dropout affects only the adapter's input.
 */
export function checkStart(config: Omit<LoraConfig, 'name'>, context: z.RefinementCtx): void {
  const { initLoraWeights, loraDropout } = config
  if (!subtracts(initLoraWeights) || loraDropout === 0) return
  const message = `0 with a start of ${initLoraWeights}, which is a part of the weight`
  context.addIssue({ code: 'custom', path: ['loraDropout'], message })
}

/** True if the initial values are part of the weight and are therefore subtracted from the adapter's output. */
const subtracts = (init: LoraConfig['initLoraWeights']): boolean => computedStart(init)?.of === 'weight'

/** Initial values that are computed instead of random; undefined for random ones. */
function computedStart(init: LoraConfig['initLoraWeights']): ComputedStart | undefined {
  if (init === 'pissa') return { of: 'weight', form: 'svd' }
  if (init === 'olora') return { of: 'weight', form: 'qr' }
  if (init === 'loftq') return { of: 'loss', form: 'svd' }
  if (typeof init === 'boolean' || init === 'gaussian') return undefined
  // One product with random vectors, plus one per iteration.
  return { of: 'weight', form: 'svd', blocks: Number(init.slice('pissa_niter_'.length)) + 1 }
}

/**
 * LoRA on frozen linear layers of any format.
 * @throws {ConfigError} for an unknown option or a value out of range (a rank below 1, dropout of 1)
 * @example lora({ r: 16, loraAlpha: 32, targetModules: ['q_proj', 'v_proj'] })
 * @example lora({ r: 16, loraAlpha: 16, initLoraWeights: 'pissa' })
 * @see Hu et al. 2021, arXiv 2106.09685
 */
export function lora(options: LoraOptions = {}): LoraConfig {
  const parsed = checkedOptions(schema, options, 'lora()', { name: 'lora' })
  return deepFreeze(parsed)
}

const GROUP = 'lora'

export const loraRules: StrategyRules<LoraConfig> = {
  name: 'lora',
  label: 'LoRA',
  mark: { hue: 0, shape: 'filled' },
  compared: {
    controls: (_, reference, { attention }) =>
      attention.length === 0
        ? []
        : [
            {
              name: 'lora+attention',
              about: 'LoRA on the linears of attention alone: what the others add.',
              options: { ...reference, targetModules: attention },
            },
          ],
  },
  foreign: {
    'use_rslora peft_use_rslora': { here: 'strategy.use_rslora' },
    pissa_init: { here: 'strategy.init_lora_weights', values: { true: 'pissa', false: null } },
    pissa_iter: {
      here: 'strategy.init_lora_weights',
      note: 'pissa_niter_16 contains the number of iterations',
    },
    loftq_config: { here: 'strategy.init_lora_weights', note: 'use the value loftq; it has no settings' },
    'eva_config corda_config lora_ga_config': {
      note: 'this initialization is not supported; init_lora_weights supports pissa, olora, loftq, and gaussian',
    },
  },
  paper: 'arXiv 2106.09685',
  peftType: 'LORA',
  peftPrefix: 'lora_',
  bases: ['fp32', 'fp16', 'bf16', 'nf4', 'fp4', 'int8', 'gguf'],
  trainable: 'A and B of every adapted linear',
  schema,
  learningRate: () => 1e-3,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: GROUP, learningRateFactor: 1 }, undecayedGroup],
  linears: (config, sites) => {
    const resolve = rankLookup({ ...config, alpha: config.loraAlpha }, sites)
    const own = sites.map((site) => loraLinear(config, site, resolve(site.path)))
    if (!subtracts(config.initLoraWeights)) return own
    const embedding = sites.find((site) => site.embedding)
    if (embedding !== undefined)
      throw new ConfigError(
        `init_lora_weights is ${config.initLoraWeights}, which needs a linear, but ${embedding.path} is an embedding; remove it from target_modules, or use another init_lora_weights.`,
        { path: embedding.path },
      )
    return own.map((answer) =>
      withSnapshot(answer, {
        name: 'start_ratio',
        initializer: { kind: 'constant', value: 1 },
        subtracts: true,
      }),
    )
  },
  savedAs: (config, description, read) =>
    subtracts(config.initLoraWeights)
      ? savedWithSnapshot({ ...config, initLoraWeights: true }, description, read)
      : undefined,
  copies: (config, weights, adapted) => trainedCopies(config, weights, adapted, GROUP),
  embeddings: () => true,
  // init_lora_weights is fixed in the file: other values make PEFT repeat an initialization on load.
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
  peftKeys: [
    'r',
    'lora_alpha',
    'lora_dropout',
    'rank_pattern',
    'alpha_pattern',
    'use_rslora',
    'modules_to_save',
    'bias',
  ],
  fromPeft: (fields) =>
    deepFreeze(
      parseOptions(schema, { ...fields, name: 'lora' }, { name: 'adapter_config.json', spelling: 'snake' }),
    ),
}

/**
 * Rules shared by strategies that extend LoRA.
 * @param asLora extracts the LoRA part of a config
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
    savedAs: (config: Config, description: AdapterDescription, read: ReadFactor) =>
      loraRules.savedAs?.(asLora(config), description, read),
    copies: (config: Config, weights: readonly WeightSite[], adapted: readonly LinearSite[]) =>
      trainedCopies(config, weights, adapted, GROUP),
    toPeft: (config: Config) => loraRules.toPeft(asLora(config)),
  } satisfies Partial<StrategyRules<Config>>
}

function loraLinear(
  config: LoraConfig,
  site: LinearSite,
  { rank, alpha }: { rank: number; alpha: number },
): LinearAdapter {
  const start = site.embedding ? undefined : computedStart(config.initLoraWeights)
  const most = Math.min(site.in, site.out)
  if (start !== undefined && rank > most)
    throw new ConfigError(
      `init_lora_weights is ${config.initLoraWeights}, but ${site.path} [${site.out}, ${site.in}] has fewer than ${rank} singular values or columns; expected a rank of at most ${most} there (rank_pattern).`,
      { path: site.path, rank, most },
    )
  const { a, b } = loraNames(site)
  const starts = site.embedding ? embeddingStarts(config) : linearStarts(config, site, rank)
  const factor = (role: 'a' | 'b', name: string, rows: number, cols: number, initializer: Initializer) => ({
    name,
    rows,
    cols,
    trained: true,
    initializer,
    group: GROUP,
    role,
    tensor: { name: `base_model.model.${name}`, shape: [rows, cols] },
  })
  return {
    term: {
      kind: site.embedding ? 'embedding' : 'low_rank',
      target: site.path,
      parameters: { a, b },
      numbers: {
        rank,
        scale: config.useRslora ? alpha / Math.sqrt(rank) : alpha / rank,
        // PEFT applies no dropout to an embedding's input, which is a token id.
        ...(site.embedding ? {} : { dropout: config.loraDropout }),
      },
    },
    factors: [factor('a', a, rank, site.in, starts.a), factor('b', b, site.out, rank, starts.b)],
    ...(start === undefined ? {} : { start }),
  }
}

/** Names of A and B, which PEFT's files prefix with `base_model.model.`. */
export function loraNames({ path, embedding }: LinearSite): { a: string; b: string } {
  if (embedding) return { a: `${path}.lora_embedding_A`, b: `${path}.lora_embedding_B` }
  return { a: `${path}.lora_A.weight`, b: `${path}.lora_B.weight` }
}

interface Starts {
  a: Initializer
  b: Initializer
}

function linearStarts({ initLoraWeights }: LoraConfig, site: LinearSite, rank: number): Starts {
  return {
    a:
      initLoraWeights === 'gaussian'
        ? { kind: 'normal', std: 1 / rank }
        : { kind: 'uniform', bound: 1 / Math.sqrt(site.in) },
    b: initLoraWeights === false ? { kind: 'uniform', bound: 1 / Math.sqrt(rank) } : { kind: 'zeros' },
  }
}

/**
 * For an embedding A starts at zero and B is random: A's columns are looked up, so B must be nonzero for them to get
 * gradients.
 */
function embeddingStarts({ initLoraWeights }: LoraConfig): Starts {
  const normal = { kind: 'normal', std: 1 } as const
  return { a: initLoraWeights === false ? normal : { kind: 'zeros' }, b: normal }
}
