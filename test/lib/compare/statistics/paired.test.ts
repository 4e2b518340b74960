import { expect, test } from 'vitest'
import { meanInterval, pairedTest } from '../../../../lib/compare/statistics/index.js'

test('the p of a paired t-test is that of the closed form with two degrees of freedom', () => {
  // t is 2 √3, and P(|T| > t) with two degrees of freedom is 1 - t / √(2 + t²).
  expect(pairedTest([1, 2, 3])).toBeCloseTo(1 - Math.sqrt(12 / 14), 14)
  expect(pairedTest([-1, -2, -3])).toBe(pairedTest([1, 2, 3]))
  // One degree of freedom is the distribution of Cauchy: t is 2.
  expect(pairedTest([1, 3])).toBeCloseTo(1 - (2 / Math.PI) * Math.atan(2), 14)
})

test('pairs that do not differ, or are too few, tell nothing, and those that all differ by the same tell all', () => {
  expect(pairedTest([])).toBe(1)
  expect(pairedTest([5])).toBe(1)
  expect(pairedTest([0, 0, 0])).toBe(1)
  expect(pairedTest([-1, 1])).toBe(1)
  expect(pairedTest([2, 2, 2])).toBe(0)
})

test('the interval of a mean has the quantile of t, and a single value has none', () => {
  // The quantile 0.975 with one degree of freedom is tan(0.475 π).
  const half = Math.tan(0.475 * Math.PI)
  const { mean, interval } = meanInterval([1, 3])
  expect(mean).toBe(2)
  expect(interval?.[0]).toBeCloseTo(2 - half, 10)
  expect(interval?.[1]).toBeCloseTo(2 + half, 10)
  expect(meanInterval([4])).toEqual({ mean: 4, interval: null })
  expect(meanInterval([])).toEqual({ mean: 0, interval: null })
})
