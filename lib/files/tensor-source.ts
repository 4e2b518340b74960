/** Where a weight lies on disk, described as data: the native loader reads, decodes and quantises it from this. */

const DTYPES = [
  'F32',
  'F16',
  'BF16',
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

export type SourceDtype = (typeof DTYPES)[number]

/** What the native loader can decode. */
export const SOURCE_DTYPES: ReadonlySet<string> = new Set<SourceDtype>(DTYPES)

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
}
