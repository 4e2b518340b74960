/**
 * Random orders that depend only on given numbers, not on earlier draws: the order of an epoch is a function of
 * seed and epoch, so a resumed run sees the same examples as an uninterrupted one.
 */

/** Mixes the bits of a 32-bit word (the finalizer of MurmurHash3). */
function mix(value: number): number {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return (value ^ (value >>> 16)) >>> 0
}

/** A 32-bit hash of a list of counters (integers below 2^53). */
function counterRandom(...counters: number[]): number {
  let state = 0x9e3779b9
  for (const counter of counters) {
    state = mix(state ^ (counter >>> 0)) + 0x9e3779b9
    state = mix(state ^ (Math.floor(counter / 2 ** 32) >>> 0)) + 0x9e3779b9
  }
  return mix(state)
}

/** An integer from 0 to `bound` - 1, determined by the counters. */
export function drawBelow(bound: number, ...counters: number[]): number {
  return Math.floor((counterRandom(...counters) / 2 ** 32) * bound)
}

/** Shuffles in place; the counters determine the order. */
export function shuffle(values: Uint32Array, ...counters: number[]): Uint32Array {
  // Two words, since with one, orders would repeat after some 65,000.
  const key = [counterRandom(...counters, 0x6f72646e), counterRandom(...counters, 0x72616e64)]
  for (let i = values.length - 1; i > 0; i--) {
    const j = drawBelow(i + 1, ...key, i)
    const value = values[i] as number
    values[i] = values[j] as number
    values[j] = value
  }
  return values
}

/** The numbers from 0 to `count` - 1. */
export function ascending(count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, index) => index)
}
