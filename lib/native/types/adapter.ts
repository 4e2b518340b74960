/** Types of adapters: parameters, terms, optimizer state, and steps. */
import type { OptimizerKind, Privacy } from '../lists.js'

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
 * One computation at one linear layer or embedding, as data. The kind is implemented in native/adapters, which names
 * the parameter roles and the numbers, and rejects unknown ones; lib/strategies/terms.ts documents their meaning.
 */
export interface TermSpec {
  kind: string
  /** Path of the node. */
  target: string
  /** Names of parameters by role. Several terms may use the same one (shared factors). */
  parameters: Readonly<Record<string, string | undefined>>
  numbers: Readonly<Record<string, number | undefined>>
}

/**
 * Row i of `a` [rank, in], element i of `d` [1, rank], and column i of `b` [out, rank], all trained: a regularizer
 * keeps the vectors nearly orthogonal, and updates track the importance of every element.
 */
export interface Triplet {
  a: string
  d: string
  b: string
  /** Decays of the moving averages of sensitivity and uncertainty, in [0, 1). */
  beta1: number
  beta2: number
  /** Weight of ||A A^T - I||_F + ||B^T B - I||_F, added to the loss; 0 turns it off. */
  orthogonal: number
}

export interface AdapterSpec {
  parameters: ParameterSpec[]
  /** At most one per node. */
  terms: TermSpec[]
  /** Parameters that replace base weights of the same shape while the adapter is active. Default none. */
  copies?: { parameter: string; weight: string }[]
  /**
   * Before each update, the gradient of the trained `b` [out, rank] becomes dB (A A^T + 1e-8 I)^-1 / scale^2, with the
   * frozen `a` [rank, in]. Default none.
   */
  projections?: { a: string; b: string; scale: number }[]
  /** Default none. */
  triplets?: Triplet[]
  /**
   * What private training clips: gradients of `examples`, or updates of `clients` in a round. Only A and B of low-rank
   * terms and copies of weights can be trained. With copies, or a term at an embedding, plans for examples have one
   * sequence. Default none.
   */
  privacy?: Privacy
}

/** Ranks that a step trains: the first `active` (default all), or with `lastOnly` only the last of these. */
export interface TrainedRanks {
  active?: number
  lastOnly?: boolean
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
 * Initial values of a parameter. Random values come from a counter-based generator keyed by (seed, name), so the order
 * does not matter.
 */
export type Fill =
  | { kind: 'zeros' }
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; bound: number; seed: number }
  | { kind: 'normal'; std: number; seed: number }

/** Optimizer state of an adapter. */
export interface OptimizerState {
  kind: OptimizerKind
  /** Whether SGD has momentum. Default true. */
  momentum?: boolean
  /** Block-wise 8-bit state of AdamW and Lion, for parameters of at least 4096 elements. Default false. */
  eightBit?: boolean
  /** Maximum bytes of state in memory, including the page cache; at least 1 MiB. Default: all. */
  resident?: number
  /** Folder of the file for the rest. */
  folder?: string
  /**
   * Update each parameter during the backward pass (`TrainInput.update`) as soon as its gradient is complete: gradients
   * live in the arena and never exist all at once. Not for private training. Default false.
   */
  inBackward?: boolean
}

/** A tensor of a parameter's optimizer state. */
export interface StateTensor {
  /**
   * `m` and `v` for AdamW, `m` for Lion and SGD; `row` and `column` for Adafactor, or `v` for a vector. 8-bit state
   * stores codes, and the largest magnitude of each block of 256 as `m_absmax`; AdamW's second moment is stored as its
   * square root, `sqrt_v`.
   */
  name: string
  dtype: 'F32' | 'U8'
  shape: number[]
}

export interface OptimizerStep {
  kind: OptimizerKind
  /** Momentum, for SGD. */
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
  /** Global L2 norm above which gradients are scaled down; 0 or less turns clipping off. */
  maxGradNorm: number
  /** Norm of the gradient over all ranks, if this one has only a part of it. Default: that of the adapter's own. */
  gradNorm?: number
  /** Optimizer step, counted from 1. */
  step: number
  /**
   * Update only rows of A and columns of B that got gradients, each with its own update count; see `StepRanks`.
   * Default: update all.
   */
  ranks?: { active: number; lastOnly: boolean; draws: number[] }
}
