/** Settings of a training run that a strategy may stand for; QLoRA is the one that needs them. */

/** How the frozen linears are held. */
export type Quantization = { readonly type: 'none' } | Nf4Quantization

/** NormalFloat 4-bit blocks of 64 weights, as bitsandbytes stores them. */
export interface Nf4Quantization {
  readonly type: 'nf4'
  /** Quantise the block scales too: 4.127 instead of 4.5 bits per weight. */
  readonly doubleQuant: boolean
}

export interface TrainingDefaults {
  readonly quantization?: Quantization
}

/**
 * NF4 weights for `loadModel`.
 * @param options.doubleQuant quantise the block scales too; default true
 * @see Dettmers et al. 2023, arXiv 2305.14314
 */
export function nf4(options: { doubleQuant?: boolean } = {}): Nf4Quantization {
  return Object.freeze({ type: 'nf4', doubleQuant: options.doubleQuant ?? true })
}
