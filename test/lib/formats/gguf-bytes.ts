/** Builds GGUF files, right or wrong in any detail. There is no such writer in the package itself. */

const NUMBER_TYPES = {
  u8: [0, 1],
  i8: [1, 1],
  u16: [2, 2],
  i16: [3, 2],
  u32: [4, 4],
  i32: [5, 4],
  f32: [6, 4],
  u64: [10, 8],
  i64: [11, 8],
  f64: [12, 8],
} as const

type NumberType = keyof typeof NUMBER_TYPES

/** The bytes of a metadata value: its type number and what follows. */
export interface Value {
  type: number
  bytes: Buffer
}

function number(type: NumberType, value: number | bigint): Buffer {
  const bytes = Buffer.alloc(NUMBER_TYPES[type][1])
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const write: Record<NumberType, () => void> = {
    u8: () => view.setUint8(0, Number(value)),
    i8: () => view.setInt8(0, Number(value)),
    u16: () => view.setUint16(0, Number(value), true),
    i16: () => view.setInt16(0, Number(value), true),
    u32: () => view.setUint32(0, Number(value), true),
    i32: () => view.setInt32(0, Number(value), true),
    f32: () => view.setFloat32(0, Number(value), true),
    u64: () => view.setBigUint64(0, BigInt(value), true),
    i64: () => view.setBigInt64(0, BigInt(value), true),
    f64: () => view.setFloat64(0, Number(value), true),
  }
  write[type]()
  return bytes
}

export const u32 = (value: number) => number('u32', value)
export const u64 = (value: number | bigint) => number('u64', value)

export function text(value: string | Uint8Array, claimedLength?: number | bigint): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(claimedLength ?? bytes.length), bytes])
}

export const value = {
  number: (type: NumberType, of: number | bigint): Value => ({
    type: NUMBER_TYPES[type][0],
    bytes: number(type, of),
  }),
  bool: (of: boolean): Value => ({ type: 7, bytes: Buffer.from([of ? 1 : 0]) }),
  string: (of: string | Uint8Array): Value => ({ type: 8, bytes: text(of) }),
  numbers: (type: NumberType, of: readonly (number | bigint)[]) =>
    array(
      NUMBER_TYPES[type][0],
      of.length,
      of.map((element) => number(type, element)),
    ),
  bools: (of: readonly boolean[]) => array(7, of.length, [Buffer.from(of.map(Number))]),
  strings: (of: readonly string[]) =>
    array(
      8,
      of.length,
      of.map((element) => text(element)),
    ),
}

export function array(elementType: number, count: number | bigint, elements: readonly Buffer[]): Value {
  return { type: 9, bytes: Buffer.concat([u32(elementType), u64(count), ...elements]) }
}

/** Elements and bytes of a block, for the types that the tests use. */
const BLOCKS: Record<number, [number, number]> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  3: [32, 20],
  8: [32, 34],
  12: [256, 144],
  14: [256, 210],
  16: [256, 66],
  30: [1, 2],
  35: [256, 66],
}

export interface TensorSpec {
  name: string | Uint8Array
  /** The first dimension is the fastest. */
  dims: readonly (number | bigint)[]
  type?: number
  offset?: number | bigint
  /** Claimed instead of `dims.length`. */
  rank?: number
}

export interface GgufSpec {
  magic?: string
  version?: number
  keys?: readonly (readonly [key: string, value: Value])[]
  tensors?: readonly TensorSpec[]
  /** Claimed instead of the true counts. */
  keyCount?: number | bigint
  tensorCount?: number | bigint
  alignment?: number
  /** Left off at the end of the data. */
  cut?: number
}

/** A whole file; tensor offsets are laid out as ggml wants them and the data counts up from 0 unless told otherwise. */
export function ggufBytes(spec: GgufSpec = {}): Buffer {
  const { keys = [], tensors = [], alignment = 32 } = spec
  const parts = [Buffer.from(spec.magic ?? 'GGUF'), u32(spec.version ?? 3)]
  parts.push(u64(spec.tensorCount ?? tensors.length), u64(spec.keyCount ?? keys.length))
  for (const [key, { type, bytes }] of keys) parts.push(text(key), u32(type), bytes)
  let dataBytes = 0
  for (const { name, dims, type = 0, offset, rank } of tensors) {
    parts.push(text(name), u32(rank ?? dims.length), ...dims.map(u64), u32(type), u64(offset ?? dataBytes))
    const [elements, bytes] = BLOCKS[type] ?? [1, 1]
    const size = (dims.reduce<number>((product, dim) => product * Number(dim), 1) / elements) * bytes
    if (size < 1e6) dataBytes += Math.ceil(size / alignment) * alignment
  }
  const header = Buffer.concat(parts)
  const start = Math.ceil(header.length / alignment) * alignment
  const file = Buffer.alloc(start + dataBytes - (spec.cut ?? 0))
  header.copy(file)
  for (let i = start; i < file.length; i++) file[i] = (i - start) % 251
  return file
}
