/**
 * Learning-rate search by successive halving: short runs at all rates of a grid, then longer runs at the best of them and
 * at rates between. Short runs have the schedule of the whole run in small. The next runs follow from the finished rungs alone, so a search can stop and resume at any point.
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
/** Losses within this relative difference count as tied. */
const TIE = 0.01
/** The rung after which the rates a quarter of a decade from the best two are tried, if there are as many. */
const REFINED_AT = 1
/** Such rates where the best two are neighbors, as they usually are: between them, and beyond both. */
const REFINED = 3
const QUARTER = 10 ** 0.25
/** Rates closer than this, in decades, are the same one. */
const SAME = 0.1
/** Rates farther than this from all others, in decades, are beyond the grid. */
const HALFWAY = 0.375
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

/**
 * An empty search.
 * @param start loss of the base model; a rate that ends above it is rejected
 */
export function newSearch(grid: readonly number[], seed: number, start: number | null): CompareSearch {
  const rates = grid.map((rate) => ({ rate, rungs: [] }))
  return { seed, start, rates, chosen: null, at_edge: false, flat: false, steps: 0, seconds: 0 }
}

/** A run requested by a search. */
export interface RungAsked {
  rate: number
  /** Index of the rung, from 0. */
  rung: number
  steps: number
}

/** Options of a search. */
interface SearchOptions {
  /** Try rates a quarter of a decade from the best two. Default true. */
  refines?: boolean
}

/**
 * The runs that a search can start now; none once it is over, or while other runs of the same rung are unfinished.
 */
export function nextRungs(
  search: CompareSearch,
  steps: readonly number[],
  { refines = true }: SearchOptions = {},
): RungAsked[] {
  if (search.rates.length === 1) return []
  for (const [rung, length] of steps.entries()) {
    const asked = (rates: readonly number[]) => rates.map((rate) => ({ rate, rung, steps: length }))
    const rates = contenders(search, steps, rung)
    const missing = rates.filter((one) => rungOf(one, length) === undefined)
    if (missing.length > 0) return asked(missing.map(({ rate }) => rate))
    const beyond = rung === 0 ? edgeBeyond(search, rates, length) : undefined
    if (beyond !== undefined) return asked([beyond])
    if (!refines || rung !== refinedAt(steps)) continue
    const between = betweenBest(search, steps).filter((rate) => find(search, rate) === undefined)
    if (between.length > 0) return asked(between)
  }
  return []
}

const refinedAt = (steps: readonly number[]) => Math.min(REFINED_AT, steps.length - 1)

/** Rates that take part in a rung, of those on the grid or beyond it; those between join once they have been tried. */
function contenders({ rates, start }: CompareSearch, steps: readonly number[], rung: number): SearchedRate[] {
  const grid = rates.filter(({ refined }) => !refined)
  let left = grid
  for (let before = 0; before < rung; before++) {
    const length = steps[before] as number
    if (before === refinedAt(steps)) left = [...left, ...rates.filter(({ refined }) => refined)]
    const kept = before === 0 ? Math.max(LEAST_KEPT, Math.ceil(grid.length / HALVING)) : LAST_KEPT
    left = byLoss(soundAt(left, length, start), length).slice(0, kept)
  }
  return left.toSorted((a, b) => a.rate - b.rate)
}

/** Rates a quarter of a decade from the best two of a rung, which are on the grid or beyond it. */
function betweenBest(search: CompareSearch, steps: readonly number[]): number[] {
  const rung = refinedAt(steps)
  const length = steps[rung] as number
  const sound = soundAt(contenders(search, steps, rung), length, search.start)
  const found: number[] = []
  const taken = search.rates.filter(({ refined }) => !refined).map(({ rate }) => rate)
  const learned = byLoss(sound, length).filter((one) => Number.isFinite(lossAt(one, length)))
  for (const { rate } of learned.slice(0, LAST_KEPT))
    for (const near of [rate / QUARTER, rate * QUARTER])
      if (![...taken, ...found].some((other) => isSame(other, near))) found.push(Number(near.toPrecision(2)))
  return found
}

const isSame = (a: number, b: number) => Math.abs(Math.log10(a / b)) < SAME

const find = ({ rates }: CompareSearch, rate: number) => rates.find((one) => one.rate === rate)

/**
 * Rates below the first that diverged, and below the first that is higher than the best and ended above the base loss;
 * all rates if that leaves none.
 */
