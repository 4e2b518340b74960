/**
 * Writes a quantized model as a Hugging Face folder in bitsandbytes format, which transformers loads directly. It
 * stores the exact codes and scales held in memory, so saving and loading changes no bits. Weights that adapters change
 * are requantized, which may undo training, so the surviving part is measured before anything is written.
 */
import type { BaseModel } from '../base/base.js'
import { type ModelFolderOptions, writeModelFolder, writtenConfig } from '../base/model-folder.js'
import { ConfigError, InternalError } from '../core/errors.js'
import {
  BLOCK,
  CODE_TABLES,
  type FourBit,
  isStoredQuantized,
  NESTED_BLOCK,
  ROW_FORMAT,
  ROW_SCALES,
  SCALE_TABLE,
  STATE,
  storedQuantization,
  tableHash,
} from '../formats/bnb.js'
import type { SafetensorsInput } from '../formats/safetensors.js'
import type { TorchDtype } from '../formats/tensor-source.js'
import { shapeOf } from '../graph/graph.js'
import { writtenFloat } from '../io/written-json.js'
import { addon, type MergeSums, type NativeModel, type PackedWeight } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { embeddingWeights, exactFormat, isQuantizedFormat } from '../weights/weights.js'
import type { Subject } from './drift.js'
import type { QUANTIZED_DTYPES, SaveOptions, Survival } from './options.js'
import { type MergeBase, nearestFileType, type OutTensor, outTensors, WeightReader } from './weights.js'

type QuantizedType = (typeof QUANTIZED_DTYPES)[number]

const DTYPES = { bf16: 'BF16', f16: 'F16', f32: 'F32' } as const

const NAMES: Readonly<Record<QuantizedType, string>> = { nf4: 'NF4', fp4: 'FP4', int8: 'int8' }

/** @throws {ConfigError} when the model is not held in this quantization */
export function checkHeldAs({ base }: Subject, dtype: QuantizedType): void {
  if (base.quantization.type === dtype) return
  throw new ConfigError(
    `${base.name} is not loaded in ${NAMES[dtype]}, so it cannot be saved in it; load it with quantization ${dtype}, or choose another dtype.`,
    { model: base.name, dtype },
  )
}

/** Options of `writeQuantized`. */
export interface QuantizedMerge {
  onto: MergeBase
  /** As in `SaveOptions`. */
  maxLoss: number
  onProgress: SaveOptions['onProgress']
}

/**
 * Writes the model.
 * @param subject a model held quantized, with its adapters
 * @returns the file names, and how much of the adapters survives; null without adapters
 * @throws {ConfigError} when more than `maxLoss` of the adapters would be lost; nothing is written then
 */
export async function writeQuantized(
  path: string,
  { base, adapters }: Subject,
  { onto, maxLoss, onProgress }: QuantizedMerge,
  options: ModelFolderOptions = {},
): Promise<{ files: string[]; survival: Survival | null }> {
  const tensors = outTensors(base, adapters)
  const adapted = tensors.filter(
    ({ target, weight }) => target !== undefined && isHeldQuantized(base, weight),
  )
  const original = new WeightReader(base, [], 'original')
  const reader = new WeightReader(base, adapters, onto)
  const merged = addon().createModel(base.graph)
  try {
    const survival = await merge(merged, reader, adapted, { onProgress, signal: options.signal })
    if (survival !== null) refuseLoss(base, survival, maxLoss)
    const inputs: SafetensorsInput[] = []
    const plain: string[] = []
    for (const tensor of tensors) {
      if (isHeldQuantized(base, tensor.weight)) {
        inputs.push(...(await quantized(base, adapted.includes(tensor) ? merged : base.native, tensor)))
        continue
      }
      if (tensor.kind === 'matrix') plain.push(tensor.name)
      const changed = tensor.target !== undefined || isQuantizedFormat(base.formats[tensor.weight])
      inputs.push(unquantized(base, tensor, changed ? reader : original))
    }
    const quantization = await quantizationConfig(base, plain)
    return { files: await writeModelFolder(path, base.files, inputs, { ...options, quantization }), survival }
  } finally {
    await merged.dispose()
  }
}

/**
 * True if a weight is written as codes. transformers supports this only for linear layers, so embedding and head are
 * decoded.
 */
function isHeldQuantized({ formats, graph }: BaseModel, weight: string): boolean {
  return isQuantizedFormat(formats[weight]) && !embeddingWeights(graph).includes(weight)
}

