/** Long work in this thread, in pieces: between them whatever else waits on the event loop gets its turn. */
import { setImmediate } from 'node:timers/promises'

/** Longest uninterrupted run. */
const LONGEST_MS = 1

/**
 * Call and await what it returns between pieces: it lets the event loop go round when that was last done too long ago.
 */
export function breather(): () => Promise<void> {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < LONGEST_MS) return
    // From the callback of a read the first comes at once, before timers had their turn; from the second on all have.
    await setImmediate()
    await setImmediate()
    since = performance.now()
  }
}
