/**
 * A strategy: a frozen, printable config object, and rules that answer with data. For each linear of the model
 * they name the native kind, the factors and how they start, what trains, and what the tensors are called in PEFT's
 * files. Rules build no graph nodes and see no tensors; shared code reads what they declare and never asks for a name.
 */
import type * as z from 'zod'
import type { GraphWeight } from '../graph/graph.js'
import type { AdapterSpec, NativeAdapter, TermSpec, Triplet } from '../native/addon.js'
import type { TrainingDefaults } from '../weights/quantization.js'

/** A strategy's options: plain frozen data that prints as JSON and reads back. */
export interface StrategyConfig {
  readonly name: string
}

/** A linear layer that an adapter may attach to: y = x W^T with W `[out, in]`. */
export interface LinearSite {
  path: string
  in: number
  out: number
  /** It looks rows up: x is the one-hot vector of a token's id, and `in` the vocabulary. Default false. */
  embedding?: boolean
}

/** A weight of the base, which may train as a copy. */
export interface WeightSite extends GraphWeight {
  /** Paths of the modules whose parameter it is: those of a tied embedding and head, else one. */
  modules: readonly string[]
  /** Classes of a classifier, whose head every adapter brings. */
  classes?: Classes
}

/** Classes of a classifier's head. */
export interface Classes {
  /** Their names, in the order of their ids. */
  labels: readonly string[]
  /** Standard deviation of the start values of the head. */
  deviation: number
}

/** Modules that a strategy adapts or trains in full, in PEFT's terms. */
export interface Targeting {
  readonly targetModules: 'all-linear' | string | readonly string[]
  readonly excludeModules: string | readonly string[] | null
  readonly layersToTransform: number | readonly number[] | null
  /** Modules that train as copies beside the adapter. Default none. */
  readonly modulesToSave?: readonly string[] | null
  /** Biases of the base that train. Default none. */
  readonly bias?: 'none' | 'all' | 'lora_only'
}

/** Start values of a factor; random ones are drawn by counter from (seed, parameter name). */
export type Initializer =
  | { kind: 'zeros' }
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; bound: number }
  | { kind: 'normal'; std: number }
  /** As torch draws them: `uniform_(-bound, bound)` of a generator with this seed, after `skip` other numbers. */
  | { kind: 'torch_uniform'; bound: number; seed: number; skip: number }
  /** Numbers that the strategy computes itself, row by row. */
  | { kind: 'values'; make: () => Float32Array }
  /** The norms of the rows of the adapted weight as it starts; for a magnitude, after the other factors. */
  | { kind: 'row_norms' }
  /** A copy of a base weight of the same shape, in whose place it is used. */
  | { kind: 'weight'; weight: string }

/** One array `[rows, cols]` of an adapter. Factors of the same name are one array, shared. */
export interface Factor {
  name: string
  rows: number
  cols: number
  trained: boolean
  initializer: Initializer
  /** Optimizer group it belongs to. */
  group: string
  /** `b`: on the output's side, such as B or a vector of gains; LoRA+ trains these faster. Absent: any other. */
  role?: 'a' | 'b'
  /** As adapter_model.safetensors has it; absent when it is not saved. */
  tensor?: FactorTensor
  /** Weight of the base that it stands in for, where it does not start as a copy of it. */
  replaces?: string
}

/** A factor in a file. */
export interface FactorTensor {
  name: string
  shape: number[]
  /** The file holds its transpose. Default false. */
  transposed?: boolean
}

/**
 * Start values of A and B that are computed, in place of those that are drawn: factors of the weight they adapt,
 * or of what the weight lost (`loss`) when it was brought into its format. `svd`: s B A is the part of the largest
 * singular values; `qr`: B and A are the first columns of Q and rows of R. A snapshot starts as they do.
 */
export interface ComputedStart {
  of: 'weight' | 'loss'
  form: 'svd' | 'qr'
  /** As of `DecomposeOptions`. */
  blocks?: number
}

/** A strategy's answer for one linear. Of one that has no rank left, the term's rank and the factors' rows are 0. */
export interface LinearAdapter {
  term: TermSpec
  factors: Factor[]
  /** Default: each factor starts by its own initializer. */
  start?: ComputedStart
  /** B's gradient is projected by the frozen A before each update. Default false. */
  projected?: boolean
  /** Row i of A, element i of d and column i of B are followed and regularized as a triplet. Default: they are not. */
  triplet?: Omit<Triplet, 'a' | 'd' | 'b'>
}

/** Parameters that share their optimizer settings. */
export interface OptimizerGroup {
  name: string
  /** Multiplies the run's learning rate. */
  learningRateFactor: number
  /** A rate of its own in place of the run's, whose course it takes. */
  learningRate?: number
  /** True if the run's weight decay applies to it. Default true. */
  decays?: boolean
}

