import { expect, test } from 'vitest'
import { fisherTail, studentTail } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('tails are those of scipy to ten digits', () => {
  for (const [f, df, otherDf, tail] of golden.fishers)
    expect(error(fisherTail(f, df, otherDf), tail), `F ${f}, df ${df} and ${otherDf}`).toBeLessThan(1e-10)
})

test('with one degree of freedom it is the square of a t, and an infinite ratio has no tail', () => {
  expect(fisherTail(4, 1, 7)).toBeCloseTo(2 * studentTail(2, 7), 14)
  expect(fisherTail(Number.POSITIVE_INFINITY, 2, 7)).toBe(0)
})
