/**
 * The error vocabulary: one class per cause, each with a stable `code`, so callers can catch by kind.
 * A message names what was wrong, the value, what was expected and how to mend it; the numbers are in `details`.
 */

/** Facts behind a message, printable as JSON. */
export type ErrorDetails = Record<string, unknown>

/** Base of every error that this package throws on purpose. */
export class LowrankError extends Error {
  /** Stable, upper-case, machine-readable name of the cause. */
  readonly code: string
  readonly details: ErrorDetails

  constructor(code: string, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.details = details
  }
}

/** Named, so that declarations do not spell out statics of Error, whose types need @types/node. */
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
/** A file from outside is missing, truncated, malformed or hostile. */
export class FileFormatError extends define('FILE_FORMAT') {}
/** A dataset row cannot be used: malformed, empty, or with nothing to learn. */
export class DataError extends define('DATA') {}
/** The machine cannot give the memory that the plan needs. */
export class OutOfMemoryError extends define('OUT_OF_MEMORY') {}
/** The loss or the gradient of a training step was no finite number; the adapter is as after the step before. */
export class DivergedError extends define('DIVERGED') {}
/** Asked for something that exists elsewhere but not here (an architecture, a format, a combination). */
export class UnsupportedError extends define('UNSUPPORTED') {}
/** The native addon could not be found or loaded. */
export class NativeLoadError extends define('NATIVE_LOAD') {}
/** A GPU cannot be used, or failed; after a failure nothing more runs on it until the process is started again. */
export class DeviceError extends define('DEVICE') {}
/** An object was used after `dispose()`. */
export class DisposedError extends define('DISPOSED') {}
/** Work was canceled before its end. */
export class AbortedError extends define('ABORTED') {}
/** The Hugging Face hub has not what was asked for, did not give it, or could not be reached; `details.reason` says which. */
export class HubError extends define('HUB') {}
/** Another process is working in the same folder; `details` has its `pid` and `host`. */
export class BusyError extends define('BUSY') {}
/** Processes that train together cannot be joined, do not agree, or one of them was lost. */
export class RanksError extends define('RANKS') {}
/** Writing a file failed (disk full, no permission); no partial file was left. */
export class WriteError extends define('WRITE') {}
/** A defect in lowrank itself: a check of ours that should never fail did. */
export class InternalError extends define('INTERNAL') {}
