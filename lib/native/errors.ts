/**
 * Errors from the native side become the classes of lib/core/errors.ts: C++ throws one type that carries a code, and the
 * class is chosen by it here, with the stack of the caller.
 */
import {
  AbortedError,
  ConfigError,
  DataError,
  DeviceError,
  DisposedError,
  DivergedError,
  FileFormatError,
  InternalError,
  LowrankError,
  OutOfMemoryError,
  RanksError,
  ShapeError,
  UnsupportedError,
  WriteError,
} from '../core/errors.js'

/** Every code that the native side throws. */
export const CLASSES = {
  ABORTED: AbortedError,
  CONFIG: ConfigError,
  DATA: DataError,
  DEVICE: DeviceError,
  DISPOSED: DisposedError,
  DIVERGED: DivergedError,
  FILE_FORMAT: FileFormatError,
  INTERNAL: InternalError,
  OUT_OF_MEMORY: OutOfMemoryError,
  RANKS: RanksError,
  SHAPE: ShapeError,
  UNSUPPORTED: UnsupportedError,
  WRITE: WriteError,
}

/** The same error as one of ours, if its code says that it is; anything else passes through. */
function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof LowrankError) return error
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (!Object.hasOwn(CLASSES, code)) return error
  return new CLASSES[code as keyof typeof CLASSES](error.message, {}, { cause: error })
}

/** Runs a call of the addon that answers at once. */
export function translated<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Runs work over the addon that takes time. */
export async function translatedAsync<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw fromNative(error)
  }
}
