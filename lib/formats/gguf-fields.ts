/**
 * GGUF metadata entries to be written: their parsed values and their bytes. Programs check types strictly, so integers
 * are u32 and other numbers f32; a field from another file keeps its bytes.
 */
import type { GgufValue } from './gguf.js'
import type { NumericArray } from './gguf-cursor.js'

/** One key with its value. */
export interface GgufField {
  key: string
  /** The parsed value. */
  value: GgufValue
  /** Key, type, and value as encoded in the file. */
  bytes: Uint8Array
}

/** A key of a model without the prefix of its architecture, and what writes its value under the whole key. */
export type FieldEntry = readonly [key: string, write: (key: string) => GgufField]

/** Type numbers of values. */
const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 }

/** Builds the bytes of metadata and the tensor table. */
export class GgufBytes {
  readonly #parts: Uint8Array[] = []
  length = 0

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes)
    this.length += bytes.length
    return this
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    return this.raw(bytes)
  }

  u64(value: number): this {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(value))
    return this.raw(bytes)
  }

  text(value: string): this {
    const bytes = Buffer.from(value)
    return this.u64(bytes.length).raw(bytes)
  }

  numbers({ buffer, byteOffset, byteLength }: NumericArray): this {
    return this.raw(new Uint8Array(buffer, byteOffset, byteLength))
  }

  whole(): Uint8Array {
    return Buffer.concat(this.#parts, this.length)
  }
}

function field(key: string, value: GgufValue, type: number, write: (bytes: GgufBytes) => void): GgufField {
  const bytes = new GgufBytes().text(key).u32(type)
  write(bytes)
  return { key, value, bytes: bytes.whole() }
}

function array(
  key: string,
  value: GgufValue & object,
  type: number,
  write: (bytes: GgufBytes) => void,
): GgufField {
  return field(key, value, TYPES.array, (bytes) => write(bytes.u32(type).u64(value.length)))
}

/** Creates fields by value type. */
export const ggufField = {
  u32: (key: string, value: number) => field(key, value, TYPES.u32, (bytes) => bytes.u32(value)),
  f32: (key: string, value: number) =>
    field(key, Math.fround(value), TYPES.f32, (bytes) => bytes.numbers(Float32Array.of(value))),
  bool: (key: string, value: boolean) =>
    field(key, value, TYPES.bool, (bytes) => bytes.raw(Uint8Array.of(value ? 1 : 0))),
  string: (key: string, value: string) => field(key, value, TYPES.string, (bytes) => bytes.text(value)),
  strings: (key: string, value: string[]) =>
    array(key, value, TYPES.string, (bytes) => {
      for (const one of value) bytes.text(one)
    }),
  i32s: (key: string, value: Int32Array) => array(key, value, TYPES.i32, (bytes) => bytes.numbers(value)),
  f32s: (key: string, value: Float32Array) => array(key, value, TYPES.f32, (bytes) => bytes.numbers(value)),
}

const later =
  <Value>(write: (key: string, value: Value) => GgufField) =>
  (key: string, value: Value): FieldEntry => [key, (whole) => write(whole, value)]

/** Creates entries by value type. */
export const fieldEntry = {
  u32: later(ggufField.u32),
  f32: later(ggufField.f32),
  string: later(ggufField.string),
  i32s: later(ggufField.i32s),
}
