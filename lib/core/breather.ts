/** Splits long work on this thread into short slices, so that the event loop can run other work in between. */
import { setImmediate } from 'node:timers/promises'

/** Longest slice without yielding. */
const LONGEST_MS = 1

/** Returns a function to await between slices: it yields to the event loop if the last yield was too long ago. */
export function breather(): () => Promise<void> {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < LONGEST_MS) return
    // After an I/O callback, the first setImmediate runs before timers do; the second lets them run.
    await setImmediate()
    await setImmediate()
    since = performance.now()
  }
}
