/** Options for writing models, shared by the API and the command line. */
import * as z from 'zod'
import { abortSignal, callback } from '../core/arguments.js'
import { flag, numberWithin, positive, word } from '../core/schema.js'
import type { DatasetConfig } from '../train/sources/data-sources.js'
import type { Drift } from './drift.js'

export const MODEL_DTYPES = ['bf16', 'f16', 'f32'] as const
/** bitsandbytes formats, available if the model is held in the same quantization. */
export const QUANTIZED_DTYPES = ['nf4', 'fp4', 'int8'] as const
export const SAVE_DTYPES = [...MODEL_DTYPES, ...QUANTIZED_DTYPES] as const
/** Default of `maxLoss`. */
export const MAX_LOSS = 0.1
export const EXPORT_FORMATS = ['safetensors', 'gguf', 'gguf-lora', 'ollama', 'vllm'] as const
/** Data types of GGUF files. */
export const FILE_TYPES = [...MODEL_DTYPES, 'q8_0'] as const
export const EXPORT_DTYPES = [...FILE_TYPES, ...QUANTIZED_DTYPES] as const
export const MERGE_BASES = ['trained', 'original'] as const

/** Options of `Model.save` and `Adapter.merge`. */
export interface SaveOptions {
  /**
   * Default: `f16` for F16 files and quantized GGUF, else `bf16`. `nf4`, `fp4`, and `int8` write the codes and scales
   * of a model held in that quantization, as bitsandbytes stores them; weights that adapters change are quantized
   * again.
   */
  dtype?: (typeof SAVE_DTYPES)[number]
  /**
   * The weights to which the adapters are added. `trained` (default): the weights as held in memory, dequantized, which
   * the adapter was trained against. `original`: the weights in the model's files.
   */
  onto?: (typeof MERGE_BASES)[number]
  /**
   * For `nf4`, `fp4`, and `int8` only: the largest fraction of the adapters' change that may be lost to requantization,
   * from 0 to 1. Default 0.1; if more would be lost, nothing is written. 1 allows any loss.
   */
  maxLoss?: number
  /** Overwrite existing files at the destination. Default false: an existing destination is an error. */
  force?: boolean
  /** Maximum size of a weight file, in bytes. Default 5e9. */
  maxShardBytes?: number
  /** Load the result and compare it with the model and its adapters. Default true. */
  check?: boolean
  /** Text to compare on. Default: a few lines included in the package. */
  checkDataset?: DatasetConfig | string
  /** Called as bytes are written, and as they are read back for the check. */
  onProgress?: (progress: WriteProgress) => void
  /** Cancels the operation; no partial file is left behind. */
  signal?: AbortSignal | undefined
}

/** Options of `Model.export` and `Adapter.export`. */
export interface ExportOptions extends Omit<SaveOptions, 'dtype'> {
  /**
   * `safetensors`: a folder, as written by `save`; `gguf`: one file with the adapters merged; `gguf-lora`: one file
   * with the adapter alone; `ollama`: a folder with a GGUF file and a Modelfile; `vllm`: a folder with the adapter
   * alone, as a LoRA with one rank and one alpha, which are all that vLLM reads.
   */
  format: (typeof EXPORT_FORMATS)[number]
  /**
   * Default: `f16` for `gguf` and `ollama`, `f32` for `gguf-lora`, as in `save` for `safetensors`. `q8_0` (8 bits in
   * blocks of 32) is only for `gguf` and `ollama`; `nf4`, `fp4`, and `int8` are only for `safetensors`; `vllm` is
   * always `f32`.
   */
  dtype?: (typeof EXPORT_DTYPES)[number]
  /** For `ollama` only: write base and adapter as two files instead of one merged file. Default false. */
  separateAdapter?: boolean
}

/** Progress of writing a model. */
export interface WriteProgress {
  /**
   * `merge`: merging adapters into quantized weights; `write`: writing tensors to files; `check`: reading them back.
   */
  phase: 'merge' | 'write' | 'check'
  doneBytes: number
  totalBytes: number
}

/** The written files and how they compare with the model. */
export interface Written {
  /** Path of the folder or file. */
  output: string
  /** File names within the folder, or the name of a single file. */
  files: string[]
  /** Differences in how other programs run the files, as sentences. Usually empty. */
  remarks: string[]
  /** Deviation from the model and its adapters; null if `check` is false. */
  check: Drift | null
  /** How much of the adapters survived; null unless they were merged into quantized weights. */
  survival: Survival | null
}

/** How much of the adapters survives merging into quantized weights. */
export interface Survival {
  /**
   * Fraction of the adapters' change present in the written weights, measured by projection: 1 is all of it, 0 none.
   */
  kept: number
  /** Norm of the difference between the written weights and the exact sum, relative to the norm of the change. */
  error: number
  /** The same values for each tensor. */
  tensors: { name: string; kept: number; error: number }[]
}

/** An option given with a format that does not use it. */
export interface Misfit {
  option: 'separateAdapter' | 'maxShardBytes' | 'maxLoss' | 'dtype'
  value: string | number | boolean
  /** The formats it applies to, in words. */
  formats: string
}

/** Checks the options of an export for contradictions, independently of the model. */
export function misfitOf({
  format,
  dtype,
  maxShardBytes,
  maxLoss,
  separateAdapter,
}: Pick<ExportOptions, 'format' | Misfit['option']>): Misfit | undefined {
  if (separateAdapter && format !== 'ollama')
    return { option: 'separateAdapter', value: true, formats: 'ollama' }
  if (maxShardBytes !== undefined && format !== 'safetensors')
    return { option: 'maxShardBytes', value: maxShardBytes, formats: 'safetensors' }
  if (maxLoss !== undefined && format !== 'safetensors')
    return { option: 'maxLoss', value: maxLoss, formats: 'safetensors' }
  if (dtype !== undefined && dtype !== 'f32' && format === 'vllm')
    return { option: 'dtype', value: dtype, formats: 'safetensors, gguf, gguf-lora, and ollama' }
  if (isQuantizedDtype(dtype) && format !== 'safetensors')
    return { option: 'dtype', value: dtype, formats: 'safetensors' }
  if (dtype === 'q8_0' && format !== 'gguf' && format !== 'ollama')
    return { option: 'dtype', value: dtype, formats: 'gguf and ollama' }
  return undefined
}

export function isQuantizedDtype(dtype: string | undefined): dtype is (typeof QUANTIZED_DTYPES)[number] {
  return QUANTIZED_DTYPES.some((one) => one === dtype)
}

const shared = {
  onto: word(MERGE_BASES).default('trained'),
  force: flag().default(false),
  maxShardBytes: positive().optional(),
  maxLoss: numberWithin(0, 1, 'a number from 0 to 1').optional(),
  check: flag().default(true),
  /** Parsed by `datasetOf`. */
  checkDataset: z.unknown().optional(),
  onProgress: callback<NonNullable<SaveOptions['onProgress']>>().optional(),
  signal: abortSignal().optional(),
}

export const saveSchema = z.strictObject({ dtype: word(SAVE_DTYPES).optional(), ...shared })

export const exportSchema = z.strictObject({
  format: word(EXPORT_FORMATS),
  dtype: word(EXPORT_DTYPES).optional(),
  separateAdapter: flag().default(false),
  ...shared,
})

export type CheckedSaveOptions = z.output<typeof saveSchema>
export type CheckedExportOptions = z.output<typeof exportSchema>
