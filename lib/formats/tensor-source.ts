/** Location of a weight on disk, as data: the native loader reads, decodes, and quantizes it from this. */

/** Types of safetensors files. */
const PLAIN = ['F32', 'F16', 'BF16'] as const

/** Types of GGUF files. */
export const BLOCKS = [
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

/** Types of folders that bitsandbytes quantized; "double" means that the scales are quantized too. */
export type QuantizedDtype = 'NF4' | 'NF4_DOUBLE' | 'FP4' | 'FP4_DOUBLE' | 'INT8'

/** Formats that the native loader decodes. */
export type SourceDtype = (typeof PLAIN)[number] | BlockDtype | QuantizedDtype

/** Dtypes of safetensors files that can be loaded as they are. */
export const PLAIN_DTYPES: ReadonlySet<string> = new Set(PLAIN)

/** Types of GGUF files that can be loaded. */
export const GGUF_DTYPES: ReadonlySet<string> = new Set([...PLAIN, ...BLOCKS])

/** Dtypes of GGUF files that come in blocks with scales of their own. */
export type BlockDtype = (typeof BLOCKS)[number]

export function isBlockDtype(dtype: string): dtype is BlockDtype {
  return BLOCKS.some((one) => one === dtype)
}

/** A stretch of a file. */
export interface FileSpan {
  file: string
  offset: number
  bytes: number
}

/** Scales of a weight quantized by bitsandbytes. */
export interface Scales {
  /** F32 `[blocks]`, of INT8 `[rows]`; of the doubles one code a block. */
  absmax: FileSpan
  /** F32 `[ceil(blocks / 256)]`, with the mean of all scales; only of the doubles. */
  nestedAbsmax?: FileSpan
  absmaxOffset?: number
  /** Original dtype of the weight, in torch's names; unknown for INT8. */
  dtype?: TorchDtype
}

export const TORCH_DTYPES = ['bfloat16', 'float16', 'float32'] as const

export type TorchDtype = (typeof TORCH_DTYPES)[number]

export interface TensorSource {
  /** Hugging Face name. */
  name: string
  /** Path of the file. */
  file: string
  /** Position of the first byte, from the start of the file. */
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
  /** Elements of a vector are stored with this added. */
  shift?: number
  /** Only of quantized dtypes, whose `bytes` are codes. */
  scales?: Scales
}
