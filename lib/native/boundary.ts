/** Made by scripts/lists.mjs from native/boundary.json. */
import type { Category, Mode, OptimizerKind, Phase, Precision, Privacy } from './lists.js'
import type { NativeMatcher } from './types/grammar.js'

/** Options of a plan. */
export interface PlanOptions {
  mode: Mode
  /** Maximum tokens per call. */
  tokens: number
  /** Maximum sequences per call. */
  sequences: number
  /**
   * Maximum head rows per call: labeled positions (train, evaluate), or positions whose logits are read
   * (forward).
   */
  headRows: number
  precision: Precision
  /** `forward` only: capacity of the KV cache in tokens, at least 1. */
  kvCapacity?: number
  /**
   * `train` and `evaluate`: bytes of logits computed at a time, at least one tile of rows. Default 48 MiB.
   */
  logitsBytes?: number
  /** `train` only: recompute each block in the backward pass instead of keeping its activations. */
  recompute?: boolean
  /** With `recompute`: keep the inputs of blocks in a file. */
  offload?: boolean
  /** Folder of that file; not needed for planning. */
  offloadFolder?: string
  /** With `recompute`: keep the attention outputs instead of recomputing them. */
  keepAttention?: boolean
  /** `evaluate` only: measure the output that the first adapter adds at each layer. */
  outputNorms?: boolean
  /** `train` only: each labeled position has its own weight in the loss, given with the call. */
  rowWeights?: boolean
  /**
   * With `rowWeights`: the weights are given once the log-probabilities are known, and logits are recomputed.
   */
  twoPasses?: boolean
  /**
   * `train` and `evaluate`: count the labeled positions whose label has the largest logit, the first one on a
   * tie.
   */
  countsHits?: boolean
}

/** Bytes of one category. */
export interface PlanRow {
  category: Category
  /** In the memory of the computing device. */
  bytes: number
  /** In pinned host memory, alongside a GPU; absent if zero. */
  pinnedBytes?: number
}

/** A step of a plan: its kernel, the memory in use, and its work. */
export interface PlanMoment {
  phase: Phase
  kernel: string
  /** Path of the node in the model; empty if it belongs to none. */
  node: string
  /** Arena bytes in use. */
  liveBytes: number
  /**
   * Multiply-adds of products with base weights at full capacity, excluding those of adapters and attention.
   */
  multiplyAdds: number
}

/** Planned bytes. The rows are the bytes in use at the peak and add up to `peakBytes`. */
export interface PlanReport {
  peakBytes: number
  /** Pinned host memory used alongside a GPU, in bytes; the sum of the rows' `pinnedBytes`. */
  pinnedBytes: number
  rows: PlanRow[]
  /**
   * Exact size of the arena (activations, loss, workspace, and gradients of updates in the backward pass), in
   * bytes.
   */
  arenaBytes: number
  /** Path and phase of the step with the highest memory use, e.g. `backward model.layers.29.mlp`. */
  peakAt: string
  /** The steps of the plan with the largest arena, in order; computed on each access. */
  timeline: PlanMoment[]
  trainableParameters: number
  totalParameters: number
  /**
   * Bytes of a paged base that each call of the plan with the largest arena reads from disk, or on a GPU from
   * pinned memory.
   */
  pagedReadBytes: number
  /**
   * Bytes of activations on disk or in pinned memory that each call of a training plan writes and reads.
   */
  offloadedBytes: number
  /** Bytes of paged optimizer state on disk or in pinned memory that each update reads and writes. */
  pagedStateBytes: number
  /**
   * Whether file pages are released as soon as they are dropped, as on Linux; elsewhere the system decides
   * when.
   */
  dropsPages: boolean
}

/** All tokens by id. */
export interface TokenTable {
  /** The bytes of all tokens, one after the other. */
  bytes: Uint8Array
  /** Where each token ends in them; a token without bytes is never allowed. */
  ends: Int32Array
  /** 1 for special tokens, which texts do not have. */
  special: Uint8Array
}

