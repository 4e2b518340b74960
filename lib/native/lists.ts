/** Made by scripts/lists.mjs from native/lists.json. */

/** Modes of plans; `forward` keeps a KV cache and serves generation (prefill and decode). */
export type Mode = 'train' | 'evaluate' | 'forward'

/**
 * Arrays of an adapter's parameter; sensitivity and uncertainty exist for triplets, and start at zero.
 */
export type AdapterArray = 'value' | 'gradient' | 'sensitivity' | 'uncertainty'

/** Decompositions of a weight into factors. */
export type FactorForm = 'svd' | 'qr'

/**
 * Results of locking a file: `taken` on success, `held` if another descriptor has the lock, `unsupported` if
 * the file system has no locks.
 */
export type FileLock = 'taken' | 'held' | 'unsupported'

/** Phases of a plan's steps. */
export type Phase = 'forward' | 'recompute' | 'backward'

/** Resolved operand type of matrix products; sums are always fp32. */
export type Precision = 'f32' | 'bf16'

/** Units whose contributions are clipped individually in private training. */
export type Privacy = 'none' | 'examples' | 'clients'

/** Kinds of optimizers. */
export type OptimizerKind = 'adamw' | 'sgd' | 'lion' | 'adafactor'

/** Categories of memory; `paged_weights` is the memory budget of a paged base. */
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

/** Kinds of memory: host memory, host memory pinned for copies to a device, and device memory. */
export type Place = 'host' | 'pinned' | 'device'

/** Element or block types for writing weights to a file. */
export type FileType = 'f32' | 'bf16' | 'f16' | 'q8_0'

/**
 * Formats of a weight in memory; those called double also quantize the absmax values. The last ones are GGUF
 * block types. Weight files store the number of a format, so the order must not change.
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

/** Launchers of MPI by the way they connect ranks: Open MPI's own, or any that uses PMI or PMIx. */
export type MpiLauncher = 'open_mpi' | 'pmi' | 'pmix'

/** Tokens between positions at which operations keep their state, besides the end of a text. */
export const STATE_BLOCKS: Readonly<Record<string, number>> = {
  gated_delta_rule: 512,
  short_conv: 64,
  silu_conv: 64,
}
