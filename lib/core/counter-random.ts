/** Random numbers by counter: the same (seed, stream, index) gives the same number, whatever was drawn before. */
const MASK = (1n << 64n) - 1n

/** splitmix64's finalizer, which mixes successive counters into numbers that pass as independent. */
function mix(value: bigint): bigint {
  let x = value & MASK
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK
  return x ^ (x >> 31n)
}

/**
 * Uniform in [0, 1), 53 bits.
 * @param stream keeps what draws for different purposes apart
 */
export function counterUniform(seed: number, stream: string, index: number): number {
  let hash = 0xcbf29ce484222325n // FNV-1a
  for (const byte of new TextEncoder().encode(stream)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & MASK
  const key = mix(BigInt(seed) + 0x9e3779b97f4a7c15n) ^ hash
  return Number(mix(key + BigInt(index + 1) * 0x9e3779b97f4a7c15n) >> 11n) * 2 ** -53
}
