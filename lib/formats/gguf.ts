/**
 * Reads the header of a GGUF file (versions 2 and 3, little-endian): metadata and tensor table, but no tensor data. The
 * file is untrusted: every count and length is checked against the remaining bytes before allocating, sizes must be
 * exactly representable, and the tensors must tile the data section as ggml requires.
 */

import { createHash } from 'node:crypto'
import { breather } from '../core/breather.js'
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type InputFile, safeProduct, withInputFile } from '../io/input.js'
import { GGML_TYPE_NAMES_ONLY, GGML_TYPES, type GgmlType } from './ggml-types.js'
import { GgufCursor, NeedMoreBytes, type NumericArray } from './gguf-cursor.js'

/** Placeholder for an array of strings that was skipped. */
export class UnreadStrings {
  constructor(readonly length: number) {}
}

export type GgufArray = string[] | boolean[] | NumericArray | UnreadStrings

/** Integers of 2^53 and more are bigint. */
export type GgufValue = number | bigint | boolean | string | GgufArray

export interface GgufTensor {
  name: string
  /** As stored: the first dimension varies fastest (columns), the reverse of a Hugging Face shape. */
  dims: number[]
  type: GgmlType
  /** Position of the first byte, from the start of the file. */
  offset: number
  /** Size of the data, without padding. */
  bytes: number
}

export interface GgufHeader {
  path: string
  fileSize: number
  version: number
  metadata: Map<string, GgufValue>
  /** Position of each key with its value. */
  fields: Map<string, { offset: number; bytes: number }>
  tensors: GgufTensor[]
  /** Start of the data section, from the start of the file. */
  dataOffset: number
  /** Alignment of tensors, in bytes. */
  alignment: number
  /** Hash of all bytes before the data section (without its padding), in hex. */
  headerSha256: string
}

export const DEFAULT_ALIGNMENT = 32

/** "GGUF", little-endian. */
export const GGUF_MAGIC = 0x46554747

/** Far above any real file; gguf-cursor.ts limits the length of the header. */
export const GGUF_LIMITS = {
  keys: 1 << 16,
  tensors: 1 << 20,
  dimensions: 4,
  keyBytes: 65_535,
  tensorNameBytes: 63,
}

/** Minimum bytes of an entry: name length, type, and a one-byte value; or name length, rank, type, and offset. */
const SMALLEST_KEY = 13
const SMALLEST_TENSOR = 24

/**
 * Reads and validates the header of a GGUF file.
 * @param options.strings whether to read arrays of strings, i.e. the vocabulary, or only count them
 * @throws FileFormatError when the file is missing, truncated, or malformed; UnsupportedError for version 1, for part
 * of a split file, and for tensor types with unknown layout.
 */
export async function readGgufHeader(path: string, { strings = true } = {}): Promise<GgufHeader> {
  return withInputFile(path, async (file) => {
    const breathe = breather()
    const cursor = new GgufCursor(file)
    const { version, tensorCount, keyCount } = await step(cursor, () => readPreamble(cursor))
    const metadata: GgufHeader['metadata'] = new Map()
    const fields: GgufHeader['fields'] = new Map()
    for (let i = 0; i < keyCount; i++) {
      await breathe()
      const offset = cursor.position
      const [key, value] = await readKeyValue(cursor, strings)
      if (metadata.has(key)) cursor.fail(`the key ${quote(key)} appears twice`)
      metadata.set(key, value)
      fields.set(key, { offset, bytes: cursor.position - offset })
    }
    const alignment = readAlignment(cursor, metadata)
    refuseSplit(path, metadata)
    const infos: TensorInfo[] = []
    const names = new Set<string>()
    for (let i = 0; i < tensorCount; i++) {
      await breathe()
      const info = await step(cursor, () => readTensorInfo(cursor))
      if (names.has(info.name)) cursor.fail(`the tensor ${quote(info.name)} appears twice`)
      names.add(info.name)
      infos.push(info)
    }
    await breathe()
    const dataOffset = padded(cursor.position, alignment)
    const tensors = placeTensors(cursor, file, infos, dataOffset, alignment)
    const headerSha256 = createHash('sha256').update(cursor.consumed()).digest('hex')
    const fileSize = file.size
    return { path, fileSize, version, metadata, fields, tensors, dataOffset, alignment, headerSha256 }
  })
}

