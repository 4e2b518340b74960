/**
 * Models that bitsandbytes has quantised to NF4 and transformers saved: which tensors belong to one weight, and whether
 * they are what the loader takes. Codes and scales are used as they are; nothing is quantised a second time.
 */
import { createHash } from 'node:crypto'
import { FileFormatError, UnsupportedError } from '../errors.js'
import { quote, readInto, safeProduct, withInputFile } from './input.js'
import type { SafetensorsHeader, SafetensorsTensor } from './safetensors.js'
import { type FileSpan, NF4_DTYPES, type Nf4Dtype, type TensorSource } from './tensor-source.js'

/** The mark of a quantised weight; its bytes are JSON about it. */
export const NF4_STATE = '.quant_state.bitsandbytes__nf4'
const FP4_STATE = '.quant_state.bitsandbytes__fp4'

export const NF4_BLOCK = 64
export const NF4_NESTED_BLOCK = 256

const STATE_LIMIT = 64 << 10

/** Of the little-endian float32 values of the sixteen codes, and of the 256 codes of scales. */
export const CODE_TABLE = '8501941daa1b8a90ad1bbfeb632e5101b5dddbc4bb52d6e55abcfd777e60c06a'
export const SCALE_TABLE = 'e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c'

/** What `quantization_config` says of the linears. */
export interface StoredNf4 {
  doubleQuant: boolean
  /** Modules that are left alone, by name or by the end of their path. */
  skipped: string[]
}

/**
 * What a config.json says about how its weights are quantised; undefined when it says nothing.
 * @throws {UnsupportedError} for any quantisation but NF4 of bitsandbytes
 */
export function storedNf4(config: Readonly<Record<string, unknown>>, path: string): StoredNf4 | undefined {
  const about = config.quantization_config
  if (about === undefined || about === null) return undefined
  if (typeof about !== 'object')
    throw new FileFormatError(`${path}: quantization_config must be an object`, { path })
  const fields = about as Record<string, unknown>
  const refuse = (found: string): never => {
    throw new UnsupportedError(
      `${path}: its weights are quantised (${found}); NF4 of bitsandbytes can be loaded as it is, of others take the model it was made from`,
      { path, quantization: found },
    )
  }
  const method = fields.quant_method ?? 'bitsandbytes'
  if (method !== 'bitsandbytes') refuse(`quant_method ${quote(String(method))}`)
  if (fields.load_in_8bit === true) refuse('bitsandbytes, 8 bits')
  const type = fields.bnb_4bit_quant_type ?? 'fp4'
  if (type !== 'nf4') refuse(`bitsandbytes, ${quote(String(type))}`)
  const skipped = fields.llm_int8_skip_modules ?? []
  if (!Array.isArray(skipped) || !skipped.every((name) => typeof name === 'string'))
    throw new FileFormatError(`${path}: llm_int8_skip_modules must be null or a list of names`, { path })
  return { doubleQuant: fields.bnb_4bit_use_double_quant === true, skipped }
}

/** Whether the linear of a block is quantised by such a config, by the name of its weight. */
export function isStoredNf4({ skipped }: StoredNf4, weight: string): boolean {
  return (
    /\.layers\.\d+\..*_proj\.weight$/.test(weight) &&
    !skipped.some((module) => `.${weight}`.includes(`.${module}.`))
  )
}

/**
 * The quantised weights of a folder.
 * @param headers of all its files: a weight and its scales may lie in different ones
 * @returns the weights, and the names of all tensors that belong to them
 * @throws {FileFormatError} when parts are missing, or contradict one another
 * @throws {UnsupportedError} for other formats of bitsandbytes, and other block sizes
 */
export async function readNf4Tensors(
  headers: readonly SafetensorsHeader[],
): Promise<{ sources: TensorSource[]; names: ReadonlySet<string> }> {
  const parts = new Parts(headers)
  const sources: TensorSource[] = []
  for (const name of parts.names) {
    if (name.endsWith(FP4_STATE) || name.endsWith('.SCB')) throw parts.unsupported(name)
    if (name.endsWith(NF4_STATE)) sources.push(await readWeight(parts, name.slice(0, -NF4_STATE.length)))
  }
  return { sources, names: parts.used }
}

interface Part extends SafetensorsTensor {
  file: string
}

