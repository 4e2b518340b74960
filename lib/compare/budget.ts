/**
 * Estimates the time of a compare and reduces seeds and rates, but never strategies, to fit a budget: before it begins,
 * by measured step times, and while it runs, by the time that its runs took.
 */
import { ConfigError } from '../core/errors.js'
import type { CompareTask } from './cells.js'
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

/** Share of a budget that is planned, since runs may take longer than the steps that were measured. */
const PLANNED_SHARE = 0.9
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
  for (const entry of entries) {
    const rates = rateGrid(String(entry.strategy.name), 1, points).length
    const runs = searchRuns(rates, rungs.length)
    total += runsSeconds(entry, base, runs, searchSteps(rates, rungs)) + cellSeconds(entry, base)
  }
  return (seeds * total) / jobs
}

type Entry = Costs['entries'][number]

function runsSeconds(entry: Entry, base: Costs['base'], runs: number, steps: number): number {
  return steps * entry.seconds_per_step + runs * (entry.probe_seconds + base.validation_seconds)
}

function cellSeconds(entry: Entry, base: Costs['base']): number {
  const { probe_seconds: probe, steps, seconds_per_step: step } = entry
  return probe + steps * step + CURVE_POINTS * base.validation_seconds + base.test_seconds
}

/** Estimated seconds for the runs of a compare that are missing, one at a time. */
function missingSeconds({
  entries,
  seeds,
  plan,
  base,
}: Pick<CompareResults, 'entries' | 'seeds' | 'plan' | 'base'>): number {
  if (base === null) return 0
  let total = 0
  for (const entry of entries) {
    for (const { rates, chosen, steps } of entry.searches) {
      if (chosen !== null) continue
      const made = rates.reduce((sum, { rungs }) => sum + rungs.length, 0)
      const runs = Math.max(0, searchRuns(rates.length, plan.rungs.length) - made)
      total += runsSeconds(entry, base, runs, Math.max(0, searchSteps(rates.length, plan.rungs) - steps))
    }
    total += (seeds.length - entry.cells.length) * cellSeconds(entry, base)
  }
  return total
}

/** Keeps a running compare within its budget: seeds that no longer fit are dropped, the last one first. */
export class BudgetKeeper {
  readonly #begun = performance.now()
  readonly #spent: number
  readonly #jobs: number
  #expected = 0
  #taken = 0

  /** @param jobs runs at a time */
  constructor({ plan }: CompareResults, jobs: number) {
    this.#spent = plan.spent_seconds
    this.#jobs = jobs
  }

  /** Notes the duration of a run. */
  note(task: CompareTask, { entries, base }: CompareResults, seconds: number): void {
    const entry = entries.find(({ name }) => name === task.name)
    if (entry === undefined || base === null) return
    this.#expected +=
      task.kind === 'rung' ? runsSeconds(entry, base, 1, task.steps) : cellSeconds(entry, base)
    this.#taken += seconds
  }

  /**
   * Drops seeds that do not fit in the time left, but never the first.
   * @param running keys of the tasks that run, whose seeds are kept
   */
  cut(results: CompareResults, running: readonly CompareTask[]): void {
    const { plan, entries } = results
    plan.spent_seconds = this.#spent + (performance.now() - this.#begun) / 1000
    const { budget_seconds: budget } = plan
    if (budget === null) return
    const asked = results.seeds.length
    const pace = this.#expected > 0 ? this.#taken / this.#expected : 1
    const fits = () => plan.spent_seconds + (missingSeconds(results) * pace) / this.#jobs <= budget
    while (results.seeds.length > 1 && !fits()) {
      const last = results.seeds.at(-1)
      const isDone = entries.every(({ cells }) => cells.some(({ seed }) => seed === last))
      if (isDone || running.some(({ seed }) => seed === last)) break
      results.seeds = results.seeds.slice(0, -1)
      for (const entry of entries) {
        entry.searches = entry.searches.filter(({ seed }) => seed !== last)
        entry.cells = entry.cells.filter(({ seed }) => seed !== last)
      }
    }
    if (results.seeds.length < asked)
      plan.cuts.push(
        `${results.seeds.length} of ${asked} seeds, since the runs took ${pace.toFixed(1)} times as long as expected: smaller differences go unnoticed`,
      )
  }
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
  const fits = (effort: Effort) => budget === null || expectedSeconds(costs, effort) <= PLANNED_SHARE * budget
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
