/**
 * The full list of what the addon exports: descriptions go in, numbers come out, tensors stay below. This file is the
 * contract between lib/ and native/addon/; the rest of the TypeScript never touches the addon but through it.
 */
import type { TensorSource } from '../formats/model-files.js'
import type { Graph } from '../graph/graph.js'
import type {
  AdapterArray,
  Category,
  FactorForm,
  FileLock,
  FileType,
  OptimizerKind,
  Phase,
  PlanOptions,
  Precision,
  Privacy,
  StorageFormat,
} from './lists.js'
import { loadAddon } from './load.js'

export {
  type AdapterArray,
  CATEGORIES,
  type Category,
  type FileType,
  type OptimizerKind,
  type Phase,
  type PlanOptions,
  type Precision,
  type StorageFormat,
} from './lists.js'

/** One trainable or frozen array of an adapter: `[rows, cols]` f32, row-major. */
export interface ParameterSpec {
  name: string
  rows: number
  cols: number
  trained: boolean
  /** Index into `OptimizerStep.groups`; default 0. */
  group?: number
}

/**
 * One kind of maths at one linear or embedding, as data. The kind is a room of native/adapters, which names the roles
 * of parameters and the numbers, and refuses what it does not know; lib/strategies/terms.ts says what they mean.
 */
export interface TermSpec {
  kind: string
  /** Path of the node. */
  target: string
  /** Entries of the parameter list by role. Several terms may name the same one (shared factors). */
  parameters: Readonly<Record<string, string | undefined>>
  numbers: Readonly<Record<string, number | undefined>>
}

/**
 * Row i of `a` [rank, in], element i of `d` [1, rank] and column i of `b` [out, rank], all trained: a regularizer keeps
 * the vectors near orthogonal, and updates follow the importance of every element.
 */
export interface Triplet {
  a: string
  d: string
  b: string
  /** Decays of the moving means of sensitivity and uncertainty, in [0, 1). */
  beta1: number
  beta2: number
  /** Weight of ||A A^T - I||_F + ||B^T B - I||_F, added to what is minimized; 0 is off. */
  orthogonal: number
}

export interface AdapterSpec {
  parameters: ParameterSpec[]
  /** At most one at a node. */
  terms: TermSpec[]
  /** Parameters that stand in for base weights of the same shape while the adapter is on. Default none. */
  copies?: { parameter: string; weight: string }[]
  /**
   * Before each update the gradient of the trained `b` [out, rank] becomes dB (A A^T + 1e-8 I)^-1 / scale^2, with the
   * frozen `a` [rank, in]. Default none.
   */
  projections?: { a: string; b: string; scale: number }[]
  /** Default none. */
  triplets?: Triplet[]
  /**
   * Unit of clipping in private training: the gradients of `examples`, or the changes of `clients` in a round. Only A
   * and B of low-rank terms and copies of weights may train. With copies, or a term at an embedding, plans of examples
   * have one sequence. Default none.
   */
  privacy?: Privacy
}

/** Ranks that a step trains: the first `active` (default all), or with `lastOnly` only the last of those. */
export interface TrainedRanks {
  active?: number
  lastOnly?: boolean
}

/** The end of a round of private training. */
export interface Release extends TrainedRanks {
  /** 32 bytes; deviates are a function of (key, round, coordinate) alone. */
  key: Uint8Array
  round: number
  /** Of the noise on the sum, in each coordinate; 0 is none. */
  deviation: number
  /** Contributions that were expected, which the sum is divided by. */
  cohort: number
}

/**
 * Initial values of a parameter; random values are computed by counter from (seed, name), so the order does not matter.
 */
export type Fill =
  | { kind: 'zeros' }
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; bound: number; seed: number }
  | { kind: 'normal'; std: number; seed: number }

/** Bytes of one category. */
export interface PlanRow {
  category: Category
  bytes: number
}

/** A step of a plan: what it is, what is live meanwhile, and what it multiplies. */
export interface PlanMoment {
  phase: Phase
  kernel: string
  /** Path of the node in the model; empty for what belongs to none. */
  node: string
  /** Bytes of the arena that are live. */
  liveBytes: number
  /** Multiply-adds of products with base weights, at capacity; those of adapters and of attention are not in it. */
  multiplyAdds: number
}

