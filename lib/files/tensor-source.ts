/** Where a weight lies on disk, described as data: the native loader reads, decodes and quantises it from this. */

/** Of safetensors files. */
const PLAIN = ['F32', 'F16', 'BF16'] as const

/** Of GGUF files. */
const BLOCKS = [
  'Q8_0',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'IQ4_NL',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_XS',
] as const

/** What the native loader can decode; NF4 and NF4_DOUBLE (with double quantisation) come from bitsandbytes. */
export type SourceDtype = (typeof PLAIN)[number] | (typeof BLOCKS)[number] | 'NF4' | 'NF4_DOUBLE'

/** Dtypes of safetensors files that can be loaded as they are. */
export const PLAIN_DTYPES: ReadonlySet<string> = new Set(PLAIN)

/** Types of GGUF files that can be loaded. */
export const GGUF_DTYPES: ReadonlySet<string> = new Set([...PLAIN, ...BLOCKS])

/** A stretch of a file. */
export interface FileSpan {
  file: string
  offset: number
  bytes: number
}

/** What belongs to the codes of a weight that bitsandbytes quantised. */
export interface Nf4Parts {
  /** F32 `[blocks]`; of NF4_DOUBLE one code a block. */
  absmax: FileSpan
  /** F32 `[ceil(blocks / 256)]`, with the mean of all scales; only of NF4_DOUBLE. */
  nestedAbsmax?: FileSpan
  absmaxOffset?: number
  /** Which dtype the weight had, in torch's words. */
  dtype: Nf4Dtype
}

export const NF4_DTYPES = ['bfloat16', 'float16', 'float32'] as const

export type Nf4Dtype = (typeof NF4_DTYPES)[number]

export interface TensorSource {
  /** Hugging Face name. */
  name: string
  /** Path of the file. */
  file: string
  /** Of the first byte, from the start of the file. */
  offset: number
  /** Size of the data. */
  bytes: number
  dtype: SourceDtype
  /** Row-major; the last dimension is contiguous. */
  shape: number[]
  /**
   * Rows are stored permuted per head, for this many heads: within each, `[head_dim / 2, 2]` instead of
   * `[2, head_dim / 2]`. Swapping these two axes back gives the Hugging Face order.
   */
  permutedHeads?: number
  /** Only of NF4 and NF4_DOUBLE, whose `bytes` are codes. */
  nf4?: Nf4Parts
}
