import { expect, test } from 'vitest'
import { mixedTest } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('differences, degrees of freedom, p-values, and intervals follow from mean squares by least squares', () => {
  for (const [place, { scores, differences }] of golden.mixed.entries()) {
    const tests = mixedTest(scores)
    for (const { pair, left, difference, df, p, interval } of differences) {
      expect([...tests.left]).toEqual(left)
      const found = tests.difference(...pair)
      const name = `case ${place}, pair ${pair}`
      expect(error(found.difference, difference), name).toBeLessThan(1e-9)
      expect(error(found.df, df), name).toBeLessThan(1e-9)
      expect(error(found.p, p), name).toBeLessThan(1e-9)
      expect(tests.p(...pair)).toBe(found.p)
      expect(error(found.interval[0], interval[0]), name).toBeLessThan(1e-9)
      expect(error(found.interval[1], interval[1]), name).toBeLessThan(1e-9)
    }
  }
})

test('the order of a pair changes signs alone', () => {
  const { difference } = mixedTest(golden.mixed[2]?.scores as number[][][])
  const [one, other] = [difference(1, 0), difference(0, 1)]
  expect(other.difference).toBe(-one.difference)
  expect(other.interval).toEqual([-one.interval[1], -one.interval[0]])
  expect(other.p).toBe(one.p)
})

test('equal scores are no difference, and a constant one is certain', () => {
  const { difference } = mixedTest([
    [
      [1, 2, 3],
      [2, 2, 2],
    ],
    [
      [1, 2, 3],
      [2, 2, 2],
    ],
    [
      [2, 3, 4],
      [3, 3, 3],
    ],
  ])
  expect(difference(1, 0)).toMatchObject({ difference: 0, p: 1, interval: [0, 0] })
  expect(difference(2, 0)).toMatchObject({ difference: 1, p: 0, interval: [1, 1] })
})

test('the variance of a strategy between seeds leaves out what all have in common', () => {
  const common = [0, 5, -3, 2]
  const own = [1, -1, 1, -1]
  const scores = [common, common, common.map((value, k) => value + 3 * (own[k] as number))]
  const { residualVariances } = mixedTest(scores.map((runs) => runs.map((value) => [value])))
  const [first, second, third] = residualVariances as [number, number, number]
  expect(first).toBeCloseTo(second, 12)
  expect(third).toBeCloseTo(4 * first, 12)
})
