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
  /** Standard deviation of the noise on the sum, in each coordinate; 0 is none. */
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

/** Optimizer state of an adapter. */
export interface OptimizerState {
  kind: OptimizerKind
  /** True if SGD has a momentum. Default true. */
  momentum?: boolean
  /** Block-wise 8-bit state of AdamW and Lion, for parameters of 4096 elements and more. Default false. */
  eightBit?: boolean
  /** Bytes of it that may be in memory, the page cache included, at least 1 MiB. Default: all. */
  resident?: number
  /** Folder of the file for the rest. */
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