/** Keys of adapter_config.json that come from the strategy, in PEFT's spelling. */
export type PeftFields = Record<string, unknown>

/** Values of a factor by its name. */
export type ReadFactor = (name: string) => Float32Array

/**
 * An adapter in another form: the strategy that describes it, and its factors' values, made when they are asked for.
 */
export interface Conversion {
  strategy: StrategyConfig
  read: ReadFactor
}

/** Output norm of an adapter at a linear: the sum of ||output||^2 over the tokens of some data. */
export interface OutputNorm {
  site: LinearSite
  value: number
}

/** Measurement on the data that a strategy needs before it can be trained. */
export interface Probe {
  /** The adapter that is trained on a sample and measured. */
  adapter: StrategyConfig
  /** Share of the training data, in (0, 1]. */
  sampleFraction: number
  /** Optimizer steps; null: one pass over the sample. */
  steps: number | null
  /** The config that is ready, from what the trained adapter adds at each linear. */
  choose(norms: readonly OutputNorm[]): StrategyConfig
}

/** Properties of the run that a strategy may use. */
export interface RunFacts {
  seed: number
  /** Optimizer steps of the whole run. */
  totalSteps: number
  description: AdapterDescription
  native: NativeAdapter
}

/** The ranks of one step, where not all of them are in use or train. */
export interface StepRanks {
  /** Ranks in use, from the first. */
  active: number
  /** Only the last of those ranks gets gradients. */
  lastOnly: boolean
  /**
   * Number of steps with 1, 2, … ranks in use so far, including this one. With it, ranks without a gradient stay
   * unchanged, and each has a bias correction of its own; without it the optimizer moves all.
   */
  draws?: number[]
}

/** A strategy that acts around the steps of a run. */
export interface Stepwise {
  /** Rules of a run that begins, or resumes from the `state` in a checkpoint. */
  begin(run: RunFacts, state: unknown): StepRules
  /** True if these steps depend on the length of the run. */
  readonly byLength: boolean
}

/** Actions of a strategy around the steps of one run. Steps count from 1. */
export interface StepRules {
  /** Default: all are in use, and train. */
  ranks?(step: number): StepRanks
  /** After the update of a step, before anyone sees its values. */
  updated?(step: number): Promise<void>
  /** Ranks left at each linear after the last update, by path; undefined while all are. */
  ranksLeft?(): Readonly<Record<string, number>> | undefined
  /** State for checkpoints besides factors and moments, as JSON; passed to `Stepwise.begin` on resume. */
  state?(): unknown
}

/** An adapter that may act at its first ranks alone. */
export interface Ranked {
  /** Ranks that it has. */
  readonly most: number
  /** True if each rank is updated on its own (`StepRanks.draws`). */
  readonly counted: boolean
  /** The LoRA that it is at the first `rank` ranks. */
  at(rank: number, description: AdapterDescription, read: ReadFactor): Conversion
}

/** Clients of a private training run: those of a column, or a partition of the rows. */
export interface ClientsConfig {
  /** Column that identifies the client of a row; for a `dirichlet` partition, the column with the label. */
  readonly column: string | null
  /** null: by the column. `iid`: every row at random. `dirichlet`: those of each value by shares drawn for it. */
  readonly partition: 'iid' | 'dirichlet' | null
  /** Number of clients of a partition. */
  readonly count: number | null
  /** Concentration of `dirichlet`. */
  readonly alpha: number | null
}

/** Guarantee and settings of a private training run. */
export interface PrivacyConfig {
  /** Unit of privacy: a client with all its rows, or one example. Default `user`. */
  readonly privacyUnit: 'user' | 'example'
  /** Needed where clients are protected. */
  readonly clients: ClientsConfig | null
  /** Never spends more than this; null: no limit, and `noiseMultiplier` is needed. */
  readonly targetEpsilon: number | null
  /** Deviation of the noise on the sum over `clippingNorm`; null: what spends `targetEpsilon` in `rounds`. */
  readonly noiseMultiplier: number | null
  /** null: clients to the power of -1.1. */
  readonly delta: number | null
  /** null: as many as `targetEpsilon` and `noiseMultiplier` allow. */
  readonly rounds: number | null
  /** Clients or examples that a round is expected to draw. Default 16. */
  readonly cohort: number
  /** L2 norm that a contribution is scaled down to. Default 1. */
  readonly clippingNorm: number
  /** Passes of a client over its data in a round. Default 1. */
  readonly localEpochs: number
  /** Optimizer steps of a client at most. Default null: none but what `localEpochs` says. */
  readonly localSteps: number | null
  /** Optimizer of the mean of the clients' changes. Default `sgd`, which adds it. */
  readonly serverOptimizer: 'sgd' | 'adam'
  readonly serverLearningRate: number
  /** Noise as for a larger population, for studies of what it leaves; the result is not private. */
  readonly simulation: { readonly population: number; readonly cohort: number } | null
  /** 64 hexadecimal digits, for tests; the result is not private. */
  readonly noiseKey: string | null
}