/** Runs one synchronous parsing step, loading more bytes and restarting the step while bytes are missing. */
async function step<T>(cursor: GgufCursor, parse: () => T): Promise<T> {
  const start = cursor.position
  for (;;) {
    try {
      return parse()
    } catch (error) {
      if (!(error instanceof NeedMoreBytes)) throw error
      cursor.position = start
      await cursor.readOn(error.upTo)
    }
  }
}

function readPreamble(cursor: GgufCursor): { version: number; tensorCount: number; keyCount: number } {
  if (cursor.remaining < 4 || cursor.u32() !== GGUF_MAGIC) cursor.fail('it does not start with "GGUF"')
  const version = cursor.u32()
  if (version === 1) {
    throw new UnsupportedError(
      `${cursor.path} is GGUF version 1; supported: versions 2 and 3. Convert the model again with a current llama.cpp`,
      { path: cursor.path, version },
    )
  }
  if ((version & 0xffff) === 0) {
    throw new UnsupportedError(
      `${cursor.path} is a big-endian GGUF file; only little-endian files are supported`,
      {
        path: cursor.path,
        version,
      },
    )
  }
  if (version !== 2 && version !== 3) {
    throw new UnsupportedError(`${cursor.path} is GGUF version ${version}; supported: versions 2 and 3`, {
      path: cursor.path,
      version,
    })
  }
  const tensorCount = cursor.size('the number of tensors')
  const keyCount = cursor.size('the number of keys')
  checkCount(cursor, 'keys', keyCount, GGUF_LIMITS.keys, SMALLEST_KEY)
  checkCount(cursor, 'tensors', tensorCount, GGUF_LIMITS.tensors, SMALLEST_TENSOR)
  return { version, tensorCount, keyCount }
}

function checkCount(cursor: GgufCursor, what: string, count: number, most: number, smallest: number): void {
  if (count > most) cursor.fail(`it claims ${count} ${what}; at most ${most} are allowed`)
  if (count * smallest > cursor.remaining) {
    cursor.fail(`it claims ${count} ${what}, more than its ${cursor.remaining} remaining bytes can hold`)
  }
}

async function readKeyValue(cursor: GgufCursor, strings: boolean): Promise<[string, GgufValue]> {
  const [key, value] = await step(cursor, () => {
    const key = cursor.string('a key', GGUF_LIMITS.keyBytes)
    if (key === '') cursor.fail('a key is empty')
    const what = `the value of ${quote(key)}`
    const type = cursor.u32()
    return [key, type === ARRAY ? readArray(cursor, what) : readScalar(cursor, type, what)] as const
  })
  return [key, value instanceof ComingStrings ? await readStrings(cursor, value, strings) : value]
}

/** An array of strings whose first element is at the cursor. */
class ComingStrings {
  constructor(
    readonly what: string,
    readonly count: number,
  ) {}
}

/** Number of strings read per slice; takes a fraction of a millisecond. */
const STRINGS_AT_ONCE = 256

async function readStrings(
  cursor: GgufCursor,
  { what, count }: ComingStrings,
  wanted: boolean,
): Promise<GgufArray> {
  const breathe = breather()
  const read: string[] = []
  for (let done = 0; done < count; done += STRINGS_AT_ONCE) {
    await breathe()
    const end = Math.min(done + STRINGS_AT_ONCE, count)
    await step(cursor, () => {
      read.length = wanted ? done : 0
      for (let i = done; i < end; i++)
        if (wanted) read.push(cursor.string(what))
        else cursor.skipString(what)
    })
  }
  return wanted ? read : new UnreadStrings(count)
}

const STRING = 8
const ARRAY = 9

function readScalar(cursor: GgufCursor, type: number, what: string): GgufValue {
  switch (type) {
    case 7:
      return cursor.bool(what)
    case STRING:
      return cursor.string(what)
    case 10:
    case 11: {
      const value = cursor.numbers(type, 1)[0] as bigint
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
    }
    default:
      if (!cursor.isNumeric(type)) cursor.fail(`${what} has the unknown type ${type}`)
      return cursor.numbers(type, 1)[0] as number
  }
}

