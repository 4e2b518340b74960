/** Made by scripts/lists.mjs from the files of operations in native/ops. */

/** Functions of one number; `gelu` uses the approximation by tanh. */
export type Activation = 'silu' | 'gelu' | 'sigmoid' | 'relu2'

/** An operation with its inputs and attributes. Weights go by their names, values by their numbers. */
export type Operation =
  /** out = residual + x */
  | { op: 'add'; x: number; residual: number; out: number }
  /**
   * Causal attention within sequences; with a window, a token attends to at most that many keys, including
   * its own.
   */
  | {
      op: 'attention'
      q: number
      k: number
      v: number
      heads: number
      kvHeads: number
      headDim: number
      scale: number
      window?: number
      out: number
    }
  /** out = x, converting the residual stream to an operand. */
  | { op: 'cast'; x: number; out: number }
  /** out = scale row; default scale 1. */
  | { op: 'embedding'; weight: string; scale?: number; out: number }
  /**
   * Gated delta rule (Yang et al. 2024, arXiv 2412.06464). x holds the queries and keys [keyHeads keyDim
   * each] and the values of all heads, in this order; beta and alpha have one column per head. Queries and
   * keys are divided by their norms, queries also by the root of keyDim. Per head and sequence, the state S
   * [keyDim, valueDim] starts at zero: S = e^g S; S = S + k (sigmoid(beta) (v - S^T k))^T; out = S^T q, where
   * g = -exp(weight) softplus(alpha + bias). Each key head serves heads / keyHeads consecutive heads.
   */
  | {
      op: 'gated_delta_rule'
      x: number
      beta: number
      alpha: number
      weight: string
      bias: string
      heads: number
      keyHeads: number
      keyDim: number
      out: number
    }
  /**
   * out = function(gate) up. If both are the same value, its first half is the gate and its second half is
   * up.
   */
  | { op: 'gated_unit'; gate: number; up: number; function: Activation; out: number }
  /** out = x W^T (+ bias) (+ residual) */
  | { op: 'linear'; x: number; weight: string; bias?: string; residual?: number; out: number }
  /**
   * Selects the rows with a label (training, evaluation) or the requested rows (generation) and multiplies by
   * the head.
   */
  | { op: 'lm_head'; x: number; weight: string }
  /** First node of a part of a model: out = hidden states from the rank with the layers before it. */
  | { op: 'receive'; out: number }
  /** Last node of a part of a model: hands x on to the rank with the layers behind it. */
  | { op: 'send'; x: number }
  /**
   * out = x / rms(x) scale (weight + offset), over the whole row or over groups of columns as wide as the
   * weight; default offset 0.
   */
  | { op: 'rms_norm'; x: number; weight: string; eps: number; scale?: number; offset?: number; out: number }
  /**
   * Rotates q and k with one of the graph's rotations, by default the first; positions restart at every
   * sequence.
   */
  | { op: 'rope'; x: number; heads: number; headDim: number; table?: number; out: number }
  /**
   * out = C conv(B X), where x holds the columns of B, C, and X in this order, and conv is a causal
   * convolution within each column and sequence; weight [cols, taps] (+ bias). The last tap is for the token
   * itself.
   */
  | { op: 'short_conv'; x: number; weight: string; bias?: string; out: number }
  /** out = silu(conv(x)), with the convolution of `short_conv` over all columns of x. */
  | { op: 'silu_conv'; x: number; weight: string; bias?: string; out: number }
  /**
   * out = columns of x from `first` on, or those columns of each of `heads` equal parts of x; the slices of a
   * value must cover each column exactly once.
   */
  | { op: 'slice'; x: number; first: number; heads?: number; out: number }
