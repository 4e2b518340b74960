/** How the frozen weights are held: options, their words in config files, and what a strategy may demand of them. */

/** How the frozen linears are held. */
export type Quantization = { readonly type: 'none' } | Nf4Quantization

/** NormalFloat 4-bit blocks of 64 weights, as bitsandbytes stores them. */
export interface Nf4Quantization {
  readonly type: 'nf4'
  /** Quantise the block scales too: 4.127 instead of 4.5 bits per weight. */
  readonly doubleQuant: boolean
}

/** Settings of a run that a strategy may stand for. */
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

export function sameQuantization(a: Quantization, b: Quantization): boolean {
  return describeQuantization(a) === describeQuantization(b)
}

/** In the words of a config file. */
export function describeQuantization(quantization: Quantization): string {
  if (quantization.type === 'none') return 'none'
  return quantization.doubleQuant ? 'nf4' : '{type: nf4, double_quant: false}'
}

/** The reverse of `describeQuantization`; undefined for words that it does not write. */
export function quantizationFrom(words: string): Quantization | undefined {
  const known: Quantization[] = [{ type: 'none' }, nf4(), nf4({ doubleQuant: false })]
  return known.find((quantization) => describeQuantization(quantization) === words)
}
