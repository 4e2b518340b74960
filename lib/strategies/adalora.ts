/**
 * AdaLoRA: y += s B diag(E) A drop(x) at the target layers, an update in the form of a singular value decomposition.
 * Every layer starts with more rank than it keeps: during training, the least important singular values across all
 * layers are set to zero, so that the rank budget goes where it helps most.
 */

import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { pow } from '../core/portable-math.js'
import { deepFreeze, integer, numberWithin, parseOptions, rank } from '../core/schema.js'
import type { AdapterSpec } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import type { AdaloraConfig, AdaloraOptions } from './configs.js'
import { pickColumns, pickRows } from './factors.js'
import { loraRules } from './lora.js'
import type {
  Conversion,
  Factor,
  Initializer,
  LinearAdapter,
  LinearSite,
  ReadFactor,
  RunFacts,
  StepRules,
  StrategyRules,
} from './strategy.js'
import { isLowRank, type LowRankTerm, rankedTerms } from './terms.js'

const { loraAlpha, loraDropout, targetModules, excludeModules, layersToTransform } = loraRules.schema.shape

/** A moving-average decay, with PEFT's bounds. */
const decay = () => {
  const error = 'a number between 0 and 1'
  return z.number({ error }).gt(0, { error }).lt(1, { error }).default(0.85)
}

const schema = z
  .strictObject({
    name: z.literal('adalora'),
    initR: rank().default(12).describe('Initial rank of every linear.'),
    targetR: rank().default(8).describe('Mean rank of the linears at the end; at most `init_r`.'),
    tinit: integer(0)
      .nullable()
      .default(null)
      .describe('Steps before the first rank is pruned. Default: a tenth of the run.'),
    tfinal: integer(0)
      .nullable()
      .default(null)
      .describe('Steps at the end without pruning. Default: three tenths of the run.'),
    deltaT: integer(1).default(1).describe('Steps between two allocations of ranks (`deltaT` in PEFT).'),
    beta1: decay().describe('Decay rate of the moving average of the sensitivity.'),
    beta2: decay().describe('Decay rate of the moving average of the uncertainty.'),
    orthRegWeight: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
      .default(0.5)
      .describe(
        'Weight of the regularizer that keeps `A` and `B` close to orthogonal, in training only. 0 is off.',
      ),
    loraAlpha: loraAlpha.describe(
      "The adapter's output is scaled by `lora_alpha / init_r`, for any remaining rank.",
    ),
    loraDropout,
    targetModules,
    excludeModules,
    layersToTransform,
    rankPattern: z
      .record(
        z.string(),
        z.array(z.boolean({ error: 'true or false' }), { error: 'a list of true and false' }),
        {
          error:
            'a mapping of names such as model.layers.0.self_attn.q_proj.lora_E to lists of true and false',
        },
      )
      .default({})
      .describe('The remaining ranks; written by training.'),
  })
  .check(({ value, issues }) => {
    if (value.targetR > value.initR)
      issues.push({
        code: 'custom',
        input: value,
        path: ['targetR'],
        message: `at most the rank at first, ${value.initR}`,
      })
    for (const [key, kept] of Object.entries(value.rankPattern))
      if (kept.length !== value.initR)
        issues.push({
          code: 'custom',
          input: value,
          path: ['rankPattern', key],
          message: `${value.initR} entries, one for each rank at first`,
        })
  }) as unknown as z.ZodObject & z.ZodType<AdaloraConfig>

/**
 * LoRA with ranks allocated during training. Needs a larger learning rate or `loraAlpha` than LoRA: the authors'
 * scripts use 5e-4 to 2e-3 and 16 to 32.
 * @throws {ConfigError} for an unknown option, a value out of range, or a `targetR` above `initR`
 * @example adalora({ initR: 12, targetR: 8, loraAlpha: 32 })
 * @see Zhang et al. 2023, arXiv 2303.10512; PEFT's `AdaLoraModel`
 */
export function adalora(options: AdaloraOptions = {}): AdaloraConfig {
  return deepFreeze(checkedOptions(schema, options, 'adalora()', { name: 'adalora' }))
}

/** Ratio of the initial rank to the target rank in comparisons, as in the paper. */
export const INITIAL_RANKS = 1.5

