import fc from 'fast-check'
import { expect, test } from 'vitest'
import { studentQuantile, studentTail } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('tails are those of scipy to ten digits', () => {
  for (const [t, df, tail] of golden.tails)
    expect(error(studentTail(t, df), tail), `t ${t}, df ${df}`).toBeLessThan(1e-10)
})

test('quantiles are those of scipy to ten digits', () => {
  for (const [probability, df, t] of golden.quantiles)
    expect(error(studentQuantile(probability, df), t), `${probability}, df ${df}`).toBeLessThan(1e-10)
})

test('a quantile leaves the tail that was asked for', () => {
  const probability = fc.double({ min: 0.001, max: 0.999, noNaN: true })
  fc.assert(
    fc.property(probability, fc.double({ min: 0.5, max: 1e4, noNaN: true }), (share, df) => {
      expect(error(1 - studentTail(studentQuantile(share, df), df), share)).toBeLessThan(1e-11)
    }),
  )
})

test('the ends are infinite', () => {
  expect(studentTail(Number.POSITIVE_INFINITY, 3)).toBe(0)
  expect(studentTail(Number.NEGATIVE_INFINITY, 3)).toBe(1)
  expect(studentQuantile(1, 3)).toBe(Number.POSITIVE_INFINITY)
  expect(studentTail(Number.NaN, 3)).toBeNaN()
})
