import { describe, expect, test } from 'vitest'
import type { CompareSearch } from '../../../lib/compare/results.js'
import {
  addRung,
  chooseRate,
  halfDecades,
  newSearch,
  nextRungs,
  rateGrid,
  rungSteps,
  searchRuns,
  searchSteps,
} from '../../../lib/compare/search.js'

const START = 7

/** Runs a whole search, where a rate has a loss for each number of steps. */
function searched(
  grid: readonly number[],
  steps: readonly number[],
  lossOf: (rate: number, steps: number) => number | null,
): CompareSearch {
  const search = newSearch(grid)
  for (;;) {
    const next = nextRungs(search, steps, START)
    if (next.length === 0) break
    for (const { rate, steps } of next) {
      const loss = lossOf(rate, steps)
      // Rows that differ far less than rates do.
      const items = loss === null ? [] : [loss - 1e-6, loss + 1e-6]
      addRung(search, rate, { steps, loss, items, seconds: 1 })
    }
  }
  chooseRate(search, steps, START)
  return search
}

/** Lowest at a rate, and rising by 1 for each decade away from it. */
const valley = (best: number) => (rate: number) => 1 + Math.abs(Math.log10(rate / best))
const ratesAt = ({ rates }: CompareSearch, rung: number) =>
  rates.filter(({ rungs }) => rungs.length > rung).map(({ rate }) => rate)

test('the rungs of a run triple, and the last is no longer than a third of the run', () => {
  expect(rungSteps(1000)).toEqual([38, 114])
  expect(rungSteps(540)).toEqual([20, 60, 180])
  expect(rungSteps(100)).toEqual([20, 60])
  expect(rungSteps(30)).toEqual([20])
  expect(rungSteps(5)).toEqual([5])
})

test('a grid has half-decades around the default, and more for strategies whose rates vary more', () => {
  expect(rateGrid('lora', 1e-3, 7)).toEqual([3.2e-5, 1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2])
  expect(rateGrid('vera', 1e-3, 7)).toHaveLength(9)
  expect(rateGrid('vera', 1e-3, 1)).toEqual([1e-3])
  expect(halfDecades(0.03, -3)).toBe(0.00095)
})

describe('a search', () => {
  const grid = rateGrid('lora', 1e-3, 7)

  test('runs all rates, then the best three, then the best two, and chooses the best', () => {
    const search = searched(grid, [20, 60, 180], valley(3.2e-3))
    expect(ratesAt(search, 0)).toEqual(grid)
    expect(ratesAt(search, 1)).toEqual([1e-3, 3.2e-3, 1e-2])
    expect(ratesAt(search, 2)).toHaveLength(2)
    expect(search).toMatchObject({ chosen: 3.2e-3, at_edge: false, steps: 7 * 20 + 3 * 60 + 2 * 180 })
    expect(search.steps).toBe(searchSteps(7, [20, 60, 180]) - 20)
    expect(searchRuns(7, 3)).toBe(12)
  })

  test('tries one rate beyond an edge, once', () => {
    const above = searched(grid, [20], valley(10))
    expect(ratesAt(above, 0)).toEqual([...grid, 0.1])
    expect(above).toMatchObject({ chosen: 0.1, at_edge: true })
    const below = searched(grid, [20], valley(1e-9))
    expect(below).toMatchObject({ chosen: 1e-5, at_edge: true })
    expect(below.rates[0]).toMatchObject({ rate: 1e-5, beyond: true })
  })

  test('chooses the smaller of rates whose losses are within 1 %', () => {
    const search = searched(grid, [20], (rate) => (rate === 1e-3 ? 1.008 : rate === 1e-2 ? 1 : 2))
    expect(search.chosen).toBe(1e-3)
    expect(searched(grid, [20], (rate) => (rate === 1e-3 ? 1.02 : rate === 1e-2 ? 1 : 2)).chosen).toBe(1e-2)
  })

  test('chooses the smaller of rates that rows do not tell apart', () => {
    const search = newSearch([1, 2])
    addRung(search, 1, { steps: 5, loss: 2.1, items: [4.2, 0, 2.1], seconds: 1 })
    addRung(search, 2, { steps: 5, loss: 2, items: [0, 4, 2], seconds: 1 })
    chooseRate(search, [5], START)
    expect(search.chosen).toBe(1)
  })

  test('drops a rate that diverged with all higher ones', () => {
    const search = searched(grid, [20, 60], (rate) =>
      rate === 3.2e-3 ? null : rate > 3.2e-3 ? 0.1 : valley(1e-3)(rate),
    )
    expect(ratesAt(search, 1)).toEqual([1e-4, 3.2e-4, 1e-3])
    expect(search.chosen).toBe(1e-3)
  })

  test('drops a rate above the best that ended above the loss of the base', () => {
    const search = searched(grid, [20, 60], (rate) =>
      rate === 1e-2 ? START + 1 : rate > 1e-2 ? 2 : valley(1e-3)(rate),
    )
    expect(ratesAt(search, 1)).not.toContain(3.2e-2)
  })

  test('keeps rates above a low one that learned nothing', () => {
    const search = searched(grid, [20], (rate) => (rate < 1e-4 ? START + 0.001 : valley(3.2e-3)(rate)))
    expect(search.chosen).toBe(3.2e-3)
  })

  test('takes the lowest rate where all diverge', () => {
    expect(searched(grid, [20], () => null).chosen).toBe(1e-5)
  })

  test('of one rate is no search', () => {
    expect(searched([1e-3], [20, 60], valley(1e-3))).toMatchObject({ chosen: 1e-3, at_edge: false, steps: 0 })
  })
})
