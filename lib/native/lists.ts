/** Made by scripts/lists.mjs from native/lists.json. */

/** Modes of plans; `forward` keeps a KV cache and serves generation (prefill and decode). */
export type Mode = 'train' | 'evaluate' | 'forward'

/**
 * Arrays of an adapter's parameter; sensitivity and uncertainty are of triplets, and zero before the first
 * step.
 */
export type AdapterArray = 'value' | 'gradient' | 'sensitivity' | 'uncertainty'

/** Decompositions of a weight into factors. */
export type FactorForm = 'svd' | 'qr'

/**
 * Results of locking a file: `held` where another descriptor has the lock, `unsupported` where the file
 * system has no locks.
 */
export type FileLock = 'taken' | 'held' | 'unsupported'

/** Phases of a plan's steps. */
export type Phase = 'forward' | 'recompute' | 'backward'

/** Types of the operands of matrix products, as resolved; sums are fp32 either way. */
export type Precision = 'f32' | 'bf16'

/** Units whose contributions private training clips, one by one. */
export type Privacy = 'none' | 'examples' | 'clients'

/** Kinds of optimizers. */
export type OptimizerKind = 'adamw' | 'sgd' | 'lion' | 'adafactor'

/** Categories of memory; `paged_weights` is the part of a paged base's file that may be in memory. */
export const CATEGORIES = [
  'weights',
  'quantization_constants',
  'paged_weights',
  'adapters',
  'gradients',
  'optimizer',
  'activations',
  'kv_cache',
  'loss',
  'workspace',
] as const
/** One of them. */
export type Category = (typeof CATEGORIES)[number]

/**
 * Kinds of memory: the host's, that of the host which is pinned for copies to a device, and a device's own.
 */
export type Place = 'host' | 'pinned' | 'device'

/** Element or block types of a file that weights are written to. */
export type FileType = 'f32' | 'bf16' | 'f16' | 'q8_0'

/**
 * Formats of a weight in memory; those called double also quantize the absmax values. The last ones are the
 * blocks of GGUF files. Weight files hold the number of a format, so the order stays.
 */
export type StorageFormat =
  | 'f32'
  | 'bf16'
  | 'f16'
  | 'nf4'
  | 'nf4_double'
  | 'fp4'
  | 'fp4_double'
  | 'int8'
  | 'q8_0'
  | 'q4_0'
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'iq4_nl'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_xs'

/** Options of a plan. */
export interface PlanOptions {
  mode: Mode
  /** Most tokens of one call. */
  tokens: number
  /** Most sequences of one call. */
  sequences: number
  /**
   * Most head rows of one call: labeled positions (train, evaluate), or positions whose logits are read
   * (forward).
   */
  headRows: number
  precision: Precision
  /** `forward` only: tokens that the KV cache holds. There at least 1. */
  kvCapacity?: number
  /**
   * `train` and `evaluate`: bytes of logits that are formed at a time, of one tile of rows at least. Default
   * 48 MiB.
   */
  logitsBytes?: number
  /** `train` only: each block runs again in the backward pass, and its activations are not kept. */
  recompute?: boolean
  /** With `recompute`: the inputs of blocks wait in a file. */
  offload?: boolean
  /** The folder of that file, which a plan alone does not need. */
  offloadFolder?: string
  /** With `recompute`: the output of attention is kept, so that attention does not run again. */
  keepAttention?: boolean
  /** `evaluate` only: measures the output that the first adapter adds at each linear. */
  outputNorms?: boolean
  /** `train` only: each labeled position has its own weight in the loss, given with the call. */
  rowWeights?: boolean
  /**
   * With `rowWeights`: the weights are given after the log-probabilities are known, and the logits are formed
   * again.
   */
  twoPasses?: boolean
}