/** Planned bytes. The rows are what is live at the peak and add up to `peakBytes`. */
export interface PlanReport {
  peakBytes: number
  rows: PlanRow[]
  /** Bytes of the one arena (activations, loss, workspace, and gradients of updates in the backward pass), exact. */
  arenaBytes: number
  /** Path and phase of the step with the highest live bytes, e.g. `backward model.layers.29.mlp`. */
  peakAt: string
  /** The steps of the plan with the largest arena, in order; made at every look. */
  timeline: PlanMoment[]
  trainableParameters: number
  totalParameters: number
  /** Of a paged base: bytes that each call of the plan with the largest arena reads from the disk. */
  pagedReadBytes: number
  /** Of activations: bytes on the disk, which each call of a training plan writes and reads. */
  offloadedBytes: number
  /** Of paged optimizer state: bytes on the disk, which each update reads and writes. */
  pagedStateBytes: number
}

/** Totals over the launches of one kernel. */
export interface KernelCounts {
  kernel: string
  launches: number
  /** Read from memory and written to it, each operand once a launch. */
  bytesMoved: number
  /** The most that a launch needs. */
  workspaceBytes: number
}

/** Work on a device that computes nothing. */
export interface WorkCounts {
  /** Every kernel there is, launched or not. */
  kernels: KernelCounts[]
  uploadedBytes: number
  /** By what the host reads. */
  downloadedBytes: Record<string, number>
  /** Activations that are offloaded, and that come back. */
  stashedBytes: number
  fetchedBytes: number
}

/** The work of a micro-batch of full size. */
export interface StepCounts extends WorkCounts {
  /** The optimizer's update after the last micro-batch; absent if gradients are used up in the backward pass. */
  update?: WorkCounts
}

/** A packed micro-batch; sequence s is tokens cuSeqlens[s] .. cuSeqlens[s + 1] - 1. */
export interface MicroBatch {
  tokens: Int32Array
  cuSeqlens: Int32Array
  /** Id that each position should predict, or -100; already shifted. */
  labels: Int32Array
}

export interface TrainInput extends MicroBatch {
  /** Multiplies every token's loss gradient: 1 / labeled tokens of the whole accumulation window. */
  lossScale: number
  /** Counters behind dropout. */
  seed: number
  step: number
  microStep: number
  /** Ranks in use, from the first; default all. */
  activeRank?: number
  /** Of those, only the last gets gradients. Default false. */
  lastRankOnly?: boolean
  /**
   * Of the gradient of each sequence, a mean over its own labels, where the adapter is trained privately by `examples`:
   * the clipped gradients are added to the round's sum, and the adapter's gradient is left alone.
   */
  clippingNorm?: number
  /**
   * Made in the backward pass, where the adapter's state is `inBackward`, and there only; without clipping. With a loss
   * that is not finite nothing is updated. Rejects with DIVERGED for a gradient that is not: what came before it in the
   * backward pass is updated then, as it is when the job is canceled.
   */
  update?: OptimizerStep
}

export interface LossResult {
  /** Sum over labeled positions, nats. */
  lossSum: number
  /** Labeled positions. */
  count: number
  /** Norms of the sequences' gradients before clipping, where they are clipped. */
  norms?: Float64Array
  /** Norm of the gradient, where it was used up by an update. */
  gradNorm?: number
}

/** Optimizer state of an adapter. */
export interface OptimizerState {
  kind: OptimizerKind
  /** Of SGD: whether it has one. Default true. */
  momentum?: boolean
  /** Of AdamW and Lion: block-wise 8-bit numbers, for parameters of 4096 elements and more. Default false. */
  eightBit?: boolean
  /** Bytes of it that may be in memory, the page cache included, at least 1 MiB. Default: all. */
  resident?: number
  /** Of the file for the rest. */
  folder?: string
  /**
   * Parameters are updated in the backward pass (`TrainInput.update`), each as soon as its gradient is whole: gradients
   * lie in the arena, and never all at once. Not of private training. Default false.
   */
  inBackward?: boolean
}

