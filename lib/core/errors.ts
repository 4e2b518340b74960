/**
 * Error classes: one per cause, each with a stable `code`, so callers can catch by kind. A message names the problem,
 * the value, what was expected, and how to fix it; the numbers are in `details`.
 */

/** Data behind a message, serializable as JSON. */
export type ErrorDetails = Record<string, unknown>

/** Base class of all errors that this package throws deliberately. */
export class LowrankError extends Error {
  /** Stable, uppercase, machine-readable name of the cause. */
  readonly code: string
  readonly details: ErrorDetails

  constructor(code: string, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.details = details
  }
}

/** Named so that declaration files do not inline static members of Error, whose types require @types/node. */
type ErrorClass = new (message: string, details?: ErrorDetails, options?: ErrorOptions) => LowrankError

function define(code: string): ErrorClass {
  return class extends LowrankError {
    constructor(message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
      super(code, message, details, options)
    }
  }
}

/** A config key, option or command-line value is unknown or out of range. */
export class ConfigError extends define('CONFIG') {}
/** Two shapes that must agree do not. */
export class ShapeError extends define('SHAPE') {}
/** An external file is missing, truncated, malformed, or malicious. */
export class FileFormatError extends define('FILE_FORMAT') {}
/** A dataset row cannot be used: it is malformed, empty, or has nothing to learn from. */
export class DataError extends define('DATA') {}
/** The machine does not have the memory that the plan needs. */
export class OutOfMemoryError extends define('OUT_OF_MEMORY') {}
/** The loss or gradient of a training step was not finite; the adapter is in its state after the previous step. */
export class DivergedError extends define('DIVERGED') {}
/** A feature that exists elsewhere is not supported here (an architecture, a format, a combination). */
export class UnsupportedError extends define('UNSUPPORTED') {}
/** The native addon could not be found or loaded. */
export class NativeLoadError extends define('NATIVE_LOAD') {}
/** A GPU cannot be used, or failed; after a failure it cannot be used again until the process restarts. */
export class DeviceError extends define('DEVICE') {}
/** An object was used after `dispose()`. */
export class DisposedError extends define('DISPOSED') {}
/** Work was canceled before it finished. */
export class AbortedError extends define('ABORTED') {}
/** A Hugging Face Hub request failed: not found, access denied, or unreachable; `details.reason` says which. */
export class HubError extends define('HUB') {}
/** Another process is working in the same folder; `details` contains its `pid` and `host`. */
export class BusyError extends define('BUSY') {}
/** Processes that train together cannot be connected, disagree, or one of them was lost. */
export class RanksError extends define('RANKS') {}
/** Writing a file failed (disk full, no permission); no partial file is left behind. */
export class WriteError extends define('WRITE') {}
/** The operating system refused something, such as another process or open file; `details.reason` is its name of the error. */
export class SystemError extends define('SYSTEM') {}
/** A bug in lowrank: an internal check failed. */
export class InternalError extends define('INTERNAL') {}
