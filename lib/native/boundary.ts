/** Made by scripts/lists.mjs from native/boundary.json. */
import type { Category, Mode, Phase, Precision } from './lists.js'

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