export const adaloraRules: StrategyRules<AdaloraConfig> = {
  name: 'adalora',
  label: 'AdaLoRA',
  mark: { hue: 3, shape: 'filled' },
  compared: {
    resize(config, targetR) {
      const initR = Math.ceil(INITIAL_RANKS * targetR)
      return { ...config, targetR, initR, loraAlpha: config.loraAlpha * (initR / config.initR) }
    },
  },
  paper: 'arXiv 2303.10512',
  peftType: 'ADALORA',
  peftPrefix: 'lora_',
  bases: loraRules.bases,
  trainable: 'A, B, and the singular values between them; the least important ones are pruned',
  schema,
  learningRate: () => 1e-2,
  defaults: () => ({}),
  targeting: (config) => config,
  groups: () => [{ name: 'adalora', learningRateFactor: 1 }],
  linears: (config, sites) => {
    const ranks = sites.map((site) => keptRanks(config, site.path).length)
    const modules = ranks.filter((rank) => rank > 0).length
    return sites.map((site, i) => adaloraLinear(config, site, ranks[i] as number, modules))
  },
  savedAs: sliced,
  steps: (config) => ({ begin: (run, state) => allocate(config, run, state), byLength: true }),
  // PEFT validates the training schedule even when only loading, so a feasible one must be written.
  toPeft: (config) => ({
    init_r: config.initR,
    target_r: config.targetR,
    tinit: config.tinit ?? 0,
    tfinal: config.tfinal ?? 0,
    total_step: (config.tinit ?? 0) + (config.tfinal ?? 0) + 1,
    deltaT: config.deltaT,
    beta1: config.beta1,
    beta2: config.beta2,
    orth_reg_weight: config.orthRegWeight,
    rank_pattern: Object.keys(config.rankPattern).length === 0 ? null : config.rankPattern,
    lora_alpha: config.loraAlpha,
    lora_dropout: config.loraDropout,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    r: 8,
  }),
  // r and total_step do not affect the computation.
  peftKeys: [
    'init_r',
    'target_r',
    'tinit',
    'tfinal',
    'total_step',
    'deltaT',
    'beta1',
    'beta2',
    'orth_reg_weight',
    'rank_pattern',
    'lora_alpha',
    'lora_dropout',
    'r',
  ],
  fromPeft: ({ r: _, total_step: __, deltaT, ...fields }) =>
    deepFreeze(
      parseOptions(
        schema,
        { ...fields, ...(deltaT === undefined ? {} : { delta_t: deltaT }), name: 'adalora' },
        { name: 'adapter_config.json', spelling: 'snake' },
      ),
    ),
}

/** PEFT's name for a layer's singular values, in patterns and files. */
const valuesOf = (path: string): string => `${path}.lora_E`

/** Indices of the initial ranks that remain. */
function keptRanks({ initR, rankPattern }: AdaloraConfig, path: string): number[] {
  const pattern = rankPattern[valuesOf(path)]
  return Array.from({ length: initR }, (_, i) => i).filter((i) => pattern?.[i] ?? true)
}

function adaloraLinear(
  config: AdaloraConfig,
  site: LinearSite,
  rank: number,
  modules: number,
): LinearAdapter {
  const [a, d, b] = [`${site.path}.lora_A`, valuesOf(site.path), `${site.path}.lora_B`]
  const normal: Initializer = { kind: 'normal', std: 0.02 }
  const factor = (name: string, rows: number, cols: number, initializer: Initializer): Factor => ({
    name,
    rows,
    cols,
    trained: true,
    initializer,
    group: 'adalora',
    role: name === b ? 'b' : 'a',
    tensor: { name: `base_model.model.${name}`, shape: name === d ? [cols, rows] : [rows, cols] },
  })
  return {
    term: {
      kind: 'low_rank',
      target: site.path,
      parameters: { a, b, d },
      numbers: { rank, scale: config.loraAlpha / (config.initR + 1e-5), dropout: config.loraDropout },
    } satisfies LowRankTerm,
    factors: [
      factor(a, rank, site.in, normal),
      factor(d, 1, rank, { kind: 'zeros' }),
      factor(b, site.out, rank, normal),
    ],
    triplet: {
      beta1: config.beta1,
      beta2: config.beta2,
      // The regularizer is a mean over the matrices, two per layer.
      orthogonal: config.orthRegWeight / (2 * modules),
    },
  }
}

/** Removes ranks whose singular value is zero, since they contribute nothing. */
function sliced(
  config: AdaloraConfig,
  { spec }: { spec: Pick<AdapterSpec, 'terms'> },
  read: ReadFactor,
): Conversion | undefined {
  const terms = spec.terms.filter(isLowRank)
  const targets = new Set(terms.map(({ target }) => target))
  const left = new Map(
    terms.map(({ target, parameters }) => {
      const values = read(parameters.d as string)
      return [target, [...values.keys()].filter((i) => values[i] !== 0)]
    }),
  )
  const all = terms.every(({ target, numbers }) => left.get(target)?.length === numbers.rank)
  // All zero means the adapter has not been trained yet.
  if (all || [...left.values()].every((indices) => indices.length === 0)) return undefined
  const gone = Object.entries(config.rankPattern).filter(
    ([name]) => !targets.has(name.replace(/\.lora_E$/, '')),
  )
  const pattern = Object.fromEntries(
    [...left].map(([target, indices]) => {
      const at = keptRanks(config, target)
      const kept = new Set(indices.map((i) => at[i]))
      return [valuesOf(target), Array.from({ length: config.initR }, (_, i) => kept.has(i))]
    }),
  )
  const slices = new Map(
    terms.flatMap(({ target, numbers: { rank }, parameters: { a, b, d } }) => {
      const indices = left.get(target) as number[]
      return [
        [a, () => pickRows(read(a), rank, indices)],
        [d as string, () => pickRows(read(d as string), rank, indices)],
        [b, () => pickColumns(read(b), rank, indices)],
      ] as const
    }),
  )
  return {
    strategy: deepFreeze({ ...config, rankPattern: { ...Object.fromEntries(gone), ...pattern } }),
    read: (name) => (slices.get(name) as () => Float32Array)(),
  }
}

