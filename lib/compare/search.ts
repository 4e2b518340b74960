/**
 * Learning-rate search by successive halving: short runs at all rates of a grid, then longer runs at the best of them.
 * The next runs follow from the finished rungs alone, so a search can stop and resume at any point.
 * @see Jamieson and Talwalkar 2016, arXiv 1502.07943
 */
import { rulesNamed } from '../strategies/index.js'
import type { CompareRung, CompareSearch } from './results.js'

type SearchedRate = CompareSearch['rates'][number]

const LEAST_STEPS = 20
/** The first rung is 1/27 of a run; later rungs are three and nine times as long. */
const FIRST_SHARE = 27
const HALVING = 3
/** The last rung is at most a third of a run. */
const LAST_SHARE = 3
/** Rates kept after a rung: the best third after the first, but at least three; two after later ones. */
const LEAST_KEPT = 3
const LAST_KEPT = 2
/** Losses within this relative difference count as tied; the smaller rate wins. */
const TIE = 0.01
/** Points of the standard grid, in half-decades. Strategies whose best rates vary more get a wider grid. */
export const GRID_POINTS = 7

/** Steps of each rung when searching for runs of `steps` steps. */
export function rungSteps(steps: number): number[] {
  const first = Math.min(steps, Math.max(LEAST_STEPS, Math.ceil(steps / FIRST_SHARE)))
  const second = first * HALVING
  const third = second * HALVING
  return [first, ...(second <= steps ? [second] : []), ...(third <= steps / LAST_SHARE ? [third] : [])]
}

/** The rate `count` half-decades above `rate`, rounded to two digits. */
export function halfDecades(rate: number, count: number): number {
  const whole = Math.floor(count / 2)
  const odd = count - 2 * whole === 1
  return Number((rate * 10 ** whole * (odd ? 3.1622776601683795 : 1)).toPrecision(2))
}

/**
 * Rates in half-decades around `center`, in ascending order.
 * @param points of the standard grid, an odd number; wide grids have two more
 */
export function rateGrid(strategy: string, center: number, points: number): number[] {
  const count = points > 1 ? points + (rulesNamed(strategy).compared?.widerGrid ?? 0) : points
  const half = (count - 1) / 2
  return Array.from({ length: count }, (_, i) => halfDecades(center, i - half))
}

/** An empty search. */
export function newSearch(grid: readonly number[]): CompareSearch {
  const rates = grid.map((rate) => ({ rate, rungs: [] }))
  return { rates, chosen: null, at_edge: false, flat: false, steps: 0, seconds: 0 }
}

/** A run requested by a search. */
export interface RungAsked {
  rate: number
  /** Index of the rung, from 0. */
  rung: number
  steps: number
}

/**
 * The runs that a search can start now; none once it is over, or while other runs of the same rung are unfinished.
 * @param start loss of the base model; a rate that ends above it is rejected
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
 * Rates below the first that diverged, and below the first that is higher than the best and ended above the base loss;
 * all rates if that leaves none.
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

/** One extra rate beyond the grid if the best of the first rung is at its edge; at most once per search. */
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

/** Adds a finished rung at a rate on the grid or beyond it. */
export function addRung(search: CompareSearch, rate: number, rung: CompareRung): void {
  const known = search.rates.find((one) => one.rate === rate)
  if (known) known.rungs.push(rung)
  else search.rates.push({ rate, beyond: true, rungs: [rung] })
  search.rates.sort((a, b) => a.rate - b.rate)
  search.steps += rung.steps
  search.seconds += rung.seconds
}

/**
 * Chooses the rate once `nextRungs` returns none: the smallest rate in the last rung whose loss is within 1% of the
 * lowest, or within one standard error of the paired differences.
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

/** Total number of runs in a search. */
export function searchRuns(points: number, rungs: number): number {
  if (points === 1) return 0
  return [points, Math.max(LEAST_KEPT, Math.ceil(points / HALVING)), LAST_KEPT]
    .slice(0, rungs)
    .reduce((sum, rates) => sum + rates, 0)
}

/** Total number of steps in a search. */
export function searchSteps(points: number, steps: readonly number[]): number {
  if (points === 1) return 0
  const kept = [points + 1, Math.max(LEAST_KEPT, Math.ceil(points / HALVING)), LAST_KEPT]
  return steps.reduce((sum, length, rung) => sum + length * Math.min(points + 1, kept[rung] as number), 0)
}
