/**
 * Writes GGUF files (version 3, little-endian): metadata, the tensor table, and the data, chunk by chunk. The write is
 * atomic.
 */
import { ShapeError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { writeFileByPieces } from '../io/atomic.js'
import { readInto, safeProduct, withInputFile } from '../io/input.js'
import { GGML_TYPES_BY_NAME, type GgmlType } from './ggml-types.js'
import { DEFAULT_ALIGNMENT, GGUF_LIMITS, GGUF_MAGIC, type GgufHeader, padded } from './gguf.js'
import { GgufBytes, type GgufField } from './gguf-fields.js'
import { appendTensor, type TensorControl, type TensorData, watchTensors } from './tensor-data.js'

/** Types in which weights can be written. */
export type GgufType = 'F32' | 'F16' | 'BF16' | 'Q8_0'

export interface GgufInput {
  /** At most 63 bytes of UTF-8. */
  name: string
  /** As in a Hugging Face folder; the file stores the dimensions in reverse order. */
  shape: readonly number[]
  type: GgufType
  data: TensorData
}

interface Placed extends GgufInput {
  id: number
  offset: number
  bytes: number
}

/**
 * Writes a file.
 * @param fields the metadata, in order; `general.alignment` has its default value and need not be included
 * @param tensors in file order; `data` is called when the tensor is written
 * @throws {ShapeError} for a duplicate or overlong name, rows that are not whole blocks, or data of the wrong size
 * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
 */
export async function writeGguf(
  path: string,
  fields: readonly GgufField[],
  tensors: readonly GgufInput[],
  control: TensorControl = {},
): Promise<void> {
  checkKeys(fields)
  const placed = place(tensors)
  const header = encodeHeader(fields, placed)
  const last = placed.at(-1)
  const total = header.length + (last === undefined ? 0 : padded(last.offset + last.bytes, DEFAULT_ALIGNMENT))
  await writeFileByPieces(path, total, async (append) => {
    await append(header)
    for (const tensor of watchTensors(placed, ({ bytes }) => bytes, control)) {
      await appendTensor(append, tensor, tensor.bytes, `${tensor.type} [${tensor.shape}]`)
      await append(new Uint8Array(padded(tensor.bytes, DEFAULT_ALIGNMENT) - tensor.bytes))
    }
  })
}

/** Size of a tensor's data, in bytes. */
export function ggufTensorSize(tensor: Pick<GgufInput, 'name' | 'shape' | 'type'>): number {
  const { blockElements, blockBytes } = ggmlType(tensor.type)
  const refuse = (why: string): never => {
    throw new ShapeError(`tensor ${quote(tensor.name)} [${tensor.shape}]: ${why}`, { name: tensor.name })
  }
  if (tensor.shape.length < 1 || tensor.shape.length > GGUF_LIMITS.dimensions)
    return refuse(`GGUF supports 1 to ${GGUF_LIMITS.dimensions} dimensions`)
  let elements = 1
  for (const size of tensor.shape) {
    if (!Number.isSafeInteger(size) || size < 1) return refuse('every dimension must be a positive integer')
    elements = safeProduct(elements, size) ?? refuse('the number of its elements overflows')
  }
  if ((tensor.shape.at(-1) as number) % blockElements !== 0)
    return refuse(`a row of ${tensor.type} must be whole blocks of ${blockElements}`)
  return safeProduct(elements / blockElements, blockBytes) ?? refuse('its size overflows')
}

function ggmlType(name: GgufType): GgmlType {
  return GGML_TYPES_BY_NAME.get(name) as GgmlType
}

function checkKeys(fields: readonly GgufField[]): void {
  const known = new Set<string>()
  for (const { key } of fields) {
    if (key === '' || Buffer.byteLength(key) > GGUF_LIMITS.keyBytes)
      throw new ShapeError(
        `a GGUF key has ${Buffer.byteLength(key)} bytes, expected 1 to ${GGUF_LIMITS.keyBytes}`,
      )
    if (known.has(key)) throw new ShapeError(`two GGUF fields have the key ${quote(key)}`, { key })
    known.add(key)
  }
}

function place(tensors: readonly GgufInput[]): Placed[] {
  const names = new Set<string>()
  let next = 0
  return tensors.map((tensor) => {
    const { name } = tensor
    const nameBytes = Buffer.byteLength(name)
    if (nameBytes < 1 || nameBytes > GGUF_LIMITS.tensorNameBytes)
      throw new ShapeError(
        `the tensor name ${quote(name)} has ${nameBytes} bytes; GGUF supports 1 to ${GGUF_LIMITS.tensorNameBytes}`,
        { name },
      )
    if (names.has(name)) throw new ShapeError(`two tensors would be named ${quote(name)}`, { name })
    names.add(name)
    const bytes = ggufTensorSize(tensor)
    const placed = { ...tensor, id: ggmlType(tensor.type).id, offset: next, bytes }
    next = padded(next + bytes, DEFAULT_ALIGNMENT)
    return placed
  })
}

/** Everything before the data, padded. */
function encodeHeader(fields: readonly GgufField[], placed: readonly Placed[]): Uint8Array {
  const bytes = new GgufBytes().u32(GGUF_MAGIC).u32(3).u64(placed.length).u64(fields.length)
  for (const field of fields) bytes.raw(field.bytes)
  for (const { name, shape, id, offset } of placed) {
    bytes.text(name).u32(shape.length)
    for (const size of [...shape].reverse()) bytes.u64(size)
    bytes.u32(id).u64(offset)
  }
  const padding = padded(bytes.length, DEFAULT_ALIGNMENT) - bytes.length
  return bytes.raw(new Uint8Array(padding)).whole()
}

/** The metadata of a parsed file, byte for byte, for writing into another file. */
export async function copiedFields({ path, metadata, fields }: GgufHeader): Promise<GgufField[]> {
  return withInputFile(path, async (file) => {
    const copied: GgufField[] = []
    for (const [key, value] of metadata) {
      const { offset, bytes: length } = fields.get(key) as { offset: number; bytes: number }
      const bytes = new Uint8Array(length)
      await readInto(file, bytes, offset)
      copied.push({ key, value, bytes })
    }
    return copied
  })
}
