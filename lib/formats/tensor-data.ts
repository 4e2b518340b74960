/** Tensor data to be written: created on demand, whole or in chunks, with progress reporting. */
import { ShapeError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Append } from '../io/atomic.js'

/** Little-endian bytes, or a function that produces them. */
export type TensorData = Uint8Array | (() => Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array>)

/** Progress of writing. */
export interface TensorProgress {
  tensor: string
  writtenBytes: number
  totalBytes: number
}

/** Callbacks and signal for writing tensors. */
export interface TensorControl {
  /** Called after each tensor. */
  onProgress?: (progress: TensorProgress) => void
  /** Cancels the write, leaving nothing behind; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/** Yields the bytes in order. */
export async function* piecesOf(data: TensorData): AsyncGenerator<Uint8Array> {
  const made = typeof data === 'function' ? await data() : data
  if (made instanceof Uint8Array) yield made
  else yield* made
}

/**
 * Appends the data of one tensor.
 * @param what the tensor's type and shape, for the message
 * @throws {ShapeError} when the number of bytes differs from the expected size
 */
export async function appendTensor(
  append: Append,
  { name, data }: { name: string; data: TensorData },
  expected: number,
  what: string,
): Promise<void> {
  let given = 0
  for await (const piece of piecesOf(data)) {
    given += piece.length
    if (given > expected) break
    await append(piece)
  }
  if (given === expected) return
  throw new ShapeError(
    `tensor ${quote(name)} was given ${given}${given > expected ? ' or more' : ''} bytes, but ${what} needs ${expected}`,
    { name, bytes: given, expected },
  )
}

/** Wraps tensors so that reading their data reports progress and can be aborted through `control`. */
export function watchTensors<T extends { name: string; data: TensorData }>(
  tensors: readonly T[],
  sizeOf: (tensor: T) => number,
  { onProgress, signal }: TensorControl,
): T[] {
  const totalBytes = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0)
  let writtenBytes = 0
  return tensors.map((tensor) => ({
    ...tensor,
    data: async function* () {
      signal?.throwIfAborted()
      for await (const piece of piecesOf(tensor.data)) {
        signal?.throwIfAborted()
        yield piece
      }
      writtenBytes += sizeOf(tensor)
      onProgress?.({ tensor: tensor.name, writtenBytes, totalBytes })
    },
  }))
}
