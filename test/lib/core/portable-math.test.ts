/** Bits of functions that must not depend on the JavaScript engine. */
import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { cosPi, log, pow } from '../../../lib/core/portable-math.js'

describe('portable functions', () => {
  // By mpmath 1.3.0 with 300 bits.
  test('have the nearest values', () => {
    expect(pow(10000, -0.25)).toBe(0.1)
    expect(pow(500000, -62 / 64)).toBe(0.000003013858152139171)
    expect(pow(500000, (-2 * 37) / 96)).toBe(4.046168409389368e-5)
    expect(cosPi(0.3)).toBe(0.5877852522924731)
    expect(log(1e6)).toBe(13.815510557964274)
  })

  test('are exact where the result is', () => {
    expect([log(1), pow(7, 0), pow(2, 10), pow(2, -10), pow(9, 0.5)]).toEqual([0, 1, 1024, 1 / 1024, 3])
    expect([0, 1 / 3, 2 / 3, 1].map((x) => Math.round(cosPi(x) * 2 ** 50) / 2 ** 50)).toEqual([
      1, 0.5, -0.5, -1,
    ])
    expect(Math.abs(cosPi(0.5))).toBeLessThan(1e-20)
  })

  test('have the same bits in every engine', () => {
    const values: number[] = []
    for (let i = 0; i < 2000; ++i)
      values.push(pow(1.5 + i * 4999.7, -i / 2000), log(0.01 + i * 31.7), cosPi(i / 1999))
    const bytes = new Uint8Array(Float64Array.from(values).buffer)
    // Hash in Node.js 20 and 24, Bun 1.4, and Deno 2.9.
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      '41d24bca7cd37286009233083794f27ffa4442c089db5a4b1cdec1ef1550717c',
    )
  })
})