/** States as lists of edges and of calls; those of state `s` are `begin[s]` to `begin[s + 1] - 1`. */
export interface GrammarTables {
  start: number
  edgeBegin: Int32Array
  /**
   * Bytes `edgeLow[e]` to `edgeHigh[e]`, after which `edgeTo[e]` is next; in ascending order, without
   * overlaps.
   */
  edgeLow: Int32Array
  edgeHigh: Int32Array
  edgeTo: Int32Array
  callBegin: Int32Array
  /** A rule begins at `callStart[c]`, and at its end `callTo[c]` is next. */
  callStart: Int32Array
  callTo: Int32Array
  /** 1 where a rule may end. */
  accepts: Int32Array
}

/** Settings of Adafactor. */
export interface AdafactorSettings {
  /** Of the means of squares: their decay at step t is 1 - t^decayRate. */
  decayRate: number
  /** Added to squared gradients. */
  epsilon: number
  /** Minimum root mean square of a parameter, if it scales the rate. */
  leastScale: number
  /** Maximum root mean square of an update. */
  clipThreshold: number
  /** Whether the rate is relative to the parameter's root mean square. */
  scaleParameter: boolean
}

/** Settings shared by the parameters of one group. */
export interface GroupSettings {
  learningRate: number
  weightDecay: number
}

/** Ranks that a step trains. */
export interface TrainedRanks {
  /** Number of leading ranks in use; 0 (default) is all. */
  active?: number
  /** Whether only the last of them gets gradients. */
  lastOnly?: boolean
}

/** Ranks that a step trains, each with its own count of updates. */
export interface RankDraws extends TrainedRanks {
  /** `draws[b - 1]`: number of steps so far with b ranks in use, including this one. */
  draws: number[]
}

/** An update of the trained parameters of an adapter. */
export interface OptimizerStep {
  kind: OptimizerKind
  /** Momentum, for SGD. */
  beta1: number
  beta2: number
  epsilon: number
  adafactor?: AdafactorSettings
  /** By `ParameterSpec.group`. */
  groups: GroupSettings[]
  /** Global L2 norm above which gradients are scaled down; 0 or less turns clipping off. */
  maxGradNorm: number
  /**
   * Norm of the gradient over all ranks, if this one has only a part of it. Default: that of the adapter's
   * own.
   */
  gradNorm?: number
  /** Optimizer step, counted from 1. */
  step: number
  /** Update only rows of A and columns of B that got gradients. Default: update all. */
  ranks?: RankDraws
}

/** Kind and storage of the optimizer state of an adapter. */
export interface StateSpec {
  kind: OptimizerKind
  /** Whether SGD has momentum. Default true. */
  momentum?: boolean
  /** Block-wise 8-bit state of AdamW and Lion, for parameters of at least 4096 elements. Default false. */
  eightBit?: boolean
  /**
   * Maximum bytes of state in memory, including the page cache; at least 1 MiB. Default: all, which is -1.
   */
  resident?: number
  /** Folder of the file for the rest. */
  folder?: string
  /**
   * Update each parameter during the backward pass (`TrainInput.update`) as soon as its gradient is complete:
   * gradients live in the arena and never exist all at once. Not for private training. Default false.
   */
  inBackward?: boolean
}

/** The end of a round of private training. */
export interface Release extends TrainedRanks {
  /** 32 bytes; the noise is a function of (key, round, coordinate) only. */
  key: Uint8Array
  round: number
  /** Standard deviation of the noise added to each coordinate of the sum; 0 for none. */
  deviation: number
  /** Expected number of contributions, by which the sum is divided. */
  cohort: number
}

/**
 * The part of a weight update that survives quantization: sums over its elements, where d is the adapters'
 * update and q is the change in the quantized weight.
 */
export interface MergeSums {
  /** |d|^2 */
  change: number
  /** <q, d> */
  kept: number
  /** |q - d|^2 */
  error: number
}

/** Factors of a matrix. */
export interface Decomposition {
  /** `[rank, in]` */
  a: Float32Array
  /** `[out, rank]` */
  b: Float32Array
  /** Sum of the squares of the matrix's elements. */
  square: number
  /** The same for B A, the approximation of the matrix. */
  kept: number
}

