/**
 * Counter-based random numbers: the same (seed, stream, index) always gives the same number, regardless of other draws.
 */
const MASK = (1n << 64n) - 1n

/** 64 bits as two halves, updated in place, since BigInt is too slow for millions of draws. */
interface Halves {
  high: number
  low: number
}

/** Multiplies by a constant, modulo 2^64. */
function multiply(x: Halves, high: number, low: number): void {
  const [xLow, xHigh] = [x.low & 0xffff, x.low >>> 16]
  const [cLow, cHigh] = [low & 0xffff, low >>> 16]
  const least = xLow * cLow
  const middle = xHigh * cLow + (least >>> 16)
  const other = xLow * cHigh + (middle & 0xffff)
  const carried = xHigh * cHigh + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000)
  x.high = (carried + Math.imul(x.high, low) + Math.imul(x.low, high)) | 0
  x.low = (other << 16) | (least & 0xffff)
}

function xorShift(x: Halves, bits: number): void {
  x.low ^= (x.low >>> bits) | (x.high << (32 - bits))
  x.high ^= x.high >>> bits
}

/** splitmix64's finalizer, which turns successive counters into statistically independent numbers. */
function mix(x: Halves): void {
  xorShift(x, 30)
  multiply(x, 0xbf58476d, 0x1ce4e5b9)
  xorShift(x, 27)
  multiply(x, 0x94d049bb, 0x133111eb)
  xorShift(x, 31)
}

function halvesOf(value: bigint): Halves {
  return { high: Number((value & MASK) >> 32n) | 0, low: Number(value & 0xffffffffn) | 0 }
}

/**
 * Uniform numbers in [0, 1) with 53 bits, by index.
 * @param stream separates draws for different purposes
 */
export function counterUniforms(seed: number, stream: string): (index: number) => number {
  let hash = 0xcbf29ce484222325n // FNV-1a
  for (const byte of new TextEncoder().encode(stream)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & MASK
  const start = halvesOf(BigInt(seed) + 0x9e3779b97f4a7c15n)
  mix(start)
  const name = halvesOf(hash)
  const key = { high: start.high ^ name.high, low: (start.low ^ name.low) >>> 0 }
  const x = { high: 0, low: 0 }
  return (index) => {
    const count = index + 1
    x.high = Math.floor(count / 2 ** 32) | 0
    x.low = count | 0
    multiply(x, 0x9e3779b9, 0x7f4a7c15)
    const low = (x.low >>> 0) + key.low
    x.high = (x.high + key.high + (low >= 2 ** 32 ? 1 : 0)) | 0
    x.low = low | 0
    mix(x)
    return ((x.high >>> 0) * 2 ** 21 + (x.low >>> 11)) * 2 ** -53
  }
}

/** A single number from `counterUniforms`. */
export function counterUniform(seed: number, stream: string, index: number): number {
  return counterUniforms(seed, stream)(index)
}