function soundAt(
  rates: readonly SearchedRate[],
  steps: number,
  start: number | null,
): readonly SearchedRate[] {
  const ascending = rates.toSorted((a, b) => a.rate - b.rate)
  const below = (limit: SearchedRate | undefined, among: readonly SearchedRate[]) =>
    among.filter(({ rate }) => limit === undefined || rate < limit.rate)
  const finite = below(
    ascending.find((one) => rungOf(one, steps)?.loss === null),
    ascending,
  )
  const [best] = byLoss(finite, steps)
  if (best === undefined) return ascending
  return below(
    finite.find((one) => one.rate > best.rate && start !== null && lossAt(one, steps) > start),
    finite,
  )
}

function byLoss(rates: readonly SearchedRate[], steps: number): SearchedRate[] {
  return rates.toSorted((a, b) => lossAt(a, steps) - lossAt(b, steps) || a.rate - b.rate)
}

/** The run at a rate that made so many steps. */
export function rungOf({ rungs }: SearchedRate, steps: number): CompareRung | undefined {
  return rungs.find((rung) => rung.steps === steps)
}

function lossAt(one: SearchedRate, steps: number): number {
  return rungOf(one, steps)?.loss ?? Number.POSITIVE_INFINITY
}

/** One extra rate beyond the grid if the best of the first rung is at its edge; at most once per search. */
function edgeBeyond(
  search: CompareSearch,
  rates: readonly SearchedRate[],
  steps: number,
): number | undefined {
  if (search.rates.some(({ beyond }) => beyond)) return undefined
  const [best] = byLoss(soundAt(rates, steps, search.start), steps)
  if (best === undefined) return undefined
  if (best === rates.at(-1)) return halfDecades(best.rate, 1)
  return best === rates[0] ? halfDecades(best.rate, -1) : undefined
}

/** Adds a finished rung at a rate on the grid, beyond it, or between its points. */
export function addRung(search: CompareSearch, rate: number, rung: CompareRung): void {
  const known = find(search, rate)
  const isBeyond = search.rates.every((one) => Math.abs(Math.log10(one.rate / rate)) > HALFWAY)
  if (known) known.rungs.push(rung)
  else search.rates.push({ rate, ...(isBeyond ? { beyond: true } : { refined: true }), rungs: [rung] })
  search.rates.sort((a, b) => a.rate - b.rate)
  search.steps += rung.steps
  search.seconds += rung.seconds
}

/**
 * Chooses the rate once `nextRungs` returns none: of the rates in the last rung whose loss is within 1 % of the lowest, or
 * within one standard error of the paired differences, the one in the middle, which has least to lose by a small error.
 */
export function chooseRate(search: CompareSearch, steps: readonly number[]): void {
  const { rates, start } = search
  if (rates.length === 1) {
    search.chosen = (rates[0] as SearchedRate).rate
    return
  }
  const last = steps.length - 1
  const length = steps[last] as number
  const refined = rates.filter((one) => one.refined && rungOf(one, length) !== undefined)
  const tried = new Set([...contenders(search, steps, last), ...refined])
  const sound = soundAt([...tried], length, start)
  const [best] = byLoss(sound, length)
  if (best === undefined) return
  const tied = sound.filter((one) =>
    isTie(rungOf(one, length) as CompareRung, rungOf(best, length) as CompareRung),
  )
  search.chosen = middleOf(tied.length === 0 ? [best] : tied, rates).rate
  search.at_edge = search.chosen === rates[0]?.rate || search.chosen === rates.at(-1)?.rate
}

/** The middle of ascending rates; of two in the middle, the one beside which the other neighbor loses less. */
function middleOf(tied: readonly SearchedRate[], rates: readonly SearchedRate[]): SearchedRate {
  const half = (tied.length - 1) / 2
  const [low, high] = [tied[Math.floor(half)], tied[Math.ceil(half)]] as [SearchedRate, SearchedRate]
  if (low === high) return low
  const grid = rates.filter(({ refined }) => !refined)
  const first = (one: SearchedRate | undefined) => one?.rungs[0]?.loss ?? Number.POSITIVE_INFINITY
  const below = grid.findLast(({ rate }) => rate < low.rate)
  const above = grid.find(({ rate }) => rate > high.rate)
  return first(above) < first(below) ? high : low
}

function isTie(one: CompareRung, best: CompareRung): boolean {
  if (one === best) return true
  if (one.loss === null || best.loss === null) return false
  const [loss, lowest] = [one.loss, best.loss]
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
    .reduce((sum, rates) => sum + rates, REFINED)
}

/** Total number of steps in a search. */
export function searchSteps(points: number, steps: readonly number[]): number {
  if (points === 1) return 0
  const kept = [points + 1, Math.max(LEAST_KEPT, Math.ceil(points / HALVING)), LAST_KEPT]
  const refined = REFINED * (steps[refinedAt(steps)] as number)
  return steps.reduce(
    (sum, length, rung) => sum + length * Math.min(points + 1, kept[rung] as number),
    refined,
  )
}