/** A weight as bitsandbytes stores it: bytes of codes and of scales, little-endian. */
export interface PackedWeight {
  /** `[ceil(elements / 2)]`, element 2j in the high nibble; for int8 `[elements]`, signed. */
  codes: Uint8Array
  /** fp32 `[blocks]`, for int8 `[rows]`; with double quantization one code per block. */
  absmax: Uint8Array
  /** fp32 `[ceil(blocks / 256)]`. */
  nestedAbsmax?: Uint8Array
  absmaxOffset?: number
}

/** A packed micro-batch; sequence s is tokens cuSeqlens[s] .. cuSeqlens[s + 1] - 1. */
export interface MicroBatch {
  tokens: Int32Array
  cuSeqlens: Int32Array
  /** Token id to predict at each position, or -100; already shifted. */
  labels: Int32Array
}

/** A micro-batch of a training step. */
export interface TrainInput extends MicroBatch {
  /** Factor on every token's loss gradient: 1 / labeled tokens of the whole accumulation window. */
  lossScale: number
  /**
   * Weight of each labeled position in order, replacing `lossScale`; only, and required, for plans with
   * `rowWeights`.
   */
  weights?: Float32Array
  /** Divides the logits; default 1. */
  temperature?: number
  /** Label smoothing: fraction of each label spread over the vocabulary; default 0. */
  labelSmoothing?: number
  /** Alpha of NEFTune's noise on the embeddings; default 0, no noise. */
  embeddingNoise?: number
  /** Counters for random dropout and noise. */
  seed: number
  step: number
  microStep: number
  /** Number of leading ranks in use; default all, which is 0. */
  activeRank?: number
  /** Whether only the last of those ranks gets gradients. Default false. */
  lastRankOnly?: boolean
  /**
   * Clipping bound for the gradient of each sequence (a mean over its own labels), if the adapter is trained
   * privately by `examples`: clipped gradients are added to the round's sum, and the adapter's gradient is
   * unchanged.
   */
  clippingNorm?: number
  /**
   * True for the last micro-batch of this rank in a step. Its gradients are summed over ranks while the
   * backward pass goes on; `sumGradients` waits for that. With an update, a batch without tokens is that of a
   * rank that has no micro-batch in the step. Default false.
   */
  lastOfStep?: boolean
  /**
   * Update to make during the backward pass, if and only if the adapter's state is `inBackward`; without
   * clipping. If the loss is not finite, nothing is updated. Rejects with DIVERGED for a gradient that is not
   * finite; parameters whose gradients came earlier in the backward pass have then been updated, as when the
   * job is canceled.
   */
  update?: OptimizerStep
}

/** Input of an evaluation. */
export interface EvaluateInput extends MicroBatch {
  /** Divides the logits; default 1. */
  temperature?: number
  /** Return `logProbs`. */
  wantLogProbs?: boolean
  /** Return `logits`; rejects with CONFIG if they exceed what the plan holds at a time. */
  wantLogits?: boolean
}

/** What a training step or an evaluation computed. */
export interface LossResult {
  /** Sum over labeled positions, nats. */
  lossSum: number
  /** Number of labeled positions. */
  count: number
  /** Gradient norms of the sequences before clipping, if they are clipped. */
  norms?: Float64Array
  /** Norm of the gradient, if an update was made in the backward pass. */
  gradNorm?: number
  /** Log-probability of each labeled position in order; for plans with `rowWeights`, or if requested. */
  logProbs?: Float32Array
  /** Logits of each labeled position `[positions, labels]`; for evaluations, if requested. */
  logits?: Float32Array
  /** Labeled positions whose label has the largest logit; for plans that count them. */
  hits?: number
}

/** Numbers that are added to the logits of tokens. */
export interface LogitBias {
  ids: Int32Array
  /** As long as `ids`. */
  values: Float32Array
}

