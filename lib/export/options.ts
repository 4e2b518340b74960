/** Options of writing models, shared by the API and the command line. */
import * as z from 'zod'
import { abortSignal, callback } from '../core/arguments.js'
import { flag, numberWithin, positive, word } from '../core/schema.js'
import type { DatasetConfig } from '../train/dataset.js'
import type { Drift } from './drift.js'

export const MODEL_DTYPES = ['bf16', 'f16', 'f32'] as const
/** The formats of bitsandbytes, for what is held so. */
export const QUANTIZED_DTYPES = ['nf4', 'fp4', 'int8'] as const
export const SAVE_DTYPES = [...MODEL_DTYPES, ...QUANTIZED_DTYPES] as const
/** Default of `maxLoss`. */
export const MAX_LOSS = 0.1
export const EXPORT_FORMATS = ['safetensors', 'gguf', 'gguf-lora', 'ollama'] as const
/** Types of GGUF files. */
export const FILE_TYPES = [...MODEL_DTYPES, 'q8_0'] as const
export const EXPORT_DTYPES = [...FILE_TYPES, ...QUANTIZED_DTYPES] as const
export const MERGE_BASES = ['trained', 'original'] as const

/** Options of `Model.save` and `Adapter.merge`. */
export interface SaveOptions {
  /**
   * Default: 16 bits, `f16` for files that are F16 or quantized GGUF, else `bf16`. `nf4`, `fp4` and `int8`: the codes
   * and scales that the model is held in, as bitsandbytes stores them; weights that adapters change are quantized
   * again.
   */
  dtype?: (typeof SAVE_DTYPES)[number]
  /**
   * The weights to which the adapters are added. `trained` (default): the weights as stored, dequantized, which
   * is what the adapter was trained against. `original`: the weights of the model's files.
   */
  onto?: (typeof MERGE_BASES)[number]
  /**
   * Only of `nf4`, `fp4` and `int8`: the largest share of what the adapters change that may be lost when it is
   * quantized again, from 0 to 1. Default 0.1; beyond it nothing is written. 1 allows any loss.
   */
  maxLoss?: number
  /** Write into a place that exists. Default false: an error. */
  force?: boolean
  /** Largest size of one file of weights, in bytes. Default 5e9. */
  maxShardBytes?: number
  /** Load what was written and compare it with the model and its adapters. Default true. */
  check?: boolean
  /** Text to compare on; default a few lines that come with the package. */
  checkDataset?: DatasetConfig | string
  /** Called as bytes are written, and read back for the check. */
  onProgress?: (progress: WriteProgress) => void
  /** Stops the work; nothing is left half written. */
  signal?: AbortSignal
}

/** Options of `Model.export` and `Adapter.export`. */
export interface ExportOptions extends Omit<SaveOptions, 'dtype'> {
  /**
   * `safetensors`: a folder, as `save` writes it; `gguf`: one file with the adapters merged in; `gguf-lora`: one file
   * with the adapter alone; `ollama`: a folder with a GGUF file and a Modelfile.
   */
  format: (typeof EXPORT_FORMATS)[number]
  /**
   * Default: `f16` for `gguf` and `ollama`, `f32` for `gguf-lora`, as `save` for `safetensors`. `q8_0` (8 bits in
   * blocks of 32) only for `gguf` and `ollama`; `nf4`, `fp4` and `int8` only for `safetensors`.
   */
  dtype?: (typeof EXPORT_DTYPES)[number]
  /** Only of `ollama`: the base and the adapter as two files in place of one merged. Default false. */
  separateAdapter?: boolean
}

/** Progress of writing. */
export interface WriteProgress {
  /** `merge`: adapters into quantized weights; `write`: tensors into files; `check`: reading them back. */
  phase: 'merge' | 'write' | 'check'
  doneBytes: number
  totalBytes: number
}

/** Written files and their properties. */
export interface Written {
  /** Path of the folder or file. */
  output: string
  /** Names of the files, within the folder; of a single file its own. */
  files: string[]
  /** Differences in other programs that load the files, as sentences. Usually empty. */
  remarks: string[]
  /** Distance from the model and its adapters; null when it was not asked for. */
  check: Drift | null
  /** The surviving part of the adapters; null unless they were merged into quantized weights. */
  survival: Survival | null
}

/** The part of the adapters that survives merging into quantized weights. */
export interface Survival {
  /** Share of their change that the written weights still have, by projection: 1 is all of it, 0 nothing. */
  kept: number
  /** Norm of what the written weights differ by from the exact sum, in norms of the change. */
  error: number
  /** The same of every tensor. */
  tensors: { name: string; kept: number; error: number }[]
}

/** An option that was given with a format that does not use it. */
export interface Misfit {
  option: 'separateAdapter' | 'maxShardBytes' | 'maxLoss' | 'dtype'
  value: string | number | boolean
  /** The formats that it is for, in words. */
  formats: string
}

/** Checks the options of an export for contradictions, independent of the model. */
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
  /** Read by `datasetOf`. */
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
