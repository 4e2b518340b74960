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
  const search = newSearch(grid, 42, START)
  for (;;) {
    const next = nextRungs(search, steps)
    if (next.length === 0) break
    for (const { rate, steps } of next) {
      const loss = lossOf(rate, steps)
      // Rows that differ far less than rates do.
      const items = loss === null ? [] : [loss - 1e-6, loss + 1e-6]
      addRung(search, rate, { steps, loss, items, seconds: 1 })
    }
  }
  chooseRate(search, steps)
  return search
}

/** Lowest at a rate, and rising by 1 for each decade away from it. */
const valley = (best: number) => (rate: number) => 1 + Math.abs(Math.log10(rate / best))
const ratesAt = ({ rates }: CompareSearch, steps: number) =>
  rates.filter(({ rungs }) => rungs.some((rung) => rung.steps === steps)).map(({ rate }) => rate)

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

  test('runs all rates, the best three and those between the best two, then the best two, and chooses the best', () => {
    const search = searched(grid, [20, 60, 180], valley(3.2e-3))
    expect(ratesAt(search, 20)).toEqual(grid)
    expect(ratesAt(search, 60)).toEqual([1e-3, 1.8e-3, 3.2e-3, 5.7e-3, 1e-2, 1.8e-2])
    expect(ratesAt(search, 180)).toEqual([1.8e-3, 3.2e-3])
    expect(search).toMatchObject({ chosen: 3.2e-3, at_edge: false, steps: 7 * 20 + 6 * 60 + 2 * 180 })
    expect(search.steps).toBe(searchSteps(7, [20, 60, 180]) - 20)
    expect(searchRuns(7, 3)).toBe(15)
  })

  test('finds a rate between those of the grid, also after a single rung', () => {
    const search = searched(grid, [20], valley(1.8e-3))
    expect(search).toMatchObject({ chosen: 1.8e-3, at_edge: false, steps: 10 * 20 })
    expect(search.rates.filter(({ refined }) => refined).map(({ rate }) => rate)).toEqual([
      5.6e-4, 1.8e-3, 5.7e-3,
    ])
  })

  test('goes on where it stopped between runs side by side', () => {
    const search = searched(grid, [20], valley(1.8e-3))
    const stopped = structuredClone(search)
    stopped.rates = stopped.rates.filter(({ rate }) => rate !== 5.6e-4)
    expect(nextRungs(stopped, [20])).toEqual([{ rate: 5.6e-4, rung: 0, steps: 20 }])
    expect(nextRungs(search, [20])).toEqual([])
    expect(nextRungs(newSearch([1e-3], 42, START), [20])).toEqual([])
  })

  test('may leave rates between those of the grid out', () => {
    const search = newSearch([1e-3, 3.2e-3, 1e-2], 42, START)
    for (const { rate } of search.rates)
      addRung(search, rate, { steps: 20, loss: valley(3.2e-3)(rate), items: [], seconds: 1 })
    expect(nextRungs(search, [20], { refines: false })).toEqual([])
    expect(nextRungs(search, [20])).toHaveLength(3)
  })

  test('tries one rate beyond an edge, once', () => {
    const above = searched(grid, [20], valley(10))
    expect(ratesAt(above, 20)).toEqual([...grid.slice(0, -1), 1.8e-2, 3.2e-2, 5.6e-2, 0.1, 0.18])
    expect(above).toMatchObject({ chosen: 0.18, at_edge: true })
    expect(above.rates.filter(({ beyond }) => beyond).map(({ rate }) => rate)).toEqual([0.1])
    const below = searched(grid, [20], valley(1e-9))
    expect(below).toMatchObject({ chosen: 5.6e-6, at_edge: true })
    expect(below.rates.find(({ beyond }) => beyond)?.rate).toBe(1e-5)
  })

  /** A search with one rung at each rate, on rows that tell the rates apart. */
  function chosenOf(losses: Record<number, number>, items = (loss: number) => [loss, loss]) {
    const search = newSearch(
      Object.keys(losses)
        .map(Number)
        .toSorted((a, b) => a - b),
      42,
      START,
    )
    for (const { rate } of search.rates) {
      const loss = losses[rate] as number
      addRung(search, rate, { steps: 20, loss, items: items(loss), seconds: 1 })
    }
    chooseRate(search, [20])
    return search.chosen
  }

  test('chooses the middle of rates whose losses are within 1 %', () => {
    expect(chosenOf({ 1: 2, 3: 1.008, 10: 1.001, 30: 1, 100: 6 })).toBe(10)
    expect(chosenOf({ 1: 2, 3: 1.02, 10: 1.02, 30: 1, 100: 6 })).toBe(30)
  })

  test('of two in the middle, chooses the one beside which the other neighbor loses less', () => {
    expect(chosenOf({ 1: 2, 3: 1.001, 10: 1, 30: 6 })).toBe(3)
    expect(chosenOf({ 1: 6, 3: 1, 10: 1.001, 30: 2 })).toBe(10)
    expect(chosenOf({ 3: 1.001, 10: 1 })).toBe(3)
  })

  test('chooses the middle of rates that rows do not tell apart', () => {
    const rows: Record<number, number[]> = {
      2.2: [0.4, 4, 2.2],
      2.1: [4.2, 0, 2.1],
      2: [0, 4, 2],
      5: [5, 5, 5],
    }
    expect(chosenOf({ 1: 2.2, 3: 2.1, 10: 2, 30: 5 }, (loss) => rows[loss] as number[])).toBe(3)
  })

  test('drops a rate that diverged with all higher ones', () => {
    const search = searched(grid, [20, 60], (rate) =>
      rate === 3.2e-3 ? null : rate > 3.2e-3 ? 0.1 : valley(1e-3)(rate),
    )
    expect(ratesAt(search, 60)).toEqual([1e-4, 1.8e-4, 3.2e-4, 5.6e-4, 1e-3, 1.8e-3])
    expect(search.chosen).toBe(1e-3)
  })

  test('drops a rate above the best that ended above the loss of the base', () => {
    const search = searched(grid, [20, 60], (rate) =>
      rate === 1e-2 ? START + 1 : rate > 1e-2 ? 2 : valley(1e-3)(rate),
    )
    expect(ratesAt(search, 60)).not.toContain(3.2e-2)
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
