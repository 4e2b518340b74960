/**
 * Reads and writes safetensors files. The reader uses only the header and does not trust it: it makes every check of
 * the official Rust reader, and also rejects duplicate keys and oversized headers. The writer produces the same bytes
 * as the official Python writer and holds one tensor in memory at a time.
 */

import { constants as bufferConstants } from 'node:buffer'
import { createHash } from 'node:crypto'
import { breather } from '../core/breather.js'
import { FileFormatError, ShapeError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { writeFileByPieces } from '../io/atomic.js'
import { type InputFile, readInto, safeProduct, withInputFile } from '../io/input.js'
import { JsonScanner, JsonSyntaxError } from '../io/json-scanner.js'
import { appendTensor, type TensorData } from './tensor-data.js'

/** Bits per element, in the order in which the official writer ranks the dtypes. */
const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const

export type SafetensorsDtype = keyof typeof DTYPE_BITS

const DTYPE_RANK = new Map(Object.keys(DTYPE_BITS).map((dtype, rank) => [dtype, rank]))

const LIMITS = {
  /** Same limit as the official reader. */
  headerBytes: 100_000_000,
  tensors: 100_000,
  nameBytes: 1024,
  rank: 8,
  metadataEntries: 100_000,
}

/** One tensor as described in the header. */
export interface SafetensorsTensor {
  name: string
  dtype: SafetensorsDtype
  shape: number[]
  /** Position of the first byte, from the start of the file. */
  offset: number
  /** Size of the data. */
  bytes: number
}

export interface SafetensorsHeader {
  path: string
  fileSize: number
  /** Start of the data section, from the start of the file. */
  dataOffset: number
  /** By name, in data order. */
  tensors: Map<string, SafetensorsTensor>
  metadata: Map<string, string>
  /** Hash of the header's bytes, including the length field, in hex. */
  headerSha256: string
}

/** A tensor to write; `data` is little-endian and may be created when it is written, whole or in chunks. */
export interface SafetensorsInput {
  name: string
  dtype: SafetensorsDtype
  shape: readonly number[]
  data: TensorData
}

/**
 * Size of a tensor's data, in bytes.
 * @throws ShapeError when the shape overflows
 */
export function tensorSize({
  name,
  dtype,
  shape,
}: Pick<SafetensorsInput, 'name' | 'dtype' | 'shape'>): number {
  const bytes = tensorBytes(dtype, shape)
  if (typeof bytes === 'string') throw new ShapeError(`tensor ${quote(name)}: ${bytes}`, { name })
  return bytes
}

/**
 * Size of a tensor in bytes, or the reason why it is invalid. Dimensions are multiplied from left to right, so a shape
 * that overflows on the way is rejected even if a later dimension is 0, as in the official reader.
 */
function tensorBytes(dtype: SafetensorsDtype, shape: readonly number[]): number | string {
  let elements = 1
  for (const dimension of shape) {
    const product = safeProduct(elements, dimension)
    if (product === undefined) return `the shape [${shape}] overflows`
    elements = product
  }
  const bits = safeProduct(elements, DTYPE_BITS[dtype])
  if (bits === undefined) return `the shape [${shape}] overflows`
  if (bits % 8 !== 0) return `${elements} elements of ${dtype} do not fill whole bytes`
  return bits / 8
}

/**
 * Reads and validates the header of a safetensors file without reading the data.
 * @throws FileFormatError when the file is missing, truncated, malformed, or larger than its header accounts for.
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withInputFile(path, async (file) => {
    const bytes = await readHeaderBytes(file)
    const dataOffset = bytes.length
    const { entries, metadata } = await parseHeader(path, bytes.subarray(8))
    await checkLayout(path, entries, file.size - dataOffset)
    const tensors = new Map(
      entries.map(({ name, dtype, shape, begin, end }) => [
        name,
        { name, dtype, shape, offset: dataOffset + begin, bytes: end - begin },
      ]),
    )
    const headerSha256 = createHash('sha256').update(bytes).digest('hex')
    return { path, fileSize: file.size, dataOffset, tensors, metadata, headerSha256 }
  })
}

async function readHeaderBytes(file: InputFile): Promise<Uint8Array> {
  const { path, size } = file
  if (size < 8) throw refused(path, `it has ${size} bytes, too few for a header; download it again`)
  const prefix = new Uint8Array(8)
  await readInto(file, prefix, 0)
  const length = new DataView(prefix.buffer).getBigUint64(0, true)
  if (length > BigInt(LIMITS.headerBytes)) {
    throw refused(path, `it claims a header of ${length} bytes; at most ${LIMITS.headerBytes} are allowed`)
  }
  if (length > BigInt(size - 8)) {
    throw refused(
      path,
      `its header of ${length} bytes does not fit into its ${size} bytes; download it again`,
    )
  }
  const bytes = new Uint8Array(8 + Number(length))
  await readInto(file, bytes, 0)
  if (bytes[8] !== 0x7b) throw refused(path, 'its header does not start with "{"')
  return bytes
}

interface Entry {
  name: string
  dtype: SafetensorsDtype
  shape: number[]
  /** Relative to the data section. */
  begin: number
  end: number
}

