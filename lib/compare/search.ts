/**
 * The search of a learning rate by successive halving: short runs at all rates of a grid, longer ones at the best of
 * them. What comes next follows from the rungs that are there, so that a search stops and resumes anywhere.
 * @see Jamieson and Talwalkar 2016, arXiv 1502.07943
 */
import type { CompareRung, CompareSearch } from './results.js'

type SearchedRate = CompareSearch['rates'][number]

const LEAST_STEPS = 20
/** The first rung is this share of a run, the next ones three and nine times as long. */
const FIRST_SHARE = 27
const HALVING = 3
/** The last rung is no longer than this share of a run. */
const LAST_SHARE = 3
/** Rates that a rung keeps: the best third of the first, at least three, and then two. */
const LEAST_KEPT = 3
const LAST_KEPT = 2
/** Losses that differ by less than this share are equal, and the smaller rate is chosen. */
const TIE = 0.01
/** Points of the usual grid in half-decades, and of strategies whose best rates vary more. */
export const GRID_POINTS = 7
const WIDE = new Set(['dora', 'vera', 'lokr'])
const WIDER_BY = 2

/** Steps of the rungs of a search for runs of so many steps. */
export function rungSteps(steps: number): number[] {
  const first = Math.min(steps, Math.max(LEAST_STEPS, Math.ceil(steps / FIRST_SHARE)))
  const second = first * HALVING
  const third = second * HALVING
  return [first, ...(second <= steps ? [second] : []), ...(third <= steps / LAST_SHARE ? [third] : [])]
}

/** The rate that is so many half-decades above another, with two digits. */
export function halfDecades(rate: number, count: number): number {
  const whole = Math.floor(count / 2)
  const odd = count - 2 * whole === 1
  return Number((rate * 10 ** whole * (odd ? 3.1622776601683795 : 1)).toPrecision(2))
}

/**
 * Rates in half-decades around a default, in ascending order.
 * @param points of the usual grid, an odd number; wider ones have two more
 */
export function rateGrid(strategy: string, center: number, points: number): number[] {
  const count = points > 1 && WIDE.has(strategy) ? points + WIDER_BY : points
  const half = (count - 1) / 2
  return Array.from({ length: count }, (_, i) => halfDecades(center, i - half))
}

/** A search that has not begun. */
export function newSearch(grid: readonly number[]): CompareSearch {
  const rates = grid.map((rate) => ({ rate, rungs: [] }))
  return { rates, chosen: null, at_edge: false, flat: false, steps: 0, seconds: 0 }
}

/** A run that a search needs. */
export interface RungAsked {
  rate: number
  /** Index of the rung, from 0. */
  rung: number
  steps: number
}

/**
 * Runs that a search needs now; none when it is over, or as long as others of the same rung are missing.
 * @param start loss of the base, above which nothing may end
 */
export function nextRungs(search: CompareSearch, steps: readonly number[], start: number): RungAsked[] {
  if (search.rates.length === 1) return []
  for (const [rung, length] of steps.entries()) {
    const rates = contenders(search, rung, start)
    const missing = rates.filter(({ rungs }) => rungs.length <= rung)
    if (missing.length > 0) return missing.map(({ rate }) => ({ rate, rung, steps: length }))
    if (rung > 0) continue
    const beyond = edgeBeyond(search, rates, start)
    if (beyond !== undefined) return [{ rate: beyond, rung, steps: length }]
  }
  return []
}

/** Rates that take part in a rung. */
function contenders({ rates }: CompareSearch, rung: number, start: number): SearchedRate[] {
  let left = [...rates]
  for (let before = 0; before < rung; before++) {
    const sound = soundAt(left, before, start)
    const kept = before === 0 ? Math.max(LEAST_KEPT, Math.ceil(rates.length / HALVING)) : LAST_KEPT
    left = byLoss(sound, before).slice(0, kept)
  }
  return left.toSorted((a, b) => a.rate - b.rate)
}

/**
 * Rates below the first that diverged, and below the first that is higher than the best and ended above the loss of the
 * base; all where none is left.
 */
