/** Options of writing models, shared by the API and the command line. */
import * as z from 'zod'
import { flag, positive, word } from '../schema.js'
import type { DatasetConfig } from '../train/data.js'
import type { Drift } from './drift.js'

export const MODEL_DTYPES = ['bf16', 'f16', 'f32'] as const
/** Of `Model.save`, which also writes what is held in NF4 as it is. */
export const SAVE_DTYPES = [...MODEL_DTYPES, 'nf4'] as const
export const EXPORT_FORMATS = ['safetensors', 'gguf', 'gguf-lora', 'ollama'] as const
export const EXPORT_DTYPES = [...MODEL_DTYPES, 'q8_0'] as const
export const MERGE_BASES = ['trained', 'original'] as const

/** Options of `Model.save` and `Adapter.merge`. */
export interface SaveOptions {
  /**
   * Default: 16 bits, `f16` for files that are F16 or quantised GGUF, else `bf16`. `nf4`: the codes and scales that the
   * model is held in, as bitsandbytes stores them; without adapters.
   */
  dtype?: (typeof SAVE_DTYPES)[number]
  /**
   * What the adapters are added to. `trained` (default): the weights as they are held, quantised ones dequantised, which
   * is what the adapter was trained against. `original`: the weights of the model's files.
   */
  onto?: (typeof MERGE_BASES)[number]
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
   * `safetensors`: a folder, as `save` writes it; `gguf`: one file with the adapters merged in; `gguf-lora`: one file with
   * the adapter alone; `ollama`: a folder with a GGUF file and a Modelfile.
   */
  format: (typeof EXPORT_FORMATS)[number]
  /**
   * Default: `f16` for `gguf` and `ollama`, `f32` for `gguf-lora`, as `save` for `safetensors`. `q8_0` (8 bits in blocks of
   * 32) only for `gguf` and `ollama`.
   */
  dtype?: (typeof EXPORT_DTYPES)[number]
  /** Only of `ollama`: the base and the adapter as two files in place of one merged. Default false. */
  separateAdapter?: boolean
}

/** How far writing has got. */
export interface WriteProgress {
  /** `write`: tensors into files; `check`: reading them back. */
  phase: 'write' | 'check'
  doneBytes: number
  totalBytes: number
}

/** What was written. */
export interface Written {
  /** Path of the folder or file. */
  output: string
  /** Names of the files, within the folder; of a single file its own. */
  files: string[]
  /** What other programs do otherwise with what was written, in words. Mostly empty. */
  remarks: string[]
  /** Distance from the model and its adapters; null when it was not asked for. */
  check: Drift | null
}

/** What an option is for, where it was given with a format that has no use for it. */
export interface Misfit {
  option: 'separateAdapter' | 'maxShardBytes' | 'dtype'
  value: string | number | boolean
  /** The formats that it is for, in words. */
  formats: string
}

/** Whether the options of an export contradict each other; nothing of it depends on the model. */
export function misfitOf({
  format,
  dtype,
  maxShardBytes,
  separateAdapter,
}: Pick<ExportOptions, 'format' | 'dtype' | 'maxShardBytes' | 'separateAdapter'>): Misfit | undefined {
  if (separateAdapter && format !== 'ollama')
    return { option: 'separateAdapter', value: true, formats: 'ollama' }
  if (maxShardBytes !== undefined && format !== 'safetensors')
    return { option: 'maxShardBytes', value: maxShardBytes, formats: 'safetensors' }
  if (dtype === 'q8_0' && format !== 'gguf' && format !== 'ollama')
    return { option: 'dtype', value: dtype, formats: 'gguf and ollama' }
  return undefined
}

const shared = {
  onto: word(MERGE_BASES).default('trained'),
  force: flag().default(false),
  maxShardBytes: positive().optional(),
  check: flag().default(true),
}

export const saveSchema = z.strictObject({ dtype: word(SAVE_DTYPES).optional(), ...shared })

export const exportSchema = z.strictObject({
  format: word(EXPORT_FORMATS),
  dtype: word(EXPORT_DTYPES).optional(),
  separateAdapter: flag().default(false),
  ...shared,
})