/** How a token is drawn. */
export interface Sampling {
  /** 0 is greedy. */
  temperature: number
  /** 0: all. */
  topK: number
  topP: number
  seed: number
  /** Counter for the random draw. */
  position: number
  /**
   * Subtracted from a token's logit for each time that it is among `drawn`, before the temperature. Default
   * 0.
   */
  frequencyPenalty?: number
  /** Subtracted once from the logit of each token among `drawn`. Default 0. */
  presencePenalty?: number
  /** The answer so far, if there are penalties. */
  drawn?: Int32Array
  /** Added to the logits after the penalties. */
  logitBias?: LogitBias
  /** Only tokens that may come next are drawn; the drawn one moves it on. */
  rules?: NativeMatcher
}

/**
 * Log-probabilities in nats in the model's own distribution, which temperature, penalties, biases, and
 * grammars do not change.
 */
export interface OwnLogProbs {
  /** Log-probability of the drawn token. */
  logProb: number
  /** The likeliest tokens, in descending order; ties by id. */
  top: Int32Array
  topLogProbs: Float64Array
}

/** New tokens of a text whose earlier ones are in the KV cache. */
export interface CachedText {
  tokens: Int32Array
  /** Number of tokens already in the KV cache, followed by the new ones. */
  past: number
  /**
   * Maximum tokens that the cached text may reach, which selects the frequencies in models with separate ones
   * for long texts; must be the same in all calls for one text. Default: the tokens so far, including this
   * call.
   */
  reach?: number
}

/** How the token after a text is drawn, and what is told of it. */
export interface Drawing {
  /** Sample the next token, from the last row. */
  sampling?: Sampling
  /** Return the log-probability of that token. */
  wantLogProb?: boolean
  /** Return `own`, with this many of the likeliest tokens. */
  topLogProbs?: number
}

/** New tokens of one of several texts that share a cache. */
export interface TextInput extends CachedText, Drawing {
  /** First token of the text's own part of the cache. */
  begin: number
  /** Numbers of the session's adapters that act on the text, ascending. */
  adapters: Int32Array
}

/** New tokens of a text. */
export interface ForwardInput extends CachedText, Drawing {
  /**
   * Rows of `tokens` whose logits are needed, ascending; usually only the last, and none while processing a
   * prompt.
   */
  rows: Int32Array
  /** Return the logits `[rows, vocab]` (tests, scoring). */
  wantLogits?: boolean
}

/** What came of new tokens of a text. */
export interface ForwardResult {
  /** The drawn token. */
  token?: number
  /** Log-probability of `token` in nats: the softmax of logits / temperature over the whole vocabulary. */
  logProb?: number
  own?: OwnLogProbs
  /** `[rows, vocab]`, if requested. */
  logits?: Float32Array
}

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
 * One computation at one linear layer or embedding, as data. The kind is implemented in native/adapters,
 * which names the parameter roles and the numbers, and rejects unknown ones; lib/strategies/terms.ts
 * documents their meaning.
 */
export interface TermSpec {
  kind: string
  /** Path of the node. */
  target: string
  /** Parameters by role. Several terms may use the same one (shared factors). */
  parameters: Record<string, string>
  numbers: Record<string, number>
}

/**
 * A parameter that replaces a base weight of the same shape while the adapter is active: for full
 * fine-tuning, and for modules trained alongside a low-rank adapter.
 */
export interface WeightCopy {
  weight: string
  parameter: string
}

/**
 * Before each update, the gradient of the trained `b` [out, rank] becomes dB (A A^T + 1e-8 I)^-1 / scale^2,
 * with the frozen `a` [rank, in].
 */
export interface GradientProjection {
  a: string
  b: string
  scale: number
}

/**
 * Row i of `a` [rank, in], element i of `d` [1, rank], and column i of `b` [out, rank], all trained and in no
 * other triplet: a regularizer keeps the vectors nearly orthogonal, and updates track the importance of every
 * element.
 */
export interface TripletSpec {
  a: string
  d: string
  b: string
  /** Decays of the moving averages of sensitivity and uncertainty, in [0, 1). */
  beta1: number
  beta2: number
  /** Weight of ||A A^T - I||_F + ||B^T B - I||_F, added to the loss; 0 turns it off. */
  orthogonal: number
}

