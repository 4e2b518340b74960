/** Type of a running job of the engine. */

/** A cancelable job: `cancel()` makes the promise reject with code ABORTED at the next safe point. */
export interface Job<Result> {
  promise: Promise<Result>
  cancel(): void
}