/** Merges the weights that adapters change into another model and requantizes them; null if there are none. */
async function merge(
  merged: NativeModel,
  reader: WeightReader,
  tensors: readonly OutTensor[],
  { onProgress, signal }: { onProgress: SaveOptions['onProgress']; signal: AbortSignal | undefined },
): Promise<Survival | null> {
  if (tensors.length === 0) return null
  const totalBytes = tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const total: MergeSums = { change: 0, kept: 0, error: 0 }
  const each: Survival['tensors'] = []
  let doneBytes = 0
  for (const tensor of tensors) {
    signal?.throwIfAborted()
    const sums = await reader.mergeInto(merged, tensor)
    each.push({ name: tensor.name, ...shares(sums) })
    for (const key of ['change', 'kept', 'error'] as const) total[key] += sums[key]
    doneBytes += tensor.rows * tensor.cols
    onProgress?.({ phase: 'merge', doneBytes, totalBytes })
  }
  return { ...shares(total), tensors: each }
}

/** If the change is zero, all of it survives. */
function shares({ change, kept, error }: MergeSums): Omit<Survival, 'tensors'> {
  if (change === 0) return { kept: 1, error: 0 }
  return { kept: kept / change, error: Math.sqrt(error / change) }
}

function refuseLoss(base: BaseModel, { kept, error, tensors }: Survival, maxLoss: number): void {
  if (maxLoss >= 1 || 1 - kept <= maxLoss) return
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const worst = tensors.reduce((least, tensor) => (tensor.kept < least.kept ? tensor : least))
  const format = NAMES[base.quantization.type as QuantizedType]
  throw new ConfigError(
    `in ${format} ${percent(kept)} of the adapters' change would remain (least in ${worst.name}: ${percent(worst.kept)}), but at least ${percent(1 - maxLoss)} is required: quantizing again rounds small changes away. Write 16 bits, or keep the adapter separate from the ${format} model; maxLoss: 1 writes it anyway.`,
    { kept, error, maxLoss, tensors },
  )
}

function unquantized(base: BaseModel, tensor: OutTensor, reader: WeightReader): SafetensorsInput {
  const { kind, tensors } = base.files
  // GGUF files mix dtypes, but transformers computes with a single one.
  const type =
    kind === 'gguf' ? nearestFileType(base) : exactFormat(tensors.get(tensor.weight)?.dtype ?? 'F32')
  return {
    name: tensor.name,
    dtype: DTYPES[type],
    shape: shapeOf(tensor),
    data: () => reader.rows(tensor, type),
  }
}

/** A weight and the additional tensors that bitsandbytes stores with it. */
async function quantized(
  base: BaseModel,
  native: NativeModel,
  tensor: OutTensor,
): Promise<SafetensorsInput[]> {
  const packed = () => translatedAsync(() => native.packed(tensor.weight).promise)
  // Parts may be far apart in the file, so each is read when it is written.
  const part: Part = (choose) => async () => choose(await packed()) ?? new Uint8Array()
  const type = base.quantization.type as QuantizedType
  if (type === 'int8') return int8Parts(tensor, part)
  const double = base.formats[tensor.weight]?.endsWith('_double') ?? false
  const dtype = base.files.tensors.get(tensor.weight)?.scales?.dtype ?? computeDtype(base)
  const offset = double ? (await packed()).absmaxOffset : undefined
  return fourBitParts(tensor, type, part, { dtype, offset })
}

type Part = (choose: (packed: PackedWeight) => Uint8Array | undefined) => () => Promise<Uint8Array>

function int8Parts({ name, rows, cols }: OutTensor, part: Part): SafetensorsInput[] {
  const module = name.replace(/\.weight$/, '')
  return [
    { name, dtype: 'I8', shape: [rows, cols], data: part(({ codes }) => codes) },
    { name: module + ROW_SCALES, dtype: 'F32', shape: [rows], data: part(({ absmax }) => absmax) },
    { name: module + ROW_FORMAT, dtype: 'U8', shape: [], data: new Uint8Array([0]) },
  ]
}

/** @param state.offset mean of the scales; only with double quantization */
function fourBitParts(
  { name, rows, cols }: OutTensor,
  type: FourBit,
  part: Part,
  { dtype, offset }: { dtype: TorchDtype; offset: number | undefined },
): SafetensorsInput[] {
  const blocks = Math.ceil((rows * cols) / BLOCK)
  const double = offset !== undefined
  const state = new TextEncoder().encode(quantState(type, [rows, cols], dtype, offset))
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
        shape: [Math.ceil(blocks / NESTED_BLOCK)],
        data: part(({ nestedAbsmax }) => nestedAbsmax),
      },
      { name: `${name}.nested_quant_map`, dtype: 'F32', shape: [256], data: scaleTable() },
    )
  own.push(
    { name: `${name}.quant_map`, dtype: 'F32', shape: [16], data: codeTable(type) },
    { name: name + STATE + type, dtype: 'U8', shape: [state.length], data: state },
  )
  return own
}