/** All tensors of a folder by name, and which of them belong to quantised weights. */
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

  /** One that has to be there, of a size that follows from the weight's. */
  take(name: string, dtypes: readonly string[], bytes?: number): Part {
    const part = this.byName.get(name)
    if (part === undefined)
      throw new FileFormatError(`the quantised weight ${quote(name)} lacks a part: there is no such tensor`, {
        tensor: name,
      })
    if (!dtypes.includes(part.dtype) || (bytes !== undefined && part.bytes !== bytes))
      throw new FileFormatError(
        `tensor ${quote(name)} of ${part.file} is ${part.dtype} of ${part.bytes} bytes; expected ${dtypes.join(' or ')}${bytes === undefined ? '' : ` of ${bytes} bytes`}`,
        { path: part.file, tensor: name },
      )
    this.used.add(name)
    return part
  }

  unsupported(name: string): UnsupportedError {
    const { file } = this.byName.get(name) as Part
    const format = name.endsWith(FP4_STATE) ? 'FP4' : 'int8'
    return new UnsupportedError(
      `${file} is quantised by bitsandbytes to ${format} (tensor ${quote(name)}); NF4 can be loaded: take the model it was made from`,
      { path: file, tensor: name },
    )
  }
}

async function readWeight(parts: Parts, name: string): Promise<TensorSource> {
  const state = await readState(parts.take(`${name}${NF4_STATE}`, ['U8']))
  const blocks = Math.ceil(state.elements / NF4_BLOCK)
  // Bytes of codes, whatever dtype they are stored under (bnb_4bit_quant_storage).
  const codes = parts.take(name, ['U8', 'BF16', 'F16', 'F32'], Math.ceil(state.elements / 2))
  await checkTable(parts.take(`${name}.quant_map`, ['F32'], 16 * 4), CODE_TABLE)
  const nested = state.nestedOffset !== undefined
  const absmax = parts.take(`${name}.absmax`, nested ? ['U8'] : ['F32'], nested ? blocks : blocks * 4)
  const source: TensorSource = {
    name,
    file: codes.file,
    offset: codes.offset,
    bytes: codes.bytes,
    dtype: nested ? 'NF4_DOUBLE' : 'NF4',
    shape: state.shape,
    nf4: { absmax: spanOf(absmax), dtype: state.dtype },
  }
  if (state.nestedOffset === undefined) return source
  const groups = Math.ceil(blocks / NF4_NESTED_BLOCK)
  const nestedAbsmax = parts.take(`${name}.nested_absmax`, ['F32'], groups * 4)
  await checkTable(parts.take(`${name}.nested_quant_map`, ['F32'], 256 * 4), SCALE_TABLE)
  source.nf4 = {
    absmax: spanOf(absmax),
    nestedAbsmax: spanOf(nestedAbsmax),
    absmaxOffset: state.nestedOffset,
    dtype: state.dtype,
  }
  return source
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

/** bitsandbytes itself ignores the stored table, but codes of another one would stand for other numbers. */
async function checkTable(part: Part, sha256: string): Promise<void> {
  if (tableHash(await bytesOf(part)) !== sha256)
    throw new FileFormatError(`tensor ${quote(part.name)} of ${part.file} is not the table of NF4`, {
      path: part.file,
      tensor: part.name,
    })
}

interface QuantState {
  shape: [rows: number, columns: number]
  /** Product of the shape. */
  elements: number
  dtype: Nf4Dtype
  /** Mean of the scales; only with double quantisation. */
  nestedOffset: number | undefined
}

async function readState(part: Part): Promise<QuantState> {
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
      `tensor ${quote(part.name)} of ${part.file}: ${key} is ${JSON.stringify(value)}; ${known.join(', ')} can be loaded`,
      { path: part.file, tensor: part.name, key },
    )
  }
  expect('quant_type', state.quant_type, ['nf4'])
  expect('blocksize', state.blocksize, [NF4_BLOCK])
  expect('dtype', state.dtype, NF4_DTYPES)
  const shape = Array.isArray(state.shape) ? (state.shape as number[]) : []
  const [rows = 0, columns = 0] = shape
  const elements = safeProduct(rows, columns)
  if (shape.length !== 2 || !shape.every((size) => Number.isSafeInteger(size) && size > 0) || !elements)
    return bad(`shape is ${JSON.stringify(state.shape)}; expected two positive sizes`)
  const nestedOffset = state.nested_offset
  if (nestedOffset !== undefined) {
    expect('nested_blocksize', state.nested_blocksize, [NF4_NESTED_BLOCK])
    expect('nested_dtype', state.nested_dtype, ['float32'])
    if (typeof nestedOffset !== 'number' || !Number.isFinite(Math.fround(nestedOffset)))
      bad(`nested_offset is ${JSON.stringify(nestedOffset)}; expected a finite number`)
  }
  return {
    shape: [rows, columns],
    elements,
    dtype: state.dtype as Nf4Dtype,
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