/** Number of nonzero singular values over all layers during a run. */
export interface BudgetSchedule {
  /** Before and after the decline. */
  initial: number
  target: number
  tinit: number
  tfinal: number
  totalSteps: number
}

/** The budget at optimizer step `t`, counted from 0: constant, then a cubic decline, then constant. */
export function budgetAt({ initial, target, tinit, tfinal, totalSteps }: BudgetSchedule, t: number): number {
  if (t <= tinit) return initial
  const decline = totalSteps - tfinal - tinit
  if (t - tinit >= decline) return target
  return Math.trunc((initial - target) * pow(1 - (t - tinit) / decline, 3) + target)
}

/** Marks the scores that are strictly greater than all but the largest `budget`; ties may therefore keep fewer. */
export function aboveBudget(scores: Float64Array, budget: number): Uint8Array {
  const over = scores.length - budget
  if (over <= 0) return new Uint8Array(scores.length).fill(1)
  const threshold = scores.toSorted()[over - 1] as number
  return Uint8Array.from(scores, (score) => (score > threshold ? 1 : 0))
}

function scheduleOf(config: AdaloraConfig, { totalSteps, description }: RunFacts): BudgetSchedule {
  const tinit = config.tinit ?? Math.floor(totalSteps / 10)
  const tfinal = config.tfinal ?? Math.floor((3 * totalSteps) / 10)
  if (tinit >= totalSteps - tfinal)
    throw new ConfigError(
      `adalora: tinit ${tinit} and tfinal ${tfinal} leave none of the ${totalSteps} steps for pruning; lower them, or train longer.`,
      { tinit, tfinal, totalSteps },
    )
  return {
    initial: rankedTerms(description.spec).reduce((sum, { numbers }) => sum + numbers.rank, 0),
    target: description.targets.length * config.targetR,
    tinit,
    tfinal,
    totalSteps,
  }
}

/**
 * Masks ranks after each update by zeroing singular values; a later update may revive them. The last scored step makes
 * the final selection, and from then on the others are zeroed after every step.
 */
function allocate(config: AdaloraConfig, run: RunFacts, state: unknown): StepRules {
  const { native } = run
  const schedule = scheduleOf(config, run)
  const { totalSteps, tinit, tfinal, initial } = schedule
  let chosen = chosenOf(state)
  if (chosen !== undefined) native.dropImportances()
  let left = chosen
  const prune = (keep: Uint8Array) => {
    left = keep
    return translatedAsync(() => native.pruneTriplets(keep).promise)
  }
  return {
    async updated(step) {
      const t = step - 1
      if (chosen !== undefined) return prune(chosen)
      const budget = budgetAt(schedule, t)
      const due = t > tinit && t % config.deltaT === 0 && budget < initial
      const last = t + 1 >= totalSteps - tfinal
      if (!due && !last) return
      const scores = await translatedAsync(() => native.tripletScores().promise)
      if (due) await prune(aboveBudget(scores, budget))
      if (!last) return
      chosen = aboveBudget(scores, schedule.target)
      native.dropImportances()
      if (step === totalSteps) await prune(chosen)
    },
    ranksLeft: () => left && countedRanks(run.description, left),
    state: () => (chosen === undefined ? undefined : { kept: chosen.join('') }),
  }
}

/** Number of ranks kept at each layer. */
function countedRanks({ spec }: RunFacts['description'], keep: Uint8Array): Record<string, number> {
  let begin = 0
  return Object.fromEntries(
    rankedTerms(spec).map(({ target, numbers: { rank } }) => {
      const kept = keep.subarray(begin, begin + rank).reduce((sum, one) => sum + one, 0)
      begin += rank
      return [target, kept]
    }),
  )
}

/** The selection stored in `state`: 1 for every triplet that is kept, 0 for the others. */
function chosenOf(state: unknown): Uint8Array | undefined {
  const kept = (state as { kept?: unknown } | undefined)?.kept
  return typeof kept === 'string' ? Uint8Array.from(kept, Number) : undefined
}
