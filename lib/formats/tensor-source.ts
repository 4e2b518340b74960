/** Location of a weight on disk, as data from which the native loader reads, decodes, and quantizes it. */
import { GGML_TYPES_BY_NAME } from './ggml-types.js'
import type { HeadOrder } from './head-order.js'

/** Types in safetensors files. */
const PLAIN = ['F32', 'F16', 'BF16'] as const

/** Block types in GGUF files. */
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

/** Types in folders quantized with bitsandbytes; "double" means that the scales are quantized, too. */
export type QuantizedDtype = 'NF4' | 'NF4_DOUBLE' | 'FP4' | 'FP4_DOUBLE' | 'INT8'

/** Formats that the native loader can decode. */
export type SourceDtype = (typeof PLAIN)[number] | BlockDtype | QuantizedDtype

/** Dtypes in safetensors files that can be loaded directly. */
export const PLAIN_DTYPES: ReadonlySet<string> = new Set(PLAIN)

/** Types in GGUF files that can be loaded. */
export const GGUF_DTYPES: ReadonlySet<string> = new Set([...PLAIN, ...BLOCKS])

/** GGUF dtypes stored in blocks with their own scales. */
export type BlockDtype = (typeof BLOCKS)[number]

export function isBlockDtype(dtype: string): dtype is BlockDtype {
  return BLOCKS.some((one) => one === dtype)
}

/**
 * The dtype by which the storage of a weight is chosen. Blocks of which value heads have parts cannot be reordered, so
 * they cannot be kept, and count as a dtype of their own.
 */
function storedDtype({ dtype, headOrder }: Pick<TensorSource, 'dtype' | 'headOrder'>): string {
  const elements = GGML_TYPES_BY_NAME.get(dtype)?.blockElements ?? 1
  return headOrder?.columns && headOrder.size % elements !== 0 ? `reordered ${dtype}` : dtype
}

/** `storedDtype` by name. @param missing for names without a tensor */
export function dtypesIn(
  tensors: ReadonlyMap<string, TensorSource>,
  missing = 'F32',
): (name: string) => string {
  return (name) => {
    const source = tensors.get(name)
    return source === undefined ? missing : storedDtype(source)
  }
}

/** A byte range in a file. */
export interface FileSpan {
  file: string
  offset: number
  bytes: number
}

/** Scales of a weight quantized with bitsandbytes. */
export interface Scales {
  /** F32 `[blocks]`; for INT8 `[rows]`; with double quantization one code per block. */
  absmax: FileSpan
  /** F32 `[ceil(blocks / 256)]`, along with the mean of all scales; only with double quantization. */
  nestedAbsmax?: FileSpan
  absmaxOffset?: number
  /** Original dtype of the weight, by its torch name; unknown for INT8. */
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
   * Number of heads whose rows are permuted: within each, `[head_dim / 2, 2]` instead of `[2, head_dim / 2]`. Swapping
   * these two axes gives the Hugging Face order.
   */
  permutedHeads?: number
  /** Order of value heads in the file. */
  headOrder?: HeadOrder
  /** True for a stored vector of -exp(value). */
  negatedExp?: true
  /** Value that was added to the elements of a stored vector. */
  shift?: number
  /** Only for quantized dtypes, whose `bytes` are codes. */
  scales?: Scales
}
