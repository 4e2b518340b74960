/**
 * Reads an adapter's arrays in chunks through a single buffer, for writing to a file. A new array per chunk would
 * quickly create megabytes of garbage, and collecting it blocks JavaScript.
 */
import type { AdapterArray, NativeAdapter } from './addon.js'

/** Copying this many bytes, or rounding as many numbers, takes a fraction of a millisecond. */
const PIECE_BYTES = 1 << 18

/** Reads arrays of one adapter sequentially; each chunk is valid until the next is requested. */
export class ArrayPieces {
  readonly #native: NativeAdapter
  readonly #bytes = new Uint8Array(PIECE_BYTES)

  constructor(native: NativeAdapter) {
    this.#native = native
  }

  /** @param count number of elements in the array */
  async *values(name: string, array: AdapterArray, count: number): AsyncGenerator<Float32Array> {
    const floats = new Float32Array(this.#bytes.buffer)
    for (let begin = 0; begin < count; begin += floats.length)
      yield this.#native.read(name, array, floats.subarray(0, count - begin), begin)
  }

  /** @param bytes size of the tensor */
  async *state(name: string, tensor: string, bytes: number): AsyncGenerator<Uint8Array> {
    for (let begin = 0; begin < bytes; begin += PIECE_BYTES)
      yield this.#native.readState(name, tensor, this.#bytes.subarray(0, bytes - begin), begin)
  }
}
