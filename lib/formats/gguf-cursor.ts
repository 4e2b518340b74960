/**
 * Reads GGUF primitives from the part of a file that is in memory. A read past that part throws `NeedMoreBytes`; the
 * caller loads more and repeats the entry. This way only the header of a multi-gigabyte file is read, in growing
 * chunks, and the parsing code stays synchronous.
 */

import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type InputFile, readInto } from '../io/input.js'

/** Thrown when bytes up to file position `upTo` are needed but not loaded yet. */
export class NeedMoreBytes extends Error {
  constructor(readonly upTo: number) {
    super()
  }
}

const FIRST_READ = 256 << 10

/** A vocabulary of a million tokens with its merges is well below this limit. */
const LARGEST_HEADER = 256 << 20

/** A single string may contain a whole tokenizer.json (34 MB for a vocabulary of 262k). */
const LARGEST_STRING = 64 << 20

/** The longest arrays are the vocabulary and its merges. */
const LARGEST_ARRAY = 1 << 23

/** Numbers in their width in the file. */
export type NumericArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array

interface NumericType {
  width: number
  make: (buffer: ArrayBuffer) => NumericArray
}

/** Numeric types by the type number of metadata values. */
const NUMERIC: ReadonlyMap<number, NumericType> = new Map<number, NumericType>([
  [0, { width: 1, make: (buffer) => new Uint8Array(buffer) }],
  [1, { width: 1, make: (buffer) => new Int8Array(buffer) }],
  [2, { width: 2, make: (buffer) => new Uint16Array(buffer) }],
  [3, { width: 2, make: (buffer) => new Int16Array(buffer) }],
  [4, { width: 4, make: (buffer) => new Uint32Array(buffer) }],
  [5, { width: 4, make: (buffer) => new Int32Array(buffer) }],
  [6, { width: 4, make: (buffer) => new Float32Array(buffer) }],
  [10, { width: 8, make: (buffer) => new BigUint64Array(buffer) }],
  [11, { width: 8, make: (buffer) => new BigInt64Array(buffer) }],
  [12, { width: 8, make: (buffer) => new Float64Array(buffer) }],
])

export class GgufCursor {
  /** Position of the next byte to read, from the start of the file. */
  position = 0
  private bytes = Buffer.alloc(0)
  private view = new DataView(this.bytes.buffer)
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

  constructor(private readonly file: InputFile) {}

  get path(): string {
    return this.file.path
  }

  /** Number of bytes after the position. */
  get remaining(): number {
    return this.file.size - this.position
  }

  /** All bytes consumed so far. */
  consumed(): Uint8Array {
    return this.bytes.subarray(0, this.position)
  }

  fail(problem: string): never {
    throw new FileFormatError(
      `${this.path} is not a valid GGUF file: ${problem} (at byte ${this.position})`,
      {
        path: this.path,
        position: this.position,
      },
    )
  }

  /** Loads at least up to `upTo`, and at least doubles the loaded bytes, so that the total work stays linear. */
  async readOn(upTo: number): Promise<void> {
    const loaded = this.bytes.length
    const length = Math.min(this.file.size, Math.max(upTo, 2 * loaded, FIRST_READ))
    const bytes = Buffer.alloc(length)
    bytes.set(this.bytes)
    await readInto(this.file, bytes.subarray(loaded), loaded)
    this.bytes = bytes
    this.view = new DataView(bytes.buffer)
  }

  u32(): number {
    return this.view.getUint32(this.take(4, 'a number'), true)
  }

  /**
   * An unsigned 64-bit count, length, or offset, which must be below 2^53.
   * @param of prefix of `what` in messages; joined only on error, since a vocabulary has many lengths
   */
  size(what: string, of = ''): number {
    const at = this.take(8, what)
    const [low, high] = [this.view.getUint32(at, true), this.view.getUint32(at + 4, true)]
    if (high >= 2 ** 21)
      this.fail(`${of}${what} is ${this.view.getBigUint64(at, true)}, larger than any file`)
    return high * 2 ** 32 + low
  }

  bool(what: string): boolean {
    const value = this.view.getUint8(this.take(1, what))
    if (value > 1) this.fail(`${what} should be true or false (1 or 0), not ${value}`)
    return value === 1
  }

  string(what: string, most = LARGEST_STRING): string {
    const start = this.skipString(what, most)
    // Much faster for a vocabulary's many short strings; invalid UTF-8 shows up as U+FFFD and is rechecked.
    const text = this.bytes.toString('utf8', start, this.position)
    if (!text.includes('\ufffd')) return text
    const bytes = this.bytes.subarray(start, this.position)
    try {
      return this.decoder.decode(bytes)
    } catch {
      return this.fail(
        `${what} is not UTF-8: ${quote(Buffer.from(bytes.subarray(0, 40)).toString('latin1'))}`,
      )
    }
  }

  /** Skips a string without decoding it; @returns its start position. */
  skipString(what: string, most = LARGEST_STRING): number {
    const length = this.size(what, 'the length of ')
    if (length > most) this.fail(`${what} claims ${length} bytes of text; at most ${most} are allowed`)
    return this.take(length, what)
  }

  isNumeric(type: number): boolean {
    return NUMERIC.has(type)
  }

  /** Checks before allocating that `count` elements of a type fit in the rest of the file. */
  requireElements(what: string, type: number, count: number): void {
    // A string takes at least 8 bytes for its length; a boolean takes one byte.
    const width = NUMERIC.get(type)?.width ?? (type === 8 ? 8 : 1)
    if (count > LARGEST_ARRAY)
      this.fail(`${what} claims ${count} elements; at most ${LARGEST_ARRAY} are allowed`)
    if (count * width > this.remaining) {
      this.fail(`it is truncated: ${what} claims ${count} elements, ${this.remaining} bytes are left`)
    }
    this.load(this.position + count * width)
  }

  /** `count` numbers of metadata type `type`, copied out of the file. */
  numbers(type: number, count: number): NumericArray {
    const numeric = NUMERIC.get(type)
    if (!numeric) return this.fail(`the unknown type ${type}`)
    const start = this.take(count * numeric.width, 'an array')
    // GGUF is little-endian, as are all platforms of Node.js and the addon.
    return numeric.make(this.view.buffer.slice(start, start + count * numeric.width))
  }

  private take(count: number, what: string): number {
    if (count > this.remaining) {
      this.fail(
        `it is truncated: ${what} needs ${count} bytes, ${this.remaining} are left; download it again`,
      )
    }
    const start = this.position
    this.load(start + count)
    this.position = start + count
    return start
  }

  private load(upTo: number): void {
    if (upTo > LARGEST_HEADER) this.fail(`its header is larger than ${LARGEST_HEADER} bytes`)
    if (upTo > this.bytes.length) throw new NeedMoreBytes(upTo)
  }
}