/** A tensor of a parameter's state. */
export interface StateTensor {
  /**
   * `m` and `v` of AdamW, `m` of Lion and SGD; `row` and `column` of Adafactor, or `v` of a vector. Of 8-bit numbers
   * the codes, with the largest magnitude of each 256 beside them as `m_absmax`; of AdamW's second moment they hold the
   * root, `sqrt_v`.
   */
  name: string
  dtype: 'F32' | 'U8'
  shape: number[]
}

export interface OptimizerStep {
  kind: OptimizerKind
  /** Of SGD the momentum. */
  beta1: number
  beta2: number
  epsilon: number
  /** Settings of Adafactor. */
  adafactor?: {
    epsilon: number
    leastScale: number
    clipThreshold: number
    decayRate: number
    scaleParameter: boolean
  }
  /** Settings by `ParameterSpec.group`. */
  groups: { learningRate: number; weightDecay: number }[]
  /** Global L2 norm above which gradients are scaled down; 0 or less is off. */
  maxGradNorm: number
  /** Optimizer steps from 1. */
  step: number
  /**
   * Only rows of A and columns of B that got gradients move, each with its own count of updates; see `StepRanks`.
   * Default: all move.
   */
  ranks?: { active: number; lastOnly: boolean; draws: number[] }
}

export interface Sampling {
  /** 0 is greedy. */
  temperature: number
  topK: number
  topP: number
  seed: number
  /** Counter of the draw. */
  position: number
}

export interface ForwardInput {
  tokens: Int32Array
  /** Tokens already in the KV cache; the new ones follow them. */
  past: number
  /** Rows of `tokens` whose logits are wanted, ascending; usually just the last, and none while a prompt goes in. */
  rows: Int32Array
  /** Return the logits `[rows, vocab]` (tests, scoring). */
  wantLogits?: boolean
  /** Draw the next token from the last row. */
  sampling?: Sampling
}

export interface ForwardResult {
  token?: number
  logits?: Float32Array
}

/** A job that can be canceled: `cancel()` makes the promise reject with code ABORTED at the next safe point. */
export interface Job<Result> {
  promise: Promise<Result>
  cancel(): void
}

export interface ReadWeightOptions {
  type: FileType
  /** First row and number of rows. */
  begin: number
  count: number
  /**
   * Adapters whose delta at the node `target` is added: weight * scale * B A, of the first `rank` ranks (0 and by
   * default all), summed in fp32 and rounded once.
   */
  adapters: { adapter: NativeAdapter; weight?: number; rank?: number }[]
  target?: string
  /**
   * Writes rows (of a bias: elements) in the order that GGUF files of the llama architecture have, for as many heads.
   */
  permutedHeads?: number
}

export interface MergeWeightOptions {
  /** Location of the weight to which the adapters are added: the same as `held`, or its unquantized source. */
  from: NativeModel
  /** Location of the weight without the adapters, in the format of the merged result. */
  held: NativeModel
  adapters: ReadWeightOptions['adapters']
  target: string
}

/**
 * The part of a weight change that survives quantization: sums over its elements, where d is the adapters' change
 * and q what is changed in the quantized weight.
 */
export interface MergeSums {
  /** |d|^2 */
  change: number
  /** <q, d> */
  kept: number
  /** |q - d|^2 */
  error: number
}

/** Options of `NativeModel.decompose`. */
export interface DecomposeOptions {
  /** `svd`: A and B have the roots of the largest singular values; `qr`: B has orthonormal columns. */
  form: FactorForm
  rank: number
  /** Of `svd`: products with this many blocks of vectors; default as many as it takes. */
  blocks?: number
  /** Of `svd`: of the vectors that it begins with. Default 0. */
  seed?: number
  /** Source of the weight: the difference between the source and the weight is decomposed. */
  source?: TensorSource
  /** Taken apart is what these change of the weight at node `target`. */
  adapters: ReadWeightOptions['adapters']
  target?: string
}

