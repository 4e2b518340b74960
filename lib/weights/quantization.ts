/** Quantization of frozen weights: options, their spelling in config files, and the requirements of strategies. */
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { flag } from '../core/schema.js'

/** Quantization of frozen weights: those of the linear layers in transformer blocks, or of the embedding and head. */
export type Quantization =
  | { readonly type: 'none' }
  | FourBitQuantization
  | Int8Quantization
  | KeptQuantization

/** 4-bit codes in blocks of 64 weights, as in bitsandbytes: NormalFloat, or floating point with two exponent bits. */
export interface FourBitQuantization {
  readonly type: 'nf4' | 'fp4'
  /** Also quantize the block scales: 4.127 instead of 4.5 bits per weight. */
  readonly doubleQuant: boolean
}

/** 8 bits per weight with one scale per row, as bitsandbytes stores LLM.int8 weights. */
export interface Int8Quantization {
  readonly type: 'int8'
}

/** The blocks of a GGUF file, memory-mapped in place and decoded during multiplication. */
export interface KeptQuantization {
  readonly type: 'keep'
}

/** Quantization of a base: settings of a run, which a strategy may imply. */
export interface TrainingDefaults {
  readonly quantization?: Quantization
  readonly embeddingQuantization?: Quantization
}

export const fourBitSchema = z.strictObject({
  type: z.enum(['nf4', 'fp4']).describe('The format.'),
  doubleQuant: flag().default(true).describe('With NF4 and FP4: quantize the scales of the blocks too.'),
})

/**
 * NF4 weights for `loadModel`.
 * @param options.doubleQuant also quantize the block scales; default true
 * @see Dettmers et al. 2023, arXiv 2305.14314
 */
export function nf4(options: { doubleQuant?: boolean } = {}): FourBitQuantization {
  return Object.freeze(checkedOptions(fourBitSchema, options, 'nf4()', { type: 'nf4' }))
}

/**
 * FP4 weights for `loadModel`: same size as NF4 but less accurate (a third more error on normally distributed weights).
 * @param options.doubleQuant also quantize the block scales; default true
 * @see bitsandbytes' `quantize_fp4`
 */
export function fp4(options: { doubleQuant?: boolean } = {}): FourBitQuantization {
  return Object.freeze(checkedOptions(fourBitSchema, options, 'fp4()', { type: 'fp4' }))
}

/**
 * int8 weights for `loadModel`. Products are computed in floating point, so outliers need no special treatment.
 * @see Dettmers et al. 2022, arXiv 2208.07339
 */
export function int8(): Int8Quantization {
  return Object.freeze({ type: 'int8' })
}

/**
 * Unchanged GGUF blocks for `loadModel`: the file is memory-mapped, and weights are decoded only during multiplication
 * and never requantized. This includes the embedding and the head.
 */
export function keep(): KeptQuantization {
  return Object.freeze({ type: 'keep' })
}

const NONE: Quantization = { type: 'none' }

/** All quantizations. */
export const QUANTIZATIONS: readonly Quantization[] = [
  NONE,
  nf4(),
  nf4({ doubleQuant: false }),
  fp4(),
  fp4({ doubleQuant: false }),
  int8(),
  keep(),
]

/** Default quantization of the embedding and head: at least 16 bits, unless all blocks are kept. */
export function usualForEmbedding(quantization: Quantization): Quantization {
  return quantization.type === 'keep' ? quantization : NONE
}

/** True if the embedding and head have the default quantization for that of the linear layers. */
export function embeddingAsUsual({ quantization = NONE, embeddingQuantization }: TrainingDefaults): boolean {
  const usual = usualForEmbedding(quantization)
  return embeddingQuantization === undefined || sameQuantization(embeddingQuantization, usual)
}

/** Describes both quantizations; omits that of the embedding and head if it is the default. */
export function describeBoth(held: TrainingDefaults): string {
  const { quantization = NONE, embeddingQuantization = NONE } = held
  const words = describeQuantization(quantization)
  if (embeddingAsUsual(held)) return words
  return `${words} with embedding_quantization ${describeQuantization(embeddingQuantization)}`
}

export function sameQuantization(a: Quantization, b: Quantization): boolean {
  return describeQuantization(a) === describeQuantization(b)
}

/** The spelling in a config file. */
export function describeQuantization(quantization: Quantization): string {
  const { type } = quantization
  if (!('doubleQuant' in quantization) || quantization.doubleQuant) return type
  return `{type: ${type}, double_quant: false}`
}

/** The inverse of `describeQuantization`; undefined for unknown text. */
export function quantizationFrom(words: string): Quantization | undefined {
  return QUANTIZATIONS.find((quantization) => describeQuantization(quantization) === words)
}