async function parseHeader(
  path: string,
  bytes: Uint8Array,
): Promise<{ entries: Entry[]; metadata: Map<string, string> }> {
  const breathe = breather()
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw refused(path, 'its header is not UTF-8', cause)
  }
  const scanner = new JsonScanner(text)
  const entries: Entry[] = []
  const metadata = new Map<string, string>()
  try {
    for (const name of scanner.members()) {
      await breathe()
      if (name === '__metadata__') {
        // MLX writes null where it has none.
        if (scanner.isNull()) continue
        scanner.object((key) => {
          if (metadata.size >= LIMITS.metadataEntries)
            scanner.fail(`more than ${LIMITS.metadataEntries} metadata keys`)
          metadata.set(key, scanner.string())
        })
        continue
      }
      if (entries.length >= LIMITS.tensors) scanner.fail(`more than ${LIMITS.tensors} tensors`)
      if (name.length > LIMITS.nameBytes || Buffer.byteLength(name) > LIMITS.nameBytes) {
        scanner.fail(`a tensor name longer than ${LIMITS.nameBytes} bytes`)
      }
      entries.push(parseEntry(scanner, name))
    }
    scanner.end()
  } catch (error) {
    if (error instanceof JsonSyntaxError) throw refused(path, `bad header: ${error.message}`, error)
    throw error
  }
  return { entries, metadata }
}

function parseEntry(scanner: JsonScanner, name: string): Entry {
  let dtype: string | undefined
  let shape: number[] | undefined
  let offsets: number[] | undefined
  const sizes = (what: string, most: number) => {
    const values: number[] = []
    scanner.array(() => {
      if (values.length === most)
        scanner.fail(`${what} of tensor ${quote(name)} has more than ${most} numbers`)
      values.push(scanner.size())
    })
    return values
  }
  scanner.object((field) => {
    if (field === 'dtype') dtype = scanner.string()
    else if (field === 'shape') shape = sizes('the shape', LIMITS.rank)
    else if (field === 'data_offsets') offsets = sizes('data_offsets', 2)
    else scanner.fail(`tensor ${quote(name)} has the unknown field ${quote(field)}`)
  })
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return scanner.fail(`tensor ${quote(name)} needs dtype, shape and data_offsets`)
  }
  if (!DTYPE_RANK.has(dtype)) scanner.fail(`tensor ${quote(name)} has the unknown dtype ${quote(dtype)}`)
  const [begin, end] = offsets
  if (begin === undefined || end === undefined) {
    return scanner.fail(`data_offsets of tensor ${quote(name)} needs two numbers`)
  }
  return { name, dtype: dtype as SafetensorsDtype, shape, begin, end }
}

/** Sorts the entries by position and checks that they tile the data section without gaps or overlaps. */
async function checkLayout(path: string, entries: Entry[], dataBytes: number): Promise<void> {
  const breathe = breather()
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let reached = 0
  for (const { name, dtype, shape, begin, end } of entries) {
    await breathe()
    const tensor = () => `tensor ${quote(name)}`
    if (end < begin) throw refused(path, `${tensor()} ends at ${end}, before its begin ${begin}`)
    if (begin !== reached) {
      const problem = begin > reached ? 'leaves a hole before it' : 'overlaps another'
      throw refused(path, `${tensor()} ${problem}: it begins at ${begin}, expected ${reached}`)
    }
    const expected = tensorBytes(dtype, shape)
    if (typeof expected === 'string') throw refused(path, `${tensor()}: ${expected}`)
    if (end - begin !== expected) {
      throw refused(path, `${tensor()} has ${end - begin} bytes, but ${dtype} [${shape}] needs ${expected}`)
    }
    reached = end
  }
  if (reached > dataBytes) {
    throw refused(
      path,
      `it is truncated: its tensors need ${reached} bytes, ${dataBytes} are there; download it again`,
    )
  }
  if (reached < dataBytes) {
    throw refused(path, `${dataBytes - reached} bytes at its end belong to no tensor`)
  }
}

