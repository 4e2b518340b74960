/**
 * A strategy consists of a frozen, printable config and rules that return data. For each linear layer of the model the
 * rules specify the native kind, the factors and their initialization, what is trained, and the tensor names in PEFT's
 * files. Rules build no graph nodes and access no tensors; shared code reads these declarations and never checks for a
 * strategy's name.
 */

import type * as z from 'zod'
import type { ForeignKeys } from '../core/foreign-values.js'
import type { GraphWeight } from '../graph/graph.js'
import type { AdapterSpec, NativeAdapter, TermSpec, TripletSpec } from '../native/addon.js'
import type { TrainingDefaults } from '../weights/quantization.js'
import type { DpDyloraConfig, StrategyConfig } from './configs.js'

export type { ClientsConfig, StrategyConfig } from './configs.js'

/** A linear layer that an adapter may attach to: y = x W^T with W `[out, in]`. */
export interface LinearSite {
  path: string
  in: number
  out: number
  /**
   * True for an embedding, which looks up rows: x is the one-hot vector of a token's id, and `in` is the vocabulary
   * size. Default false.
   */
  embedding?: boolean
}

/** A base weight, which can be trained as a copy. */
export interface WeightSite extends GraphWeight {
  /** Paths of the modules that use it: two for a tied embedding and head, else one. */
  modules: readonly string[]
  /** Classes of a classifier, whose head is part of every adapter. */
  classes?: Classes
}

/** Classes of a classifier's head. */
export interface Classes {
  /** Class names in the order of their ids. */
  labels: readonly string[]
  /** Standard deviation of the head's initial values. */
  deviation: number
}

/** Modules that a strategy adapts or trains in full, in PEFT's terms. */
export interface Targeting {
  readonly targetModules: 'all-linear' | string | readonly string[]
  readonly excludeModules: string | readonly string[] | null
  readonly layersToTransform: number | readonly number[] | null
  /** Modules trained in full, as copies alongside the adapter. Default none. */
  readonly modulesToSave?: readonly string[] | null
  /** Base biases to train. Default none. */
  readonly bias?: 'none' | 'all' | 'lora_only'
}

/** Initial values of a factor. Random ones come from a counter-based generator keyed by seed and parameter name. */
export type Initializer =
  | { kind: 'zeros' }
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; bound: number }
  | { kind: 'normal'; std: number }
  /**
   * Bit-identical to torch: `uniform_(-bound, bound)` from a generator with this seed, after `skip` earlier numbers.
   */
  | { kind: 'torch_uniform'; bound: number; seed: number; skip: number }
  /** Values computed by the strategy, row by row. */
  | { kind: 'values'; make: () => Float32Array }
  /** Row norms of the adapted weight at the start, for a magnitude; computed after the other factors. */
  | { kind: 'row_norms' }
  /** A copy of the base weight with the same shape, used in its place. */
  | { kind: 'weight'; weight: string }

/** One array `[rows, cols]` of an adapter. Factors with the same name share one array. */
export interface Factor {
  name: string
  rows: number
  cols: number
  trained: boolean
  initializer: Initializer
  /** Optimizer group it belongs to. */
  group: string
  /**
   * `b`: a factor on the output side, such as B or a vector of gains, which LoRA+ trains faster. Absent for all others.
   */
  role?: 'a' | 'b'
  /** Its tensor in adapter_model.safetensors; absent if it is not saved. */
  tensor?: FactorTensor
  /** The base weight it replaces, if it is not initialized as a copy of it. */
  replaces?: string
}

/** A factor in a file. */
export interface FactorTensor {
  name: string
  shape: number[]
  /** Whether the file stores the transpose. Default false. */
  transposed?: boolean
}

/**
 * Computed initial values of A and B, in place of random ones: factors of the weight they adapt, or of its quantization
 * error (`loss`). `svd`: s B A is the part with the largest singular values; `qr`: B and A are the first columns of Q
 * and rows of R. A snapshot starts with the same values.
 */
export interface ComputedStart {
  of: 'weight' | 'loss'
  form: 'svd' | 'qr'
  /** As in `DecomposeOptions`. */
  blocks?: number
}

/** A strategy's answer for one layer. If the layer has no rank left, the term's rank and the factors' rows are 0. */
export interface LinearAdapter {
  term: TermSpec
  factors: Factor[]
  /** Default: each factor uses its own initializer. */
  start?: ComputedStart
  /** Whether B's gradient is projected with the frozen A before each update. Default false. */
  projected?: boolean
  /** Tracks and regularizes row i of A, element i of d, and column i of B as a triplet. Default: none. */
  triplet?: Omit<TripletSpec, 'a' | 'd' | 'b'>
}