/** Factors of a matrix. */
export interface Decomposition {
  /** `[rank, in]` */
  a: Float32Array
  /** `[out, rank]` */
  b: Float32Array
  /** Sum of the squares of the matrix's elements. */
  square: number
  /** The same of B A, which is nearest to the matrix. */
  kept: number
}

/** A weight as bitsandbytes stores it: bytes of codes and of scales, little-endian. */
export interface PackedWeight {
  /** `[ceil(elements / 2)]`, element 2j in the high nibble; of int8 `[elements]`, signed. */
  codes: Uint8Array
  /** fp32 `[blocks]`, of int8 `[rows]`; with double quantization one code a block. */
  absmax: Uint8Array
  /** fp32 `[ceil(blocks / 256)]`. */
  nestedAbsmax?: Uint8Array
  absmaxOffset?: number
}

/**
 * Handles are of no use from the moment `dispose` is called. What they hold goes when jobs in flight have ended, on the
 * engine's thread, since giving memory back takes a while; the promise resolves then.
 */
export interface NativeModel {
  /** Reads one weight from its file into `format`, in chunks and once; never holds a full-precision copy beside it. */
  loadWeight(name: string, source: TensorSource, format: StorageFormat): Job<void>
  /**
   * Takes all weights from a weight file, where they stay. Rejects with FILE_FORMAT for a file that cannot be read, or
   * is not of these formats and this key. With `paged` they are in memory within a budget of so many bytes only, 0
   * standing for one that is chosen; rejects with CONFIG for one that is too small.
   */
  mapWeights(
    path: string,
    key: string,
    formats: Readonly<Record<string, StorageFormat>>,
    paged?: number,
  ): Job<{
    /** The file system keeps its files in memory, so nothing is saved by paging. */
    livesInMemory: boolean
  }>
  /**
   * Bytes of a paged base that are in memory now, the page cache included, as the system counts them; -1 if it does
   * not.
   */
  pagedBytes(): number
  /**
   * Rows of a loaded weight in a file's type; quantized weights are dequantized first. Rejects with CONFIG for numbers
   * that the type cannot hold.
   */
  readWeight(name: string, options: ReadWeightOptions): Job<Uint8Array>
  /** Makes a weight of another model with adapters in it, quantized as it is held there; once, like `loadWeight`. */
  mergeWeight(name: string, options: MergeWeightOptions): Job<MergeSums>
  /** Factors whose product comes near a loaded weight, what its format lost of it, or what an adapter changes of it. */
  decompose(name: string, options: DecomposeOptions): Job<Decomposition>
  /** A quantized weight. */
  packed(name: string): Job<PackedWeight>
  /** Names of declared weights that have not been loaded. */
  missing(): string[]
  /**
   * Memory of a session over the loaded model, with adapters whose optimizer keeps `state`, by default AdamW's.
   * Throws CONFIG while weights are missing, and what `createSession` rejects with for plans that cannot be.
   */
  plan(
    adapters: { adapter: NativeAdapter; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
  ): PlanReport
  dispose(): Promise<void>
}

/**
 * A weight file in the making: a model's weights as they are held in memory. Rejects with WRITE when the disk refuses.
 */
export interface NativeWeightFile {
  /** Reads one weight from its file, as `loadWeight` does, and writes it; it is not kept in memory. */
  store(name: string, source: TensorSource): Job<void>
  /** Writes a loaded weight of the model. */
  copy(name: string): Job<void>
  /** Ends the file, which counts for nothing before, and brings it to the disk. */
  finish(): Job<void>
  dispose(): Promise<void>
}

/** Its arrays cannot be reached while a job writes them: that throws CONFIG until the job's promise settles. */
export interface NativeAdapter {
  fill(name: string, fill: Fill): void
  /** Fills a parameter with the values of a loaded base weight. */
  copyWeight(name: string, model: NativeModel, weight: string): Job<void>
  /** Fills a magnitude with the norms of the rows that it stands for, the other values being as they are. */
  fillRowNorms(name: string, model: NativeModel): Job<void>
  /** Arrays of a parameter: all but `value` if it trains, those of importance if it is in a triplet. */
  arrays(name: string): AdapterArray[]
  /** Copies an array out, or as much of it as goes into `out`, from element `begin` on, and returns that. */
  read(name: string, array: AdapterArray, out?: Float32Array, begin?: number): Float32Array
  write(name: string, array: AdapterArray, values: Float32Array): void
  zeroGradients(): Job<void>
  /** Optimizer state of a parameter; empty if it is not trained. All values are zero before the first step. */
  state(name: string): StateTensor[]
  /** Copies bytes of it out, little-endian; as `read`. */
  readState(name: string, tensor: string, out?: Uint8Array, begin?: number): Uint8Array
  writeState(name: string, tensor: string, bytes: Uint8Array): void
  /**
   * Back to before the first step: gradients, state and importances are zero, and the latter are followed again.
   * @param state of the optimizer that goes on; default: as before
   */
  restart(state?: OptimizerState): Job<void>
  /** Frees the importances; steps no longer follow them. */
  dropImportances(): void
  /**
   * Scores of all triplets, one linear after the other: sensitivity * uncertainty of d_i, with its mean over row i of A
   * and over column i of B. Rejects with CONFIG once the importances were dropped.
   */
  tripletScores(): Job<Float64Array>
  /** Sets `d` to 0 in the triplets where `keep`, in the order of the scores, is 0. */
  pruneTriplets(keep: Uint8Array): Job<void>
  /** An empty sum of private training; of clients, what they start from and the server's moments are kept. */
  beginRound(): Job<void>
  /** Back to what the round began with, and to an optimizer that has made no step. */
  beginClient(): Job<void>
  /**
   * Adds what a client changed, clipped; the norm before clipping, of which one that is not finite counts for nothing.
   */
  addClient(options: TrainedRanks & { clippingNorm: number }): Job<number>
  /** Brings back what the round began with, and makes (sum + noise) / cohort the gradient of the next step. */
  release(options: Release): Job<void>
  /** Regularizes, clips, updates the trained parameters, follows importances and zeroes the gradients. */
  optimizerStep(options: OptimizerStep): Job<{ gradNorm: number }>
  dispose(): Promise<void>
}

/** Plans over one model and a list of adapters, sharing one arena of the largest plan's size. */
export interface NativeSession {
  report(plan: string): PlanReport
  /** The report of the whole session: the largest over its plans, by category. */
  total(): PlanReport
  /** Forward and backward of one micro-batch; gradients add up in the (single) adapter, or are used up by an update. */
  trainStep(plan: string, input: TrainInput): Job<LossResult>
  evaluate(plan: string, input: MicroBatch): Job<LossResult>
  /**
   * Sums of ||output||^2 of the first adapter at each of its terms, over all tokens of the evaluations so far by plans
   * with `outputNorms`. Rejects with UNSUPPORTED for a term without a rank.
   */
  outputNorms(): Job<Float64Array>
  forward(plan: string, input: ForwardInput): Job<ForwardResult>
  dispose(): Promise<void>
}

export interface CpuInfo {
  /** Level in use. */
  isa: string
  /** Levels this machine can run. */
  levels: string[]
  threads: number
  cores: number
  /** bf16 operands pay on this machine. */
  prefersBf16: boolean
}

/** Kernels to be timed on inputs that are made up. */
export type KernelStudy = KernelSubject & {
  precision: Precision
  /** Each kernel runs for some milliseconds in every round; the best round counts. */
  rounds: number
}

export type KernelSubject =
  /** `forward`, `input_gradient` and `adapter_gradient` of a linear [out, in] with a low-rank term. */
  | { kind: 'linear'; tokens: number; out: number; in: number; rank: number; format: StorageFormat }
  /** `forward` and `backward` of sequences of equal length. */
  | {
      kind: 'attention'
      sequences: number
      length: number
      heads: number
      kvHeads: number
      headDim: number
      /** As of the graph's node. */
      window?: number
    }
  /** `forward_backward`: head, loss, and the gradient at the head's input. */
  | { kind: 'head_loss'; tokens: number; vocab: number; hidden: number; format: StorageFormat }

export interface KernelTimes {
  /** Operations of a call, a multiply-add being two, and its shortest time. */
  kernels: { name: string; operations: number; seconds: number }[]
  /**
   * Operations per second of all threads in a loop of multiply-adds, measured between the rounds; null where the level
   * has no such loop.
   */
  peak: number | null
  /** Of `head_loss`: bytes that the first call made resident; absent where the system does not tell. */
  extraBytes?: number
}

export interface NativeAddon {
  version: string
  cpu(): CpuInfo
  /** `isa` forces a level; `threads` sizes the pool. Only before or between jobs. */
  configure(options: { threads?: number; isa?: string }): void
  /** Bytes now allocated, by category. */
  allocated(): Record<Category, number>
  /** Resident set now and its peak, bytes (VmRSS, VmHWM). */
  residentBytes(): {
    rss: number
    peak: number
    /** The process's own part of `rss`, and the pages of files. */
    anonymous: number
    fileBacked: number
  }
  /** Resets the peak to the present value; false where the system does not allow it. */
  resetPeak(): boolean
  /** Bytes of a file that are in memory, whoever brought them there (mincore); -1 where the system does not say. */
  cachedBytes(path: string): number
  /**
   * Locks an open file until its descriptor is closed or the process dies (flock), without waiting: `held` where
   * another descriptor, of this process or another, has the lock.
   */
  lockFile(descriptor: number): FileLock
  createModel(graph: Graph): NativeModel
  /** `trainable` adapters also hold gradients, and from their first step on optimizer state: by default AdamW's. */
  createAdapter(spec: AdapterSpec, options: { trainable: boolean; state?: OptimizerState }): NativeAdapter
  /**
   * Plans, allocates, and makes the tables that steps look up. Throws CONFIG while weights of the model are missing.
   * `weights`: what each adapter's output counts for where they add up; default 1 for all, as training needs. `ranks`:
   * how many ranks of each are in use outside training, 0 being all; default all.
   */
  createSession(
    model: NativeModel,
    adapters: NativeAdapter[],
    plans: Record<string, PlanOptions>,
    weights?: readonly number[],
    ranks?: readonly number[],
  ): Job<NativeSession>
  /**
   * Creates a file for the weights of a model, and takes its room on the disk. `key` says what they are made of: who
   * reads the file has to name the same. `putAway`: keep no more than a weight of it in the page cache. Throws WRITE.
   */
  createWeightFile(
    model: NativeModel,
    options: {
      path: string
      key: string
      formats: Readonly<Record<string, StorageFormat>>
      putAway?: boolean
    },
  ): NativeWeightFile
  /**
   * The same plans without weights: how much memory a run would take. `formats` gives each weight's storage, and
   * `paged` is as of `mapWeights`.
   */
  plan(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
    threads?: number,
    paged?: number,
  ): PlanReport
  /** Launches, bytes moved and workspace of one of these plans, for training or evaluation, and of the optimizer's update. Throws as `plan`. */
  countStep(
    graph: Graph,
    formats: Readonly<Record<string, StorageFormat>>,
    adapters: { spec: AdapterSpec; trainable: boolean; state?: OptimizerState }[],
    plans: Record<string, PlanOptions>,
    threads: number | undefined,
    plan: string,
  ): StepCounts
  /** Rejects with SHAPE for sizes that are none, or that the format cannot hold. */
  timeKernels(study: KernelStudy): Job<KernelTimes>
  /** `peak` of the kernels' times alone. */
  arithmeticPeak(options: { precision: Precision; rounds: number }): Job<number | null>
  /** Graph, plan, arena or times by kernel (so far, all plans) of a session as text, for debugging. */
  dump(session: NativeSession, plan: string, what: 'graph' | 'plan' | 'arena' | 'times'): string
  /** Cancels this environment's jobs and waits for them; the last environment also joins the engine thread. */
  shutdown(): void
}

let loaded: NativeAddon | undefined

/** The addon, loaded on first use; throws NativeLoadError with what was tried and how to mend it. */
export function addon(): NativeAddon {
  if (loaded === undefined) {
    const native = loadAddon() as NativeAddon
    process.once('exit', () => native.shutdown())
    loaded = native
  }
  return loaded
}
