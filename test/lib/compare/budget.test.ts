import { afterEach, expect, test, vi } from 'vitest'
import { BudgetKeeper, type Costs, effortWithin, expectedSeconds } from '../../../lib/compare/budget.js'
import type { CompareResults } from '../../../lib/compare/results.js'
import { newSearch } from '../../../lib/compare/search.js'

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
  // Nine tenths of a budget are planned.
  const budgetFor = (seeds: number, points: number) => at(seeds, points) / 0.9 + 1e-6
  expect(effortWithin(costs, 5, budgetFor(4, 7))).toMatchObject({ seeds: 4, points: 7 })
  expect(effortWithin(costs, 5, budgetFor(3, 7))).toMatchObject({ seeds: 3, points: 7 })
  const { cuts, seconds, ...rest } = effortWithin(costs, 5, budgetFor(3, 5))
  expect(rest).toEqual({ seeds: 3, points: 5 })
  expect(seconds).toBe(at(3, 5))
  expect(cuts).toEqual([
    expect.stringContaining('3 of 5 seeds'),
    expect.stringContaining('5 of 7 learning rates'),
  ])
  expect(effortWithin(costs, 5, budgetFor(1, 1)).cuts[1]).toContain('no search')
})

test('a budget that one seed at the default rates does not fit is an error that says what is needed', () => {
  const least = expectedSeconds(costs, { seeds: 1, points: 1 })
  expect(() => effortWithin(costs, 3, least / 2)).toThrow(
    /budget of 17 s is too small: 2 entries with one seed at their default rates take about 34 s/,
  )
})

/** A compare of two entries without a search, of which each cell is expected to take 17 s. */
function underWay(budget: number | null): CompareResults {
  const entries = costs.entries.map((one, i) => ({
    ...one,
    ...{ name: ['lora', 'dora'][i] as string, cells: [] as { seed: number }[] },
    searches: [42, 43, 44].map((seed) => ({ ...newSearch([1e-3], seed, 7), chosen: 1e-3 })),
  }))
  const plan = { budget_seconds: budget, spent_seconds: 0, rungs: [20, 60], cuts: [] }
  return { entries, plan, seeds: [42, 43, 44], base: costs.base } as unknown as CompareResults
}

afterEach(() => {
  vi.restoreAllMocks()
})

test('seeds that no longer fit are dropped while a compare runs, the last first, and told', () => {
  let clock = 0
  vi.spyOn(performance, 'now').mockImplementation(() => 1000 * clock)
  const results = underWay(120)
  const keeper = new BudgetKeeper(results, 1)
  keeper.cut(results, [])
  expect(results.seeds).toEqual([42, 43, 44])
  // The first cell took twice as long as the 17 s expected, so that six take 204 s, and four 136 s.
  clock = 34
  results.entries[0]?.cells.push({ seed: 42 } as never)
  keeper.note({ kind: 'cell', name: 'lora', seed: 42 }, results, 34)
  keeper.cut(results, [])
  expect(results.seeds).toEqual([42])
  expect(results.entries.map(({ searches }) => searches.length)).toEqual([1, 1])
  expect(results.plan).toMatchObject({
    spent_seconds: 34,
    cuts: [expect.stringMatching(/^1 of 3 seeds, since the runs took 2\.0 times as long as expected/)],
  })
})

test('a seed that is done or runs is kept, as is every seed without a budget', () => {
  const clock = vi.spyOn(performance, 'now').mockReturnValue(0)
  const results = underWay(60)
  const keeper = new BudgetKeeper(results, 1)
  clock.mockReturnValue(50_000)
  for (const { cells } of results.entries) cells.push({ seed: 42 } as never, { seed: 43 } as never)
  keeper.cut(results, [{ kind: 'cell', name: 'lora', seed: 44 }])
  expect(results.seeds).toEqual([42, 43, 44])
  keeper.cut(results, [])
  expect(results.seeds).toEqual([42, 43])
  keeper.cut(results, [])
  expect(results.seeds).toEqual([42, 43])
  const free = underWay(null)
  new BudgetKeeper(free, 1).cut(free, [])
  expect(free.seeds).toHaveLength(3)
})