/** Parameters that share their optimizer settings. */
export interface OptimizerGroup {
  name: string
  /** Multiplies the run's learning rate. */
  learningRateFactor: number
  /** Replaces the run's learning rate, but follows its schedule. */
  learningRate?: number
  /** Whether the run's weight decay applies. Default true. */
  decays?: boolean
}

/** Keys of adapter_config.json that come from the strategy, in PEFT's spelling. */
export type PeftFields = Record<string, unknown>

/** Reads the values of a factor by name. */
export type ReadFactor = (name: string) => Float32Array

/** An adapter in another form: the strategy that describes it, and its factors' values, computed on demand. */
export interface Conversion {
  strategy: StrategyConfig
  read: ReadFactor
}

/** Output norm of an adapter at a layer: the sum of ||output||^2 over the tokens of a sample. */
export interface OutputNorm {
  site: LinearSite
  value: number
}

/** A measurement on the data that a strategy needs before training. */
export interface Probe {
  /** The adapter to train on the sample and measure. */
  adapter: StrategyConfig
  /** Fraction of the training data to use, in (0, 1]. */
  sampleFraction: number
  /** Optimizer steps; null: one pass over the sample. */
  steps: number | null
  /** Returns the final config, given the contribution of the trained adapter at each layer. */
  choose(norms: readonly OutputNorm[]): StrategyConfig
}

/** Properties of the run available to a strategy. */
export interface RunFacts {
  seed: number
  /** Total optimizer steps of the run. */
  totalSteps: number
  description: AdapterDescription
  native: NativeAdapter
}

/** Ranks of one step, when not all of them are used or trained. */
export interface StepRanks {
  /** Number of leading ranks in use. */
  active: number
  /** Whether only the last of those ranks gets gradients. */
  lastOnly: boolean
  /**
   * Number of steps so far that used 1, 2, … ranks, including this one. If present, ranks without a gradient stay
   * unchanged and each has its own bias correction; if absent, the optimizer updates all ranks.
   */
  draws?: number[]
}

/** A strategy with actions around each step of a run. */
export interface Stepwise {
  /** Creates the rules for a run that starts, or resumes from the `state` in a checkpoint. */
  begin(run: RunFacts, state: unknown): StepRules
  /** True if the steps depend on the length of the run. */
  readonly byLength: boolean
}

/** Actions of a strategy around the steps of one run. Steps count from 1. */
export interface StepRules {
  /** Ranks of a step. Default: all are used and trained. */
  ranks?(step: number): StepRanks
  /** Called after the update of a step, before its values are used or saved. */
  updated?(step: number): Promise<void>
  /** Ranks remaining at each layer after the last update, by path; undefined while all remain. */
  ranksLeft?(): Readonly<Record<string, number>> | undefined
  /** State for checkpoints beyond factors and moments, as JSON; passed to `Stepwise.begin` on resume. */
  state?(): unknown
}

/** An adapter that can be truncated to its first ranks. */
export interface Ranked {
  /** Total number of ranks. */
  readonly most: number
  /** True if each rank is updated separately (`StepRanks.draws`). */
  readonly counted: boolean
  /** The LoRA of the first `rank` ranks. */
  at(rank: number, description: AdapterDescription, read: ReadFactor): Conversion
}

/** Guarantee and settings of a private training run. */
export type PrivacyConfig = Omit<DpDyloraConfig, 'name' | 'adapter'>

/** A mark in charts. */
export interface StrategyMark {
  readonly hue: number
  readonly shape: 'filled' | 'open' | 'square'
}

/** Options as plain data, to be parsed by `strategyFrom`. */
export type StrategyOptions = Readonly<Record<string, unknown>>

/** A variant that shows how much of a difference from LoRA one part of a strategy explains. */
export interface ComparedControl {
  readonly name: string
  readonly about: string
  readonly options: StrategyOptions
}

/** A strategy in comparisons. */
export interface Compared<Config extends StrategyConfig = StrategyConfig> {
  /** True if `r` is not the rank of the weight update, so that it keeps its own default. */
  readonly ownRank?: true
  /** Points of the grid of learning rates beyond the usual ones, for rates that vary more. */
  readonly widerGrid?: number
  /** Its options with the settings of a plain LoRA, for a strategy around another; `inner` makes those of another. */
  around?(inner: (name: string) => StrategyOptions): StrategyOptions
  /** The same shapes at another size, with the same scale. Default: `r`, with alpha in proportion. */
  resize?(config: Config, size: number): StrategyOptions
  /** Other shapes whose sizes differ, tried after the config's own. */
  shapes?(config: Config): readonly StrategyOptions[]
  /** @param reference options of the LoRA in the same comparison; `attention`: last names of its attention layers */
  controls?(
    config: Config,
    reference: StrategyOptions,
    model: { readonly attention: readonly string[] },
  ): readonly ComparedControl[]
}