/** An adapter as data. */
export interface AdapterSpec {
  parameters: ParameterSpec[]
  /** At most one per node. */
  terms: TermSpec[]
  /** Default none. */
  copies?: WeightCopy[]
  /** Default none. */
  projections?: GradientProjection[]
  /** Default none. */
  triplets?: TripletSpec[]
  /**
   * What private training clips: gradients of `examples`, or updates of `clients` in a round. Only A and B of
   * low-rank terms and copies of weights can be trained. With copies, or a term at an embedding, plans for
   * examples have one sequence. Default none.
   */
  privacy?: Privacy
}

/** Totals over the launches of one kernel. */
export interface KernelCounts {
  kernel: string
  launches: number
  /** Bytes read and written, counting each operand once per launch. */
  bytesMoved: number
  /** Maximum workspace of a launch. */
  workspaceBytes: number
  /** Multiply-adds of products; 0 for memory-bound kernels. */
  multiplyAdds: number
}

/** Work counted on a device that does not compute. */
export interface WorkCounts {
  /** All kernels, launched or not. */
  kernels: KernelCounts[]
  uploadedBytes: number
  /** By the purpose of the read. */
  downloadedBytes: Record<string, number>
  /** Bytes of activations offloaded, and fetched back. */
  stashedBytes: number
  fetchedBytes: number
}

/** The work of a full micro-batch. */
export interface StepCounts extends WorkCounts {
  /**
   * The optimizer's update after the last micro-batch; absent without training, and if updates are made in
   * the backward pass.
   */
  update?: WorkCounts
}

/** The processor, and how the engine uses it. */
export interface CpuInfo {
  /** Instruction-set level in use. */
  isa: string
  /** Levels that this machine supports. */
  levels: string[]
  threads: number
  cores: number
  /** Whether bf16 operands are faster on this machine. */
  prefersBf16: boolean
}

/** Properties of a GPU that determine the workspace of its kernels. */
export interface CardSizes {
  /** Compute capability times ten. */
  sm: number
  multiprocessors: number
  /** Maximum shared memory per block. */
  sharedBytes: number
}

/** An NVIDIA GPU reported by the driver. */
export interface CudaCard extends CardSizes {
  /** As in `cuda:N`. */
  number: number
  name: string
  /** Address on the bus of the machine, the same for all processes. */
  bus: string
  memoryBytes: number
  /** Why it cannot be used; empty if it can. */
  reason: string
}

/** CUDA on this machine. */
export interface CudaReport {
  /** True if there is a GPU that can be used. */
  available: boolean
  /** CUDA version supported by the driver; empty without a driver. */
  version: string
  /** Why CUDA is unavailable, one reason per attempt. */
  reasons: string[]
  cards: CudaCard[]
}

/** Compressed code in the kernel pack. */
export interface PackedImage {
  /** In the file. */
  offset: number
  /** Bytes there. */
  stored: number
  /** Bytes once it is inflated. */
  bytes: number
}

/** The compressed kernels that a GPU needs. */
export interface PackedKernels {
  /** The kernel pack. */
  path: string
  images: PackedImage[]
}

/** One of them, inflated. */
export interface InflatedImage {
  /** As in the pack. */
  offset: number
  bytes: Uint8Array
}

/** A library of MPI that can be opened. */
export interface MpiLibrary {
  name: string
  version: string
}

/** Available MPI libraries. */
export interface MpiReport {
  /** Libraries that can be opened, by file name, with their own version strings. */
  libraries: MpiLibrary[]
  /** System messages for those that cannot be opened. */
  reasons: string[]
}

/** The library for communication between GPUs. */
export interface NcclReport {
  /** Path or file name; empty if it cannot be used. */
  library: string
  version: string
  /** Why it cannot be used; empty if it can. */
  reason: string
}

/** This process's rank among those that train together. */
export interface JoinedRanks {
  rank: number
  size: number
  /** Including its version. */
  library: string
}