/** The rules of one strategy. */
export interface StrategyRules<Config extends StrategyConfig = StrategyConfig> {
  readonly name: Config['name']
  /** Reference of the paper. */
  readonly paper: string
  /** `peft_type` of the files it is saved as. */
  readonly peftType: string
  /** Prefix of its own tensor names after the module's path, such as `lora_`. Absent: it has none. */
  readonly peftPrefix?: string
  /** Saved form: an adapter folder of PEFT's, or a whole model. Default `adapter`. */
  readonly saves?: 'adapter' | 'model'
  /** Base formats it runs on. */
  readonly bases: readonly string[]
  /** Trained parameters, in a few words. */
  readonly trainable: string
  /** Options in camelCase, with defaults. */
  readonly schema: z.ZodType<Config> & z.ZodObject
  /**
   * Peak rate of AdamW for short runs on small models, where a run is given none; measured by benchmarks/rates.mjs at
   * the strategy's defaults.
   */
  learningRate(config: Config): number
  /** Settings of the run that the strategy stands for; keys that contradict them are errors. */
  defaults(config: Config): TrainingDefaults
  /** True if AdamW's state is paged when a run sets no optimizer and does not fit into memory. Default false. */
  readonly pagesState?: boolean
  targeting(config: Config): Targeting
  /** Groups that factors may be in. */
  groups(config: Config): OptimizerGroup[]
  /** Prepares the answers for the linears that are adapted, so that patterns are matched once. */
  linears(config: Config, sites: readonly LinearSite[]): LinearAdapter[]
  /**
   * Base weights that train, as copies; every initializer is of kind `weight`. A weight with a name in several modules
   * has a factor for each of its tensors. Absent: the strategy trains none.
   */
  copies?(config: Config, weights: readonly WeightSite[], adapted: readonly LinearSite[]): Factor[]
  /** True if it adapts embeddings, too. Default: only linears. */
  embeddings?(config: Config): boolean
  /** The form it is saved in, where its own factors are not what PEFT's files hold. */
  savedAs?(config: Config, description: AdapterDescription, read: ReadFactor): Conversion | undefined
  /** Behavior at fewer ranks than it has; absent or undefined for strategies with a single rank. */
  ranked?(config: Config): Ranked | undefined
  /** Measurement before training; absent or undefined if none is needed. */
  probe?(config: Config): Probe | undefined
  /** Privacy of clients or examples; absent or undefined without privacy. */
  privacy?(config: Config): PrivacyConfig | undefined
  /** Actions around the steps of a run; absent or undefined without any. */
  steps?(config: Config): Stepwise | undefined
  /** Warnings about valid but rarely intended options, a sentence each without the full stop. */
  remarks?(config: Config): string[]
  /** Over what all types have in common; `undefined` leaves one of those out. */
  toPeft(config: Config): PeftFields
  /** True if a file of this `peft_type` belongs to this strategy, where several share the type. Default: true. */
  ownsPeft?(fields: PeftFields): boolean
  /** Keys of this `peft_type` that `fromPeft` reads, beside those that name modules. */
  peftKeys?: readonly string[]
  /** Options from checked fields of an adapter_config.json of this `peft_type`. */
  fromPeft?(fields: PeftFields): Config
}

/** Everything about an adapter but its numbers. */
export interface AdapterDescription {
  strategy: StrategyConfig
  spec: AdapterSpec
  /** By name, in the order of `spec.parameters`. */
  factors: Factor[]
  /** Terms whose start values are computed. */
  starts: { term: TermSpec; start: ComputedStart }[]
  /** Further tensors of shared factors: in files every linear has a copy. */
  repeats: { factor: Factor; tensor: FactorTensor }[]
  /** Factors of linears that have no rank left: files have them, with no elements. */
  empty: Factor[]
  /** Groups with at least one factor. */
  groups: (OptimizerGroup & { parameters: string[] })[]
  /** Modules that it adapts or trains in full, as configured. */
  targeting: Targeting
  /** Weights of the base that train as copies. */
  trained: WeightSite[]
  /** Names of the classes that its head tells apart; null for an adapter of a model of tokens. */
  labels: readonly string[] | null
  /** Paths of the adapted linears. */
  targets: string[]
  /** Paths of all linears of the model. */
  linears: string[]
}
