/**
 * Models quantized with bitsandbytes and saved by transformers: determines which tensors belong to each weight and
 * validates them. Codes and scales are used unchanged; nothing is requantized.
 */
import { createHash } from 'node:crypto'
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { readInto, safeProduct, withInputFile } from '../io/input.js'
import type { SafetensorsHeader, SafetensorsTensor } from './safetensors.js'
import {
  type FileSpan,
  type QuantizedDtype,
  type Scales,
  type TensorSource,
  TORCH_DTYPES,
  type TorchDtype,
} from './tensor-source.js'

/** The 4-bit formats. */
export type FourBit = 'nf4' | 'fp4'

/** Infix in the name of a 4-bit weight's state tensor, followed by the format name; its bytes are JSON. */
export const STATE = '.quant_state.bitsandbytes__'
/** Suffix of an int8 weight's row maxima, in place of `.weight`. */
export const ROW_SCALES = '.SCB'
/** Layout of int8 codes: 0 is row-major, the only layout that transformers supports. */
export const ROW_FORMAT = '.weight_format'

export const BLOCK = 64
export const NESTED_BLOCK = 256

const STATE_LIMIT = 64 << 10

/** SHA-256 of the little-endian float32 values of the sixteen codes. */
export const CODE_TABLES: Readonly<Record<FourBit, string>> = {
  nf4: '8501941daa1b8a90ad1bbfeb632e5101b5dddbc4bb52d6e55abcfd777e60c06a',
  fp4: 'b830bcf8857895e5676b8e2ce608a60bb8af9b3ce6270073e9de34814196f09c',
}
/** SHA-256 of the values of the 256 scale codes. */
export const SCALE_TABLE = 'e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c'

/** Quantization of the linear layers according to `quantization_config`. */
export interface StoredQuantization {
  dtype: QuantizedDtype
  /** Modules that are not quantized, by name or path suffix. */
  skipped: string[]
}

/**
 * Quantization of the weights according to config.json; undefined if there is none.
 * @throws {UnsupportedError} for any quantization other than bitsandbytes
 */
export function storedQuantization(
  config: Readonly<Record<string, unknown>>,
  path: string,
): StoredQuantization | undefined {
  const about = config.quantization_config
  if (about === undefined || about === null) return undefined
  if (typeof about !== 'object')
    throw new FileFormatError(`${path}: quantization_config must be an object`, { path })
  const fields = about as Record<string, unknown>
  const refuse = (found: string): never => {
    throw new UnsupportedError(
      `${path}: its weights are quantized (${found}); supported: NF4, FP4, and int8 of bitsandbytes. Otherwise use the original model${found.includes('fp8') ? ', whose weights are BF16: on the hub its name often ends in -BF16' : ''}`,
      { path, quantization: found },
    )
  }
  const method = fields.quant_method ?? 'bitsandbytes'
  if (method !== 'bitsandbytes') refuse(`quant_method ${quote(method)}`)
  const type = fields.load_in_8bit === true ? 'int8' : (fields.bnb_4bit_quant_type ?? 'fp4')
  if (type !== 'nf4' && type !== 'fp4' && type !== 'int8') return refuse(`bitsandbytes, ${quote(type)}`)
  const skipped = fields.llm_int8_skip_modules ?? []
  if (!Array.isArray(skipped) || !skipped.every((name) => typeof name === 'string'))
    throw new FileFormatError(`${path}: llm_int8_skip_modules must be null or a list of names`, { path })
  const nested = fields.bnb_4bit_use_double_quant === true
  return { dtype: type === 'int8' ? 'INT8' : fourBitDtype(type, nested), skipped }
}

function fourBitDtype(type: FourBit, nested: boolean): QuantizedDtype {
  const dtype = type === 'nf4' ? 'NF4' : 'FP4'
  return nested ? `${dtype}_DOUBLE` : dtype
}

