/** Time in the objects that clients see. */

/** Whole seconds since 1970. */
export function seconds(): number {
  return Math.floor(Date.now() / 1000)
}
