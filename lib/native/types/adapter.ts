/** Types of what adapters are filled with, and of their optimizer state. */

/**
 * Initial values of a parameter. Random values come from a counter-based generator keyed by (seed, name), so the order
 * does not matter.
 */
export type Fill =
  | { kind: 'zeros' }
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; bound: number; seed: number }
  | { kind: 'normal'; std: number; seed: number }

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
