/**
 * The numbers of an adapter on their way into a file: by pieces, all through one buffer. An array for each would soon be
 * garbage by the megabyte, and JavaScript stops while that is collected.
 */
import type { AdapterArray, NativeAdapter } from './addon.js'

/** Copying so many bytes, or rounding as many numbers, takes a fraction of a millisecond. */
const PIECE_BYTES = 1 << 18

/** Reads arrays of one adapter, one after the other: a piece is good until the next is asked for. */
export class ArrayPieces {
  readonly #native: NativeAdapter
  readonly #bytes = new Uint8Array(PIECE_BYTES)

  constructor(native: NativeAdapter) {
    this.#native = native
  }

  /** @param count elements of the array */
  async *values(name: string, array: AdapterArray, count: number): AsyncGenerator<Float32Array> {
    const floats = new Float32Array(this.#bytes.buffer)
    for (let begin = 0; begin < count; begin += floats.length)
      yield this.#native.read(name, array, floats.subarray(0, count - begin), begin)
  }

  /** @param bytes of the tensor */
  async *state(name: string, tensor: string, bytes: number): AsyncGenerator<Uint8Array> {
    for (let begin = 0; begin < bytes; begin += PIECE_BYTES)
      yield this.#native.readState(name, tensor, this.#bytes.subarray(0, bytes - begin), begin)
  }
}