/** Quantization state of a weight as bitsandbytes stores it, formatted like Python's json module. */
function quantState(
  type: FourBit,
  shape: readonly number[],
  dtype: TorchDtype,
  nestedOffset: number | undefined,
): string {
  const begin = `{"quant_type": "${type}", "blocksize": ${BLOCK}, "dtype": "${dtype}", "shape": [${shape.join(', ')}]`
  if (nestedOffset === undefined) return `${begin}}`
  return `${begin}, "nested_blocksize": ${NESTED_BLOCK}, "nested_dtype": "float32", "nested_offset": ${pythonFloat(nestedOffset)}}`
}

/** The shortest digits that round-trip, with an exponent below 1e-4, as Python formats floats. */
function pythonFloat(value: number): string {
  const size = Math.abs(value)
  if (size !== 0 && size < 1e-4) return value.toExponential().replace(/e-(\d)$/, 'e-0$1')
  return Number.isInteger(value) ? `${value}.0` : String(value)
}

/** The dtype in which transformers computes, for a model quantized by lowrank. */
function computeDtype(base: BaseModel): TorchDtype {
  const { kind, config } = base.files
  if (kind === 'gguf') return nearestFileType(base) === 'f16' ? 'float16' : 'bfloat16'
  const dtype = config.dtype ?? config.torch_dtype
  return dtype === 'float32' || dtype === 'float16' ? dtype : 'bfloat16'
}

/** The config from the model's files if they had this quantization; else as transformers writes it. */
async function quantizationConfig(
  base: BaseModel,
  plain: readonly string[],
): Promise<Record<string, unknown>> {
  const { quantization } = base
  const { config, path } = base.files
  if (storedQuantization(config, path) !== undefined)
    return {
      ...((await writtenConfig(base.files)).quantization_config as object),
      bnb_4bit_quant_storage: 'uint8',
    }
  const skipped = plain.filter(
    (name) => name.startsWith('lm_head') || isStoredQuantized({ skipped: [] }, name),
  )
  const int8 = quantization.type === 'int8'
  return {
    _load_in_4bit: !int8,
    _load_in_8bit: int8,
    // For int8, the defaults that transformers writes.
    bnb_4bit_compute_dtype: int8 ? 'float32' : computeDtype(base),
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: int8 ? 'fp4' : quantization.type,
    bnb_4bit_use_double_quant: 'doubleQuant' in quantization && quantization.doubleQuant,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: skipped.length === 0 ? null : skipped.map((name) => name.replace(/\.weight$/, '')),
    llm_int8_threshold: writtenFloat(6),
    load_in_4bit: !int8,
    load_in_8bit: int8,
    quant_method: 'bitsandbytes',
  }
}

/**
 * FP4 magnitudes in the order of their codes, in twelfths: two exponent bits and one mantissa bit, without the sign.
 */
const FP4_TWELFTHS = [0, 0.0625, 8, 12, 4, 6, 2, 3]

/** Values of the sixteen codes; NF4's are from Dettmers et al. 2023, arXiv 2305.14314, appendix E. */
const CODES: Readonly<Record<FourBit, readonly number[]>> = {
  nf4: [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
  ],
  fp4: [...FP4_TWELFTHS.map((size) => size / 12), ...FP4_TWELFTHS.map((size) => 0 - size / 12)],
}

function codeTable(type: FourBit): Uint8Array {
  return checkedTable(Float32Array.from(CODES[type]), CODE_TABLES[type])
}

/**
 * Values of the scale codes: a dynamic map (Dettmers 2016, arXiv 1511.04561) of seven decades, each with twice as many
 * steps as the one below.
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

/** Computed in fp32 with fused steps, from both ends to the middle, like torch.linspace. */
function linspace(start: number, end: number, count: number): number[] {
  const step = Math.fround(Math.fround(end - start) / (count - 1))
  return Array.from({ length: count }, (_, i) =>
    Math.fround(i < count / 2 ? start + step * i : end - step * (count - i - 1)),
  )
}

/** Verifies that a table is exactly the one expected by readers of such files. */
function checkedTable(values: Float32Array, sha256: string): Uint8Array {
  const bytes = new Uint8Array(values.buffer)
  if (tableHash(bytes) === sha256) return bytes
  throw new InternalError('a table of codes differs from that of bitsandbytes')
}