function refused(path: string, problem: string, cause?: unknown): FileFormatError {
  return new FileFormatError(`${path} is not a valid safetensors file: ${problem}`, { path }, { cause })
}

/**
 * Reads one tensor as a whole; meant for adapters and other small files.
 * @param room allocates the bytes to fill; by default a separate buffer
 * @returns little-endian bytes, starting at offset 0 of their buffer (so typed arrays can view it)
 * @throws FileFormatError when the header has no such tensor or the file has changed since the header was read.
 */
export async function readTensor(
  header: SafetensorsHeader,
  name: string,
  room = (bytes: number) => new Uint8Array(bytes),
): Promise<Uint8Array> {
  const tensor = header.tensors.get(name)
  if (!tensor)
    throw new FileFormatError(`${header.path} has no tensor ${quote(name)}`, { path: header.path, name })
  if (tensor.bytes > bufferConstants.MAX_LENGTH) {
    throw new FileFormatError(
      `tensor ${quote(name)} of ${header.path} has ${tensor.bytes} bytes, too many to be read at once`,
      { path: header.path, name, bytes: tensor.bytes },
    )
  }
  return withInputFile(header.path, async (file) => {
    if (file.size !== header.fileSize) {
      throw new FileFormatError(
        `${header.path} changed while in use: it had ${header.fileSize} bytes and now has ${file.size}`,
        { path: header.path },
      )
    }
    const data = room(tensor.bytes)
    await readInto(file, data, tensor.offset)
    return data
  })
}

/**
 * Writes a safetensors file atomically. Data from functions is requested in file order and released before the next.
 * @param metadata strings for the header, sorted by key (the Python writer's order is random)
 * @throws ShapeError for duplicate names or data whose size does not match its shape; WriteError when the disk is full
 * or refuses the write.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly SafetensorsInput[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const placed = await placeTensors(tensors)
  const header = await encodeHeader(placed, metadata)
  const total = header.length + (placed.at(-1)?.end ?? 0)
  await writeFileByPieces(path, total, async (append) => {
    await append(header)
    for (const { input, begin, end } of placed) {
      await appendTensor(append, input, end - begin, `${input.dtype} [${input.shape}]`)
    }
  })
}

const SURROGATE = /[\ud800-\udfff]/

interface PlacedTensor {
  input: SafetensorsInput
  begin: number
  end: number
}

/** The official writer's order: widest dtype first, then by the UTF-8 bytes of the name. */
async function placeTensors(tensors: readonly SafetensorsInput[]): Promise<PlacedTensor[]> {
  const breathe = breather()
  const rank = (dtype: string) => DTYPE_RANK.get(dtype) ?? -1
  // Without surrogates, UTF-16 order equals UTF-8 byte order.
  const compare = tensors.some(({ name }) => SURROGATE.test(name))
    ? (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))
    : (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  const sorted = [...tensors].sort((a, b) => rank(b.dtype) - rank(a.dtype) || compare(a.name, b.name))
  const names = new Set(['__metadata__'])
  const placed: PlacedTensor[] = []
  let begin = 0
  for (const input of sorted) {
    await breathe()
    if (names.has(input.name))
      throw new ShapeError(`two tensors would be named ${quote(input.name)}`, { name: input.name })
    names.add(input.name)
    const end = begin + tensorSize(input)
    placed.push({ input, begin, end })
    begin = end
  }
  return placed
}

async function encodeHeader(
  placed: readonly PlacedTensor[],
  metadata?: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const breathe = breather()
  const members: string[] = []
  for (const { input, begin, end } of placed) {
    await breathe()
    const { name, dtype, shape } = input
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`)
  }
  if (metadata) {
    const pairs = Object.keys(metadata)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`)
    members.unshift(`"__metadata__":{${pairs.join(',')}}`)
  }
  const json = Buffer.from(`{${members.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  const header = Buffer.alloc(8 + length, ' ')
  header.writeBigUInt64LE(BigInt(length), 0)
  json.copy(header, 8)
  return header
}