/** True if the config says that this weight of a linear layer is quantized. */
export function isStoredQuantized({ skipped }: Pick<StoredQuantization, 'skipped'>, weight: string): boolean {
  return (
    /\.layers\.\d+\..*_proj\.weight$/.test(weight) &&
    !skipped.some((module) => `.${weight}`.includes(`.${module}.`))
  )
}

/**
 * The quantized weights of a folder.
 * @param headers of all its files, since a weight and its scales may be in different ones
 * @returns the weights, and the names of all tensors that belong to them
 * @throws {FileFormatError} when parts are missing or contradict each other
 * @throws {UnsupportedError} for other bitsandbytes layouts and block sizes
 */
export async function readQuantizedTensors(
  headers: readonly SafetensorsHeader[],
): Promise<{ sources: TensorSource[]; names: ReadonlySet<string> }> {
  const parts = new Parts(headers)
  const sources: TensorSource[] = []
  for (const name of parts.names) {
    const [weight, type, ...more] = name.split(STATE)
    if (name.endsWith(ROW_SCALES)) sources.push(await readInt8(parts, name.slice(0, -ROW_SCALES.length)))
    else if (weight && (type === 'nf4' || type === 'fp4') && more.length === 0)
      sources.push(await readFourBit(parts, weight, type))
  }
  return { sources, names: parts.used }
}

interface Part extends SafetensorsTensor {
  file: string
}

/** All tensors of a folder by name, tracking which belong to quantized weights. */
class Parts {
  readonly used = new Set<string>()
  private readonly byName = new Map<string, Part>()

  constructor(headers: readonly SafetensorsHeader[]) {
    for (const { path, tensors } of headers)
      for (const tensor of tensors.values()) this.byName.set(tensor.name, { ...tensor, file: path })
  }

  get names(): Iterable<string> {
    return this.byName.keys()
  }

  has(name: string): boolean {
    return this.byName.has(name)
  }

  /** Returns a required tensor, checking its dtype and size. */
  take(name: string, dtypes: readonly string[], bytes?: number): Part {
    const part = this.byName.get(name)
    if (part === undefined)
      throw new FileFormatError(
        `a part of the quantized weight ${quote(name)} is missing: there is no such tensor`,
        {
          tensor: name,
        },
      )
    if (!dtypes.includes(part.dtype) || (bytes !== undefined && part.bytes !== bytes))
      throw new FileFormatError(
        `tensor ${quote(name)} of ${part.file} is ${part.dtype} of ${part.bytes} bytes; expected ${dtypes.join(' or ')}${bytes === undefined ? '' : ` of ${bytes} bytes`}`,
        { path: part.file, tensor: name },
      )
    this.used.add(name)
    return part
  }
}

async function readFourBit(parts: Parts, name: string, type: FourBit): Promise<TensorSource> {
  const state = await readState(parts.take(`${name}${STATE}${type}`, ['U8']), type)
  const blocks = Math.ceil(state.elements / BLOCK)
  // Raw code bytes, whatever dtype they are stored as (bnb_4bit_quant_storage).
  const codes = parts.take(name, ['U8', 'BF16', 'F16', 'F32'], Math.ceil(state.elements / 2))
  await checkTable(parts.take(`${name}.quant_map`, ['F32'], 16 * 4), CODE_TABLES[type], type)
  const nested = state.nestedOffset !== undefined
  const absmax = parts.take(`${name}.absmax`, nested ? ['U8'] : ['F32'], nested ? blocks : blocks * 4)
  const scales: Scales = { absmax: spanOf(absmax), dtype: state.dtype }
  if (state.nestedOffset !== undefined) {
    const groups = Math.ceil(blocks / NESTED_BLOCK)
    scales.nestedAbsmax = spanOf(parts.take(`${name}.nested_absmax`, ['F32'], groups * 4))
    scales.absmaxOffset = state.nestedOffset
    await checkTable(parts.take(`${name}.nested_quant_map`, ['F32'], 256 * 4), SCALE_TABLE, type)
  }
  const dtype = fourBitDtype(type, nested)
  return { name, ...spanOf(codes), dtype, shape: state.shape, scales }
}