function readArray(cursor: GgufCursor, what: string): Exclude<GgufArray, string[]> | ComingStrings {
  const type = cursor.u32()
  const count = cursor.size(`the length of ${what}`)
  if (type === ARRAY) cursor.fail(`${what} is an array of arrays`)
  if (type !== STRING && type !== 7 && !cursor.isNumeric(type)) {
    cursor.fail(`${what} is an array of the unknown type ${type}`)
  }
  cursor.requireElements(what, type, count)
  if (type === STRING) return new ComingStrings(what, count)
  if (type === 7) {
    const flags: boolean[] = []
    for (let i = 0; i < count; i++) flags.push(cursor.bool(what))
    return flags
  }
  return cursor.numbers(type, count)
}

function readAlignment(cursor: GgufCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT
  // Accepts any integer width; ggml writes a u32, whose largest power of two is 2^31.
  const exponent = typeof alignment === 'number' ? Math.log2(alignment) : Number.NaN
  if (!Number.isInteger(exponent) || exponent < 0 || exponent > 31) {
    return cursor.fail(`general.alignment must be a power of two, not ${quote(alignment)}`)
  }
  return 2 ** exponent
}

function refuseSplit(path: string, metadata: ReadonlyMap<string, GgufValue>): void {
  const parts = metadata.get('split.count')
  if (typeof parts === 'number' && parts > 1) {
    throw new UnsupportedError(
      `${path} is one of ${parts} parts of a split GGUF file; join them first with llama.cpp's "llama-gguf-split --merge"`,
      { path, parts },
    )
  }
}

interface TensorInfo {
  name: string
  dims: number[]
  type: GgmlType
  /** Relative to the data section. */
  offset: number
  bytes: number
}

function readTensorInfo(cursor: GgufCursor): TensorInfo {
  const name = cursor.string('a tensor name', GGUF_LIMITS.tensorNameBytes)
  if (name === '') cursor.fail('a tensor has an empty name')
  const tensor = `tensor ${quote(name)}`
  const rank = cursor.u32()
  if (rank > GGUF_LIMITS.dimensions) {
    cursor.fail(`${tensor} has ${rank} dimensions; at most ${GGUF_LIMITS.dimensions} are allowed`)
  }
  const dims: number[] = []
  for (let i = 0; i < rank; i++) dims.push(cursor.size(`dimension ${i} of ${tensor}`))
  const type = ggmlType(cursor.path, tensor, cursor.u32())
  const offset = cursor.size(`the offset of ${tensor}`)
  return { name, dims, type, offset, bytes: tensorBytes(cursor, tensor, dims, type) }
}

function ggmlType(path: string, tensor: string, id: number): GgmlType {
  const type = GGML_TYPES.get(id)
  if (type) return type
  const name = GGML_TYPE_NAMES_ONLY.get(id)
  throw new UnsupportedError(
    `${tensor} of ${path} has the ggml type ${name ?? `number ${id}, which is unknown`}; use a file with another quantization`,
    { path, type: id },
  )
}

function tensorBytes(cursor: GgufCursor, tensor: string, dims: readonly number[], type: GgmlType): number {
  let elements = 1
  for (const dimension of dims) {
    if (dimension === 0) cursor.fail(`${tensor} has a dimension of 0`)
    elements = safeProduct(elements, dimension) ?? cursor.fail(`the size of ${tensor} [${dims}] overflows`)
  }
  const columns = dims[0] ?? 1
  if (columns % type.blockElements !== 0) {
    cursor.fail(
      `rows of ${tensor} have ${columns} elements, not a multiple of the ${type.blockElements} of a ${type.name} block`,
    )
  }
  const bytes = safeProduct(elements / type.blockElements, type.blockBytes)
  return bytes ?? cursor.fail(`the size of ${tensor} [${dims}] overflows`)
}

/** Tensors must be consecutive in table order, each padded to the alignment, and inside the file. */
function placeTensors(
  cursor: GgufCursor,
  file: InputFile,
  infos: readonly TensorInfo[],
  dataOffset: number,
  alignment: number,
): GgufTensor[] {
  let expected = 0
  return infos.map(({ name, dims, type, offset, bytes }) => {
    const tensor = `tensor ${quote(name)}`
    if (offset !== expected) cursor.fail(`${tensor} is at offset ${offset} of the data, expected ${expected}`)
    const start = dataOffset + offset
    if (bytes > file.size - start) {
      cursor.fail(
        `it is truncated: ${tensor} ends at byte ${start + bytes} of ${file.size}; download it again`,
      )
    }
    expected = padded(offset + bytes, alignment)
    return { name, dims, type, offset: start, bytes }
  })
}

/** Rounds up to a multiple of the alignment; exact, since both are far below 2^53. */
export function padded(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment
}
