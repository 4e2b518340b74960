/** The data of tensors on their way into a file: made when their turn comes, whole or by pieces, and counted. */
import { ShapeError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Append } from '../io/atomic.js'

/** Little-endian bytes, or what makes them. */
export type TensorData = Uint8Array | (() => Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array>)

/** Progress of writing. */
export interface TensorProgress {
  tensor: string
  writtenBytes: number
  totalBytes: number
}

/** Callbacks and signal of writing tensors. */
export interface TensorControl {
  /** Called after every tensor. */
  onProgress?: (progress: TensorProgress) => void
  /** Leaves nothing behind; the promise rejects with the signal's reason. */
  signal?: AbortSignal
}

/** Its bytes in order. */
export async function* piecesOf(data: TensorData): AsyncGenerator<Uint8Array> {
  const made = typeof data === 'function' ? await data() : data
  if (made instanceof Uint8Array) yield made
  else yield* made
}

/**
 * Appends the data of one tensor.
 * @param what the tensor's type and shape, for the message
 * @throws {ShapeError} when there are not as many bytes as expected
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

/** The same tensors, whose data tells and minds what `control` says. */
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
