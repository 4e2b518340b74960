/**
 * A model that is held in NF4 as a Hugging Face folder in the format of bitsandbytes, which transformers loads as it is:
 * the very codes and scales that are held, so that loading and saving changes no bit.
 */
import type { BaseModel } from '../base.js'
import { ConfigError, InternalError } from '../errors.js'
import {
  CODE_TABLE,
  isStoredNf4,
  NF4_BLOCK,
  NF4_NESTED_BLOCK,
  NF4_STATE,
  SCALE_TABLE,
  storedNf4,
  tableHash,
} from '../files/bnb.js'
import { type ModelFolderOptions, writeModelFolder } from '../files/model-folder.js'
import type { SafetensorsInput } from '../files/safetensors.js'
import type { Nf4Dtype } from '../files/tensor-source.js'
import type { PackedNf4 } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { exactFormat } from '../weights.js'
import type { Subject } from './drift.js'
import { nearestFileType, type OutTensor, outTensors, WeightReader } from './weights.js'

const DTYPES = { bf16: 'BF16', f16: 'F16', f32: 'F32' } as const

/** @throws {ConfigError} when the model is not held in NF4, or adapters would have to be merged into it */
export function checkNf4({ base, adapters }: Subject): void {
  if (base.quantization.type !== 'nf4')
    throw new ConfigError(
      `${base.name} is not held in NF4, so it cannot be saved so; load it with quantization nf4, or choose another dtype.`,
      { model: base.name, dtype: 'nf4' },
    )
  if (adapters.length > 0)
    throw new ConfigError(
      'adapters cannot be merged into NF4: quantising the sum again would undo a part of the training. Save the model without them (they stay folders of their own), or choose another dtype.',
      { dtype: 'nf4' },
    )
}

/**
 * @param base held in NF4
 * @returns names of the files
 */
export async function writeNf4(
  path: string,
  base: BaseModel,
  options: ModelFolderOptions = {},
): Promise<string[]> {
  const reader = new WeightReader(base, [], 'original')
  const tensors: SafetensorsInput[] = []
  const plain: string[] = []
  for (const tensor of outTensors(base, [])) {
    const held = base.formats[tensor.weight]
    if (held === 'nf4' || held === 'nf4_double') tensors.push(...(await quantized(base, tensor)))
    else {
      if (tensor.kind === 'matrix') plain.push(tensor.name)
      tensors.push(unquantized(base, tensor, reader))
    }
  }
  return writeModelFolder(path, base.files, tensors, {
    ...options,
    quantization: quantizationConfig(base, plain),
  })
}

function unquantized(base: BaseModel, tensor: OutTensor, reader: WeightReader): SafetensorsInput {
  const { kind, tensors } = base.files
  // GGUF files mix dtypes; transformers computes with one.
  const type =
    kind === 'gguf' ? nearestFileType(base) : exactFormat(tensors.get(tensor.weight)?.dtype ?? 'F32')
  const shape = tensor.kind === 'vector' ? [tensor.cols] : [tensor.rows, tensor.cols]
  return { name: tensor.name, dtype: DTYPES[type], shape, data: () => reader.rows(tensor, type) }
}

/** A weight and the tensors that bitsandbytes keeps beside it. */
async function quantized(
  base: BaseModel,
  { name, weight, rows, cols }: OutTensor,
): Promise<SafetensorsInput[]> {
  const blocks = Math.ceil((rows * cols) / NF4_BLOCK)
  const packed = () => translatedAsync(() => base.native.packedNf4(weight).promise)
  // Its parts may lie far apart in the file, so each is asked for when its turn comes.
  const part = (choose: (packed: PackedNf4) => Uint8Array | undefined) => async () =>
    choose(await packed()) ?? new Uint8Array()
  const double = base.formats[weight] === 'nf4_double'
  const dtype = base.files.tensors.get(weight)?.nf4?.dtype ?? computeDtype(base)
  const offset = double ? (await packed()).absmaxOffset : undefined
  const state = new TextEncoder().encode(quantState([rows, cols], dtype, offset))
  const own: SafetensorsInput[] = [
    { name, dtype: 'U8', shape: [Math.ceil((rows * cols) / 2), 1], data: part(({ codes }) => codes) },
    {
      name: `${name}.absmax`,
      dtype: double ? 'U8' : 'F32',
      shape: [blocks],
      data: part(({ absmax }) => absmax),
    },
  ]
  if (double)
    own.push(
      {
        name: `${name}.nested_absmax`,
        dtype: 'F32',
        shape: [Math.ceil(blocks / NF4_NESTED_BLOCK)],
        data: part(({ nestedAbsmax }) => nestedAbsmax),
      },
      { name: `${name}.nested_quant_map`, dtype: 'F32', shape: [256], data: scaleTable() },
    )
  own.push(
    { name: `${name}.quant_map`, dtype: 'F32', shape: [16], data: codeTable() },
    { name: name + NF4_STATE, dtype: 'U8', shape: [state.length], data: state },
  )
  return own
}

