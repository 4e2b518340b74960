/**
 * Converts native errors to the classes in lib/core/errors.ts: C++ throws a single type with a code, which selects the
 * class here, with the caller's stack.
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

/** All codes that native code throws. */
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

/** Converts an error with a known code to its class; returns anything else unchanged. */
function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof LowrankError) return error
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (!Object.hasOwn(CLASSES, code)) return error
  return new CLASSES[code as keyof typeof CLASSES](error.message, {}, { cause: error })
}

/** Runs a synchronous addon call. */
export function translated<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** Runs asynchronous work on the addon. */
export async function translatedAsync<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw fromNative(error)
  }
}
