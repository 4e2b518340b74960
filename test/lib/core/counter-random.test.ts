import fc from 'fast-check'
import { expect, test } from 'vitest'
import { counterUniform, counterUniforms } from '../../../lib/core/counter-random.js'

const MASK = (1n << 64n) - 1n

/** The definition, in integers of any length. */
function defined(seed: number, stream: string, index: number): number {
  const mix = (value: bigint): bigint => {
    let x = value & MASK
    x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK
    x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK
    return x ^ (x >> 31n)
  }
  let hash = 0xcbf29ce484222325n
  for (const byte of new TextEncoder().encode(stream)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & MASK
  const key = mix(BigInt(seed) + 0x9e3779b97f4a7c15n) ^ hash
  return Number(mix(key + BigInt(index + 1) * 0x9e3779b97f4a7c15n) >> 11n) * 2 ** -53
}

test('numbers are those of splitmix64 to the last bit, for any seed, stream, and index', () => {
  fc.assert(
    fc.property(
      fc.maxSafeInteger(),
      fc.string(),
      fc.nat(Number.MAX_SAFE_INTEGER - 1),
      (seed, stream, index) => {
        expect(counterUniform(seed, stream, index)).toBe(defined(seed, stream, index))
      },
    ),
    { numRuns: 2000 },
  )
})

test('a number does not depend on those drawn before', () => {
  const draw = counterUniforms(3, 'items')
  const forward = [0, 1, 2, 3].map(draw)
  expect([3, 2, 1, 0].map(draw)).toEqual([...forward].reverse())
  expect(forward).toEqual([0, 1, 2, 3].map((index) => counterUniform(3, 'items', index)))
})