/** What bitsandbytes notes of a weight, in the spelling of Python's json. */
function quantState(shape: readonly number[], dtype: Nf4Dtype, nestedOffset: number | undefined): string {
  const begin = `{"quant_type": "nf4", "blocksize": ${NF4_BLOCK}, "dtype": "${dtype}", "shape": [${shape.join(', ')}]`
  if (nestedOffset === undefined) return `${begin}}`
  return `${begin}, "nested_blocksize": ${NF4_NESTED_BLOCK}, "nested_dtype": "float32", "nested_offset": ${pythonFloat(nestedOffset)}}`
}

/** The shortest digits that read back as the number, with an exponent below 1e-4, as Python writes them. */
function pythonFloat(value: number): string {
  const size = Math.abs(value)
  if (size !== 0 && size < 1e-4) return value.toExponential().replace(/e-(\d)$/, 'e-0$1')
  return Number.isInteger(value) ? `${value}.0` : String(value)
}

/** The dtype that transformers computes in, of a model that was quantised here. */
function computeDtype(base: BaseModel): Nf4Dtype {
  const { kind, config } = base.files
  if (kind === 'gguf') return nearestFileType(base) === 'f16' ? 'float16' : 'bfloat16'
  const dtype = config.dtype ?? config.torch_dtype
  return dtype === 'float32' || dtype === 'float16' ? dtype : 'bfloat16'
}

/** As in the model's files, if they were quantised so; else as transformers writes it. */
function quantizationConfig(base: BaseModel, plain: readonly string[]): Record<string, unknown> {
  const doubleQuant = base.quantization.type === 'nf4' && base.quantization.doubleQuant
  const { config, path } = base.files
  const stored = storedNf4(config, path)
  if (stored !== undefined)
    return { ...(config.quantization_config as object), bnb_4bit_quant_storage: 'uint8' }
  const asLinear = { doubleQuant, skipped: [] }
  const skipped = plain.filter((name) => name.startsWith('lm_head') || isStoredNf4(asLinear, name))
  return {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: computeDtype(base),
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: 'nf4',
    bnb_4bit_use_double_quant: doubleQuant,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: skipped.length === 0 ? null : skipped.map((name) => name.replace(/\.weight$/, '')),
    llm_int8_threshold: 6.0,
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: 'bitsandbytes',
  }
}

/** The numbers that the sixteen codes stand for (Dettmers et al. 2023, arXiv 2305.14314, appendix E). */
const CODES = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]

function codeTable(): Uint8Array {
  return checkedTable(Float32Array.from(CODES), CODE_TABLE)
}

/**
 * The numbers that codes of scales stand for: a dynamic map (Dettmers 2016, arXiv 1511.04561) of seven decades, of which
 * each has twice as many steps as the one below.
 */
function scaleTable(): Uint8Array {
  const values = [0, 1]
  for (let decade = 0; decade < 7; decade++) {
    const steps = 2 ** decade
    const size = Math.fround(10 ** (decade - 6))
    const bounds = linspace(Math.fround(0.1), 1, steps + 1)
    for (let i = 0; i < steps; i++) {
      const mean = Math.fround(Math.fround((bounds[i] as number) + (bounds[i + 1] as number)) / 2)
      values.push(Math.fround(size * mean), -Math.fround(size * mean))
    }
  }
  return checkedTable(Float32Array.from(values).sort(), SCALE_TABLE)
}

/** In fp32 with fused steps, from both ends to the middle, as torch counts. */
function linspace(start: number, end: number, count: number): number[] {
  const step = Math.fround(Math.fround(end - start) / (count - 1))
  return Array.from({ length: count }, (_, i) =>
    Math.fround(i < count / 2 ? start + step * i : end - step * (count - i - 1)),
  )
}

/** A table must be the one that the reader of such files asks for. */
function checkedTable(values: Float32Array, sha256: string): Uint8Array {
  const bytes = new Uint8Array(values.buffer)
  if (tableHash(bytes) === sha256) return bytes
  throw new InternalError('the table of NF4 is not the one that bitsandbytes has')
}
