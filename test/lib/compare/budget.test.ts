import { expect, test } from 'vitest'
import { type Costs, effortWithin, expectedSeconds } from '../../../lib/compare/budget.js'

const costs: Costs = {
  entries: ['lora', 'dora'].map((name) => ({
    ...{ strategy: { name }, steps: 100, seconds_per_step: 0.1, probe_seconds: 0 },
  })),
  base: { validation_seconds: 0.5, test_seconds: 2 },
  rungs: [20, 60],
  jobs: 1,
}

test('the look at the data that a strategy takes counts for every run', () => {
  const probing = { ...costs, entries: costs.entries.map((entry) => ({ ...entry, probe_seconds: 2 })) }
  const [one, other] = [costs, probing].map((all) => expectedSeconds(all, { seeds: 3, points: 1 }))
  expect((other as number) - (one as number)).toBeCloseTo(2 * 3 * 2)
})

test('without a budget nothing is cut', () => {
  expect(effortWithin(costs, 5, null)).toMatchObject({ seeds: 5, points: 7, cuts: [] })
})

test('seeds are cut down to three first, then rates, then seeds, and every cut is told', () => {
  const at = (seeds: number, points: number) => expectedSeconds(costs, { seeds, points })
  expect(effortWithin(costs, 5, at(4, 7))).toMatchObject({ seeds: 4, points: 7 })
  expect(effortWithin(costs, 5, at(3, 7))).toMatchObject({ seeds: 3, points: 7 })
  const { cuts, seconds, ...rest } = effortWithin(costs, 5, at(3, 5))
  expect(rest).toEqual({ seeds: 3, points: 5 })
  expect(seconds).toBe(at(3, 5))
  expect(cuts).toEqual([
    expect.stringContaining('3 of 5 seeds'),
    expect.stringContaining('5 of 7 learning rates'),
  ])
  expect(effortWithin(costs, 5, at(1, 1)).cuts[1]).toContain('no search')
})

test('a budget that one seed at the default rates does not fit is an error that says what is needed', () => {
  const least = expectedSeconds(costs, { seeds: 1, points: 1 })
  expect(() => effortWithin(costs, 3, least / 2)).toThrow(
    /budget of 17 s is too small: 2 entries with one seed at their default rates take about 34 s/,
  )
})
