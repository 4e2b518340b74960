/** Quantization of the frozen weights: options, their spelling in config files, and the requirements of strategies. */
import * as z from 'zod'
import { checkedOptions } from '../core/arguments.js'
import { flag } from '../core/schema.js'

/** Quantization of frozen weights: the linears of the blocks, or embedding and head. */
export type Quantization =
  | { readonly type: 'none' }
  | FourBitQuantization
  | Int8Quantization
  | KeptQuantization

/** 4-bit blocks of 64 weights, as bitsandbytes holds them: NormalFloat, or floating point with two bits of exponent. */
export interface FourBitQuantization {
  readonly type: 'nf4' | 'fp4'
  /** Quantize the block scales too: 4.127 instead of 4.5 bits per weight. */
  readonly doubleQuant: boolean
}

/** 8 bits a weight with one scale a row, as bitsandbytes holds the weights of LLM.int8. */
export interface Int8Quantization {
  readonly type: 'int8'
}

/** As the blocks of a GGUF file, which stay where they are: mapped, and decoded as they are multiplied. */
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
 * @param options.doubleQuant quantize the block scales too; default true
 * @see Dettmers et al. 2023, arXiv 2305.14314
 */
export function nf4(options: { doubleQuant?: boolean } = {}): FourBitQuantization {
  return Object.freeze(checkedOptions(fourBitSchema, options, 'nf4()', { type: 'nf4' }))
}

/**
 * FP4 weights for `loadModel`: as large as NF4, and further from the weights (a third more error on normal ones).
 * @param options.doubleQuant quantize the block scales too; default true
 * @see bitsandbytes' `quantize_fp4`
 */
export function fp4(options: { doubleQuant?: boolean } = {}): FourBitQuantization {
  return Object.freeze(checkedOptions(fourBitSchema, options, 'fp4()', { type: 'fp4' }))
}

/**
 * int8 weights for `loadModel`. Products are computed in floating point, so no outliers have to be taken out.
 * @see Dettmers et al. 2022, arXiv 2208.07339
 */
export function int8(): Int8Quantization {
  return Object.freeze({ type: 'int8' })
}

/**
 * The blocks of a GGUF file as they are, for `loadModel`: the file is mapped, and nothing is decoded before it is
 * multiplied or quantized a second time. Embedding and head stay too.
 */
export function keep(): KeptQuantization {
  return Object.freeze({ type: 'keep' })
}

const NONE: Quantization = { type: 'none' }

/** Every quantization there is. */
export const QUANTIZATIONS: readonly Quantization[] = [
  NONE,
  nf4(),
  nf4({ doubleQuant: false }),
  fp4(),
  fp4({ doubleQuant: false }),
  int8(),
  keep(),
]

/** Default quantization of embedding and head: 16 bits or more, unless all blocks are kept. */
export function usualForEmbedding(quantization: Quantization): Quantization {
  return quantization.type === 'keep' ? quantization : NONE
}

/** True if embedding and head have the default quantization for the linears' one. */
export function embeddingAsUsual({ quantization = NONE, embeddingQuantization }: TrainingDefaults): boolean {
  const usual = usualForEmbedding(quantization)
  return embeddingQuantization === undefined || sameQuantization(embeddingQuantization, usual)
}

/** Words for both; of embedding and head nothing where they are held as usual. */
export function describeBoth(held: TrainingDefaults): string {
  const { quantization = NONE, embeddingQuantization = NONE } = held
  const words = describeQuantization(quantization)
  if (embeddingAsUsual(held)) return words
  return `${words} with embedding_quantization ${describeQuantization(embeddingQuantization)}`
}

export function sameQuantization(a: Quantization, b: Quantization): boolean {
  return describeQuantization(a) === describeQuantization(b)
}

/** In the words of a config file. */
export function describeQuantization(quantization: Quantization): string {
  const { type } = quantization
  if (!('doubleQuant' in quantization) || quantization.doubleQuant) return type
  return `{type: ${type}, double_quant: false}`
}

/** The reverse of `describeQuantization`; undefined for words that it does not write. */
export function quantizationFrom(words: string): Quantization | undefined {
  return QUANTIZATIONS.find((quantization) => describeQuantization(quantization) === words)
}
