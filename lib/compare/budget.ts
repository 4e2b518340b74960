/** The expected time of a compare, and what is cut so that it fits a budget: seeds and rates, never a strategy. */
import { ConfigError } from '../core/errors.js'
import type { CompareEntry, CompareResults } from './results.js'
import { GRID_POINTS, rateGrid, searchRuns, searchSteps } from './search.js'

/** How often and at how many rates entries are trained. */
export interface Effort {
  seeds: number
  /** Points of the usual grid; 1: the default rate alone. */
  points: number
}

/** The numbers from which the time of a compare follows. */
export interface Costs {
  entries: readonly Pick<CompareEntry, 'name' | 'steps' | 'seconds_per_step' | 'probe_seconds'>[]
  base: Pick<NonNullable<CompareResults['base']>, 'validation_seconds' | 'test_seconds'>
  rungs: readonly number[]
  jobs: number
}

/** Measurements of the validation rows in a cell. */
const CURVE_POINTS = 10
/** Attempts to fit a budget, in their order: fewer seeds first down to three, then fewer rates. */
const LADDER: readonly Effort[] = [
  { seeds: 3, points: GRID_POINTS },
  { seeds: 3, points: 5 },
  { seeds: 2, points: 5 },
  { seeds: 2, points: 3 },
  { seeds: 1, points: 3 },
  { seeds: 1, points: 1 },
]

/** Expected seconds of all rungs and cells. */
export function expectedSeconds({ entries, base, rungs, jobs }: Costs, { seeds, points }: Effort): number {
  let total = 0
  for (const { name, steps, seconds_per_step: step, probe_seconds: probe } of entries) {
    const rates = rateGrid(name, 1, points).length
    const runs = searchRuns(rates, rungs.length)
    total += searchSteps(rates, rungs) * step + runs * (probe + base.validation_seconds)
    total += seeds * (probe + steps * step + CURVE_POINTS * base.validation_seconds + base.test_seconds)
  }
  return total / jobs
}

/**
 * The effort that fits a budget, with a sentence on everything that was cut.
 * @param asked seeds that were asked for
 * @param budget seconds; null: no limit
 * @throws {ConfigError} when one seed at the default rates does not fit
 */
export function effortWithin(
  costs: Costs,
  asked: number,
  budget: number | null,
): Effort & { seconds: number; cuts: string[] } {
  const whole = { seeds: asked, points: GRID_POINTS }
  const steps = Array.from({ length: Math.max(0, asked - 3) }, (_, i) => ({ ...whole, seeds: asked - i }))
  const ladder = [...steps, ...LADDER].filter(({ seeds }) => seeds <= asked)
  const efforts = [whole, ...ladder]
  const fits = (effort: Effort) => budget === null || expectedSeconds(costs, effort) <= budget
  const effort = efforts.find(fits)
  if (effort === undefined) {
    const least = expectedSeconds(costs, efforts.at(-1) as Effort)
    const count = costs.entries.length
    throw new ConfigError(
      `compare: the budget of ${Math.round(budget as number)} s is too small: ${count} entries with one seed at their default rates take about ${Math.ceil(least)} s. Raise the budget, name fewer strategies, or lower max_steps.`,
      { budget, needed: Math.ceil(least), entries: count },
    )
  }
  const cuts: string[] = []
  if (effort.seeds < asked)
    cuts.push(`${effort.seeds} of ${asked} seeds, to fit the budget: smaller differences go unnoticed`)
  if (effort.points < GRID_POINTS)
    cuts.push(
      effort.points === 1
        ? 'no search of learning rates, to fit the budget: every strategy trains at its default rate'
        : `${effort.points} of ${GRID_POINTS} learning rates, to fit the budget: a better one may lie beyond them`,
    )
  return { ...effort, seconds: expectedSeconds(costs, effort), cuts }
}
