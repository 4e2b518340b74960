/** Estimates the time of a compare and reduces seeds and rates, but never strategies, to fit a budget. */
import { ConfigError } from '../core/errors.js'
import type { CompareEntry, CompareResults } from './results.js'
import { GRID_POINTS, rateGrid, searchRuns, searchSteps } from './search.js'

/** Number of seeds and learning rates per entry. */
export interface Effort {
  seeds: number
  /** Learning rates in the standard grid; 1 means the default rate alone. */
  points: number
}

/** Measurements from which the time of a compare is estimated. */
export interface Costs {
  entries: readonly Pick<CompareEntry, 'strategy' | 'steps' | 'seconds_per_step' | 'probe_seconds'>[]
  base: Pick<NonNullable<CompareResults['base']>, 'validation_seconds' | 'test_seconds'>
  rungs: readonly number[]
  jobs: number
}

/** Validation measurements per cell. */
const CURVE_POINTS = 10
/** Reductions tried in order to fit a budget: fewer seeds, down to three, then fewer rates. */
const LADDER: readonly Effort[] = [
  { seeds: 3, points: GRID_POINTS },
  { seeds: 3, points: 5 },
  { seeds: 2, points: 5 },
  { seeds: 2, points: 3 },
  { seeds: 1, points: 3 },
  { seeds: 1, points: 1 },
]

/** Estimated seconds for all rungs and cells. */
export function expectedSeconds({ entries, base, rungs, jobs }: Costs, { seeds, points }: Effort): number {
  let total = 0
  for (const { strategy, steps, seconds_per_step: step, probe_seconds: probe } of entries) {
    const rates = rateGrid(String(strategy.name), 1, points).length
    const runs = searchRuns(rates, rungs.length)
    total += searchSteps(rates, rungs) * step + runs * (probe + base.validation_seconds)
    total += seeds * (probe + steps * step + CURVE_POINTS * base.validation_seconds + base.test_seconds)
  }
  return total / jobs
}

/**
 * Finds the largest effort that fits a budget, and describes each reduction in a sentence.
 * @param asked number of seeds requested
 * @param budget seconds; null: no limit
 * @throws {ConfigError} when not even one seed at the default rates fits
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
