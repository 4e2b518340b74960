/** Exponentials and logarithms that must not depend on the JavaScript engine. */

import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { exp, expm1, log, log1p } from '../../../lib/core/portable-exp.js'
import { sweepTest } from '../../sweep.js'

/** Distance in units in the last place. */
function apart(a: number, b: number): number {
  const bits = new BigInt64Array(Float64Array.of(a, b).buffer)
  return Math.abs(Number((bits[0] as bigint) - (bits[1] as bigint)))
}

describe('exponentials and logarithms', () => {
  // By mpmath 1.3.0 with 300 bits.
  test.each([
    [exp, 1, Math.E],
    [exp, -0.1, 0.9048374180359595],
    [exp, 709.5, 1.3549863193146328e308],
    [exp, -744, 1e-323],
    [expm1, 1e-9, 1.0000000005000001e-9],
    [expm1, -0.3, -0.2591817793182821],
    [expm1, 2.5, 11.182493960703473],
    [expm1, -30, -0.9999999999999064],
    [log, 3, 1.0986122886681098],
    [log, 1e-310, -713.8013788281542],
    [log, 0.999, -0.0010005003335835344],
    [log, 1e300, 690.7755278982137],
    [log1p, 1e-12, 9.999999999995e-13],
    [log1p, -0.75, -1.3862943611198906],
    [log1p, 5.5, 1.8718021769015913],
    [log1p, 1e18, 41.44653167389282],
  ])('%o of %d are within two units in the last place', (of, x, value) => {
    expect(apart(of(x), value)).toBeLessThanOrEqual(2)
  })

  sweepTest('are those of Math to a few units in the last place, everywhere', () => {
    for (let i = -7450; i < 7097; i++) {
      const x = i / 10 + 0.03 * Math.abs(i % 7)
      if (x < 709.7 && x > -744) expect(apart(exp(x), Math.exp(x)), `exp ${x}`).toBeLessThanOrEqual(2)
      const small = x / 2000
      expect(apart(expm1(small), Math.expm1(small)), `expm1 ${small}`).toBeLessThanOrEqual(3)
      const value = exp(x)
      if (value > 0) expect(apart(log(value), Math.log(value)), `log ${value}`).toBeLessThanOrEqual(2)
      const share = i < 0 ? i / 7451 : value
      expect(apart(log1p(share), Math.log1p(share)), `log1p ${share}`).toBeLessThanOrEqual(3)
    }
  })

  test('end where doubles end', () => {
    expect([exp(710), exp(Infinity), exp(-746), exp(-Infinity), exp(0)]).toEqual([
      Infinity,
      Infinity,
      0,
      0,
      1,
    ])
    expect([expm1(710), expm1(-50), expm1(0)]).toEqual([Infinity, -1, 0])
    expect([log(0), log(1), log(Infinity), log(-1)]).toEqual([-Infinity, 0, Infinity, Number.NaN])
    expect([log1p(-1), log1p(0), log1p(Infinity), log1p(-2)]).toEqual([-Infinity, 0, Infinity, Number.NaN])
    for (const of of [exp, expm1, log, log1p]) expect(of(Number.NaN)).toBeNaN()
  })

  test('have the same bits in every engine', () => {
    const values: number[] = []
    for (let i = 0; i < 2000; ++i)
      values.push(exp(i * 0.7 - 700), expm1(i / 400 - 2.5), log(0.01 + i * 31.7), log1p(i / 500 - 0.99))
    const bytes = new Uint8Array(Float64Array.from(values).buffer)
    // Hash in Node.js 20 and 24, Bun 1.4, and Deno 2.9.
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      '0895b7eccc5e585dc51fb206bc0470834721a2ecb8a4ea9a4fcb8500789b0337',
    )
  })
})