function soundAt(rates: readonly SearchedRate[], rung: number, start: number): readonly SearchedRate[] {
  const below = (limit: SearchedRate | undefined, among: readonly SearchedRate[]) =>
    among.filter(({ rate }) => limit === undefined || rate < limit.rate)
  const finite = below(
    rates.find(({ rungs }) => rungs[rung]?.loss === null),
    rates,
  )
  const [best] = byLoss(finite, rung)
  if (best === undefined) return rates
  return below(
    finite.find((one) => one.rate > best.rate && lossAt(one, rung) > start),
    finite,
  )
}

function byLoss(rates: readonly SearchedRate[], rung: number): SearchedRate[] {
  return rates.toSorted((a, b) => lossAt(a, rung) - lossAt(b, rung) || a.rate - b.rate)
}

function lossAt({ rungs }: SearchedRate, rung: number): number {
  return rungs[rung]?.loss ?? Number.POSITIVE_INFINITY
}

/** One rate beyond the grid, where the best of the first rung is at its edge; once. */
function edgeBeyond(
  search: CompareSearch,
  rates: readonly SearchedRate[],
  start: number,
): number | undefined {
  if (search.rates.some(({ beyond }) => beyond)) return undefined
  const [best] = byLoss(soundAt(rates, 0, start), 0)
  if (best === undefined) return undefined
  if (best === rates.at(-1)) return halfDecades(best.rate, 1)
  return best === rates[0] ? halfDecades(best.rate, -1) : undefined
}

/** Adds a rung that was run, at a rate of the grid or beyond it. */
export function addRung(search: CompareSearch, rate: number, rung: CompareRung): void {
  const known = search.rates.find((one) => one.rate === rate)
  if (known) known.rungs.push(rung)
  else search.rates.push({ rate, beyond: true, rungs: [rung] })
  search.rates.sort((a, b) => a.rate - b.rate)
  search.steps += rung.steps
  search.seconds += rung.seconds
}

/**
 * Chooses the rate, once `nextRungs` asks for no more: of the last rung the lowest loss; of those within 1 % of it, or
 * within one standard error of the paired differences, the smallest rate.
 */
export function chooseRate(search: CompareSearch, steps: readonly number[], start: number): void {
  const { rates } = search
  if (rates.length === 1) {
    search.chosen = (rates[0] as SearchedRate).rate
    return
  }
  const last = steps.length - 1
  const sound = soundAt(contenders(search, last, start), last, start)
  const [best] = byLoss(sound, last)
  if (best === undefined) return
  const chosen = sound.find((one) => isTie(one.rungs[last] as CompareRung, best.rungs[last] as CompareRung))
  search.chosen = (chosen ?? best).rate
  search.at_edge = search.chosen === rates[0]?.rate || search.chosen === rates.at(-1)?.rate
}

function isTie(one: CompareRung, best: CompareRung): boolean {
  if (one === best) return true
  const [loss, lowest] = [one.loss as number, best.loss as number]
  if (loss <= lowest * (1 + TIE)) return true
  const differences = one.items.map((item, i) => (item as number) - (best.items[i] as number))
  const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length
  const squares = differences.reduce((sum, value) => sum + (value - mean) * (value - mean), 0)
  return mean <= Math.sqrt(squares / Math.max(1, differences.length - 1) / differences.length)
}

/** Runs of a whole search, those that were made included. */
export function searchRuns(points: number, rungs: number): number {
  if (points === 1) return 0
  return [points, Math.max(LEAST_KEPT, Math.ceil(points / HALVING)), LAST_KEPT]
    .slice(0, rungs)
    .reduce((sum, rates) => sum + rates, 0)
}

/** Steps of the rungs of a whole search. */
export function searchSteps(points: number, steps: readonly number[]): number {
  if (points === 1) return 0
  const kept = [points + 1, Math.max(LEAST_KEPT, Math.ceil(points / HALVING)), LAST_KEPT]
  return steps.reduce((sum, length, rung) => sum + length * Math.min(points + 1, kept[rung] as number), 0)
}