/** @param module name of the weight without `.weight` */
async function readInt8(parts: Parts, module: string): Promise<TensorSource> {
  const name = `${module}.weight`
  const codes = parts.take(name, ['I8'])
  const [rows = 0] = codes.shape
  const absmax = parts.take(module + ROW_SCALES, ['F32'], rows * 4)
  // Older versions of bitsandbytes omitted it for row-major layouts.
  if (parts.has(module + ROW_FORMAT)) {
    const format = parts.take(module + ROW_FORMAT, ['U8'], 1)
    const [layout] = await bytesOf(format)
    if (layout !== 0)
      throw new UnsupportedError(
        `tensor ${quote(format.name)} of ${format.file} is ${layout}: the codes are not stored by rows (0); save the model with a newer bitsandbytes`,
        { path: format.file, tensor: format.name },
      )
  }
  return { name, ...spanOf(codes), dtype: 'INT8', shape: codes.shape, scales: { absmax: spanOf(absmax) } }
}

function spanOf({ file, offset, bytes }: Part): FileSpan {
  return { file, offset, bytes }
}

async function bytesOf(part: Part): Promise<Uint8Array> {
  return withInputFile(part.file, async (file) => {
    const bytes = new Uint8Array(part.bytes)
    await readInto(file, bytes, part.offset)
    return bytes
  })
}

export function tableHash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** bitsandbytes ignores the stored table, but codes for another table would mean different values. */
async function checkTable(part: Part, sha256: string, type: FourBit): Promise<void> {
  if (tableHash(await bytesOf(part)) !== sha256)
    throw new FileFormatError(
      `tensor ${quote(part.name)} of ${part.file} is not the table of ${type.toUpperCase()}`,
      {
        path: part.file,
        tensor: part.name,
      },
    )
}

interface QuantState {
  shape: [rows: number, columns: number]
  /** Product of the shape. */
  elements: number
  dtype: TorchDtype
  /** Mean of the scales; only with double quantization. */
  nestedOffset: number | undefined
}

async function readState(part: Part, type: FourBit): Promise<QuantState> {
  const bad = (problem: string): never => {
    throw new FileFormatError(`tensor ${quote(part.name)} of ${part.file}: ${problem}`, {
      path: part.file,
      tensor: part.name,
    })
  }
  if (part.bytes > STATE_LIMIT) bad(`it has ${part.bytes} bytes; at most ${STATE_LIMIT} are expected`)
  const state = parseState(await bytesOf(part)) ?? bad('it is not a JSON object')
  const expect = (key: string, value: unknown, known: readonly unknown[]) => {
    if (known.includes(value)) return
    throw new UnsupportedError(
      `tensor ${quote(part.name)} of ${part.file}: ${key} is ${quote(value)}; supported: ${known.join(', ')}`,
      { path: part.file, tensor: part.name, key },
    )
  }
  expect('quant_type', state.quant_type, [type])
  expect('blocksize', state.blocksize, [BLOCK])
  expect('dtype', state.dtype, TORCH_DTYPES)
  const shape = Array.isArray(state.shape) ? (state.shape as number[]) : []
  const [rows = 0, columns = 0] = shape
  const elements = safeProduct(rows, columns)
  if (shape.length !== 2 || !shape.every((size) => Number.isSafeInteger(size) && size > 0) || !elements)
    return bad(`shape is ${quote(state.shape)}; expected two positive sizes`)
  const nestedOffset = state.nested_offset
  if (nestedOffset !== undefined) {
    expect('nested_blocksize', state.nested_blocksize, [NESTED_BLOCK])
    expect('nested_dtype', state.nested_dtype, ['float32'])
    if (typeof nestedOffset !== 'number' || !Number.isFinite(Math.fround(nestedOffset)))
      bad(`nested_offset is ${quote(nestedOffset)}; expected a finite number`)
  }
  return {
    shape: [rows, columns],
    elements,
    dtype: state.dtype as TorchDtype,
    nestedOffset: nestedOffset as number | undefined,
  }
}

function parseState(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