/** The rules of one strategy. */
export interface StrategyRules<Config extends StrategyConfig = StrategyConfig> {
  readonly name: Config['name']
  /** Its name in the literature. */
  readonly label: string
  /** Its mark in charts; related strategies share a hue. */
  readonly mark: StrategyMark
  /** How it takes part in comparisons, where that differs from LoRA. */
  readonly compared?: Compared<Config>
  /** Other programs' names for the options that only this strategy has. */
  readonly foreign?: ForeignKeys
  /** Reference to the paper. */
  readonly paper: string
  /** `peft_type` in saved files. */
  readonly peftType: string
  /** Prefix of its tensor names after the module's path, such as `lora_`. Absent if it has none. */
  readonly peftPrefix?: string
  /** Saved form: a PEFT adapter folder, or a whole model. Default `adapter`. */
  readonly saves?: 'adapter' | 'model'
  /** Supported formats of base weights. */
  readonly bases: readonly string[]
  /** Trained parameters, in a few words. */
  readonly trainable: string
  /** Schema of the options in camelCase, with defaults. */
  readonly schema: z.ZodType<Config> & z.ZodObject
  /**
   * Default peak AdamW learning rate for short runs on small models; measured with benchmarks/rates.mjs at the
   * strategy's defaults.
   */
  learningRate(config: Config): number
  /** Settings of the run implied by the strategy; keys that contradict them are errors. */
  defaults(config: Config): TrainingDefaults
  /**
   * Whether AdamW's state is paged if the run sets no optimizer and the state does not fit in memory. Default false.
   */
  readonly pagesState?: boolean
  targeting(config: Config): Targeting
  /** Optimizer groups that factors may belong to. */
  groups(config: Config): OptimizerGroup[]
  /** Answers for all adapted layers at once, so that patterns are matched only once. */
  linears(config: Config, sites: readonly LinearSite[]): LinearAdapter[]
  /**
   * Base weights to train as copies; every initializer is of kind `weight`. A weight shared by several modules has one
   * factor per tensor. Absent: the strategy trains no base weights.
   */
  copies?(config: Config, weights: readonly WeightSite[], adapted: readonly LinearSite[]): Factor[]
  /** Whether it also adapts embeddings. Default: only linear layers. */
  embeddings?(config: Config): boolean
  /** Conversion for saving, if its own factors differ from those in PEFT's files. */
  savedAs?(config: Config, description: AdapterDescription, read: ReadFactor): Conversion | undefined
  /** Behavior at lower ranks; absent or undefined for strategies with a single rank. */
  ranked?(config: Config): Ranked | undefined
  /** Measurement before training; absent or undefined if none is needed. */
  probe?(config: Config): Probe | undefined
  /** Privacy of clients or examples; absent or undefined without privacy. */
  privacy?(config: Config): PrivacyConfig | undefined
  /** Actions around the steps of a run; absent or undefined without any. */
  steps?(config: Config): Stepwise | undefined
  /** Warnings about valid but rarely intended options, one sentence each, without the period. */
  remarks?(config: Config): string[]
  /** Fields of adapter_config.json, merged over the common ones; `undefined` omits a common field. */
  toPeft(config: Config): PeftFields
  /** True if a file with this `peft_type` belongs to this strategy, for types shared by several. Default true. */
  ownsPeft?(fields: PeftFields): boolean
  /** Keys of this `peft_type` that `fromPeft` reads, in addition to those that select modules. */
  peftKeys?: readonly string[]
  /** Parses options from validated fields of an adapter_config.json with this `peft_type`. */
  fromPeft?(fields: PeftFields): Config
}

/** Everything about an adapter except its values. */
export interface AdapterDescription {
  strategy: StrategyConfig
  spec: AdapterSpec
  /** In the order of `spec.parameters`, matched by name. */
  factors: Factor[]
  /** Terms with computed initial values. */
  starts: { term: TermSpec; start: ComputedStart }[]
  /** Additional tensors of shared factors: in files every layer has its own copy. */
  repeats: { factor: Factor; tensor: FactorTensor }[]
  /** Factors of layers with no rank left, which are saved as empty tensors. */
  empty: Factor[]
  /** Groups with at least one factor. */
  groups: (OptimizerGroup & { parameters: string[] })[]
  /** Modules to adapt or train in full, as configured. */
  targeting: Targeting
  /** Base weights trained as copies. */
  trained: WeightSite[]
  /** Class names of a classifier's head; null for an adapter of a language model. */
  labels: readonly string[] | null
  /** Paths of the adapted layers. */
  targets: string[]
  /** Paths of all linear layers of the model. */
  linears: string[]
}
