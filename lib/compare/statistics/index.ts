/**
 * Statistics of a metric over strategies, seeds, and items: means, differences from the control and of all other pairs
 * with a verdict on each, and the smallest detectable differences.
 */
import { DataError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import { type BootstrapOptions, bootstrapMeans, percentileInterval } from './bootstrap.js'
import { equivalenceTest } from './equivalence.js'
import { holm } from './holm.js'
import { type Difference, mixedTest, type Scores, unstableControl } from './mixed.js'
import { detectableDifference, SIGNIFICANT } from './power.js'

export { type BootstrapOptions, bootstrapMeans, percentileInterval } from './bootstrap.js'
export { fisherTail } from './fisher.js'
export { holm } from './holm.js'
export { mcnemar } from './mcnemar.js'
export {
  type Difference,
  isPaired,
  type MixedTest,
  mixedTest,
  type Scores,
  unstableControl,
} from './mixed.js'
export { type MeanInterval, meanInterval, pairedTest } from './paired.js'
export { detectableDifference, type PowerSettings, seedsToDetect, simulatedPower } from './power.js'
export { studentQuantile, studentTail } from './student.js'
export { wilson } from './wilson.js'

/** Outcomes of comparing one strategy with another. */
export const VERDICTS = ['better', 'worse', 'equal', 'cannot be told'] as const
export type Verdict = (typeof VERDICTS)[number]

export interface MetricScores {
  names: readonly string[]
  /**
   * Indexed by strategy, seed, and item, with the same seeds and items for all. A metric of the whole test set is one
   * item.
   */
  scores: Scores
  /** Index of the strategy that the others are compared with. */
  control: number
  higherIsBetter: boolean
  /** Differences smaller than this do not matter, in the unit of the metric; without one, equality is not tested. */
  margin?: number | null
  bootstrap?: BootstrapOptions
}

/** Two strategies, tested. With a single seed the variance between seeds is unknown, and so are the p-values. */
export interface PairStatistics {
  /** Mean of the first minus that of the second. */
  difference: number
  /** Adjusted by Holm, within the family. */
  p_holm: number | null
  /** P-value for a difference of at least the margin, adjusted in the same way; null without a margin. */
  p_equal: number | null
  /** Outcome for the first strategy; `equal` if the difference is surely within the margin, even if it is real. */
  verdict: Verdict
}

export interface MetricStatistics {
  /** The margin of the tests of equality. */
  margin: number | null
  /** Sorted by mean, best first. */
  means: {
    name: string
    mean: number
    /** 95% bootstrap interval over seeds and items; too narrow with few seeds. */
    interval: [number, number]
    /** Standard deviation over seeds; null with a single seed. */
    spread: number | null
    /** Number of diverged seeds. Non-finite scores are replaced by the worst score of any run on that item. */
    diverged: number
  }[]
  /** Each strategy beside the control, best first: one family of tests. */
  against: (PairStatistics & {
    name: string
    interval: [number, number] | null
    df: number | null
    p: number | null
    /** Smallest true difference that 80% of such compares would detect. */
    detectable: number | null
  })[]
  /** All pairs without the control, the one with the better mean first: a second family of tests. */
  pairs: (PairStatistics & { name: string; other: string })[]
  /** Strategies whose variance between seeds far exceeds the others'. */
  left_pool: string[]
  /**
   * Ratio of the control's variance between seeds to the others', if too large for reliable comparisons; otherwise
   * null.
   */
  unstable_control: number | null
}

/** Compares strategies on one metric. */
export function metricStatistics({
  names,
  scores: given,
  control,
  higherIsBetter,
  margin = null,
  bootstrap = {},
}: MetricScores): MetricStatistics {
  const { scores, diverged } = finite(given, higherIsBetter)
  const seeds = scores[0]?.length ?? 0
  const bySeed = scores.map((runs) => runs.map(mean))
  const averages = bySeed.map(mean)
  const order = names
    .map((_, s) => s)
    .sort((a, b) => {
      const difference = (averages[a] as number) - (averages[b] as number)
      return (higherIsBetter ? -difference : difference) || a - b
    })
  const others = order.filter((s) => s !== control)
  const tests = seeds > 1 && names.length > 1 ? mixedTest(scores) : undefined
  const test = ([one, other]: Pair): Tested => ({
    difference: (averages[one] as number) - (averages[other] as number),
    found: tests?.difference(one, other),
  })
  const withControl = others.map((s) => test([s, control]))
  const pairs = others.flatMap((one, place) => others.slice(place + 1).map((other): Pair => [one, other]))
  const resampled = bootstrapMeans(scores, bootstrap)
  const nameOf = (s: number) => names[s] as string
  return {
    margin,
    means: order.map((s) => ({
      name: nameOf(s),
      mean: averages[s] as number,
      interval: percentileInterval(resampled[s] as Float64Array),
      spread: seeds > 1 ? deviation(bySeed[s] as number[]) : null,
      diverged: diverged[s] as number,
    })),
    against: family(withControl, higherIsBetter, margin).map((judged, place) => {
      const found = withControl[place]?.found
      return {
        name: nameOf(others[place] as number),
        ...judged,
        ...{ interval: found?.interval ?? null, df: found?.df ?? null, p: found?.p ?? null },
        detectable: found ? detectableDifference(found, others.length) : null,
      }
    }),
    pairs: family(pairs.map(test), higherIsBetter, margin).map((judged, place) => {
      const [one, other] = pairs[place] as Pair
      return { name: nameOf(one), other: nameOf(other), ...judged }
    }),
    left_pool: order.filter((s) => tests?.left.has(s)).map(nameOf),
    unstable_control: tests ? unstableControl(tests.residualVariances, control) : null,
  }
}

type Pair = [one: number, other: number]

interface Tested {
  difference: number
  found: Difference | undefined
}

/** Verdicts on a family of differences: at most 5 % of families have a false one, and so for false equalities. */
function family(tested: readonly Tested[], higherIsBetter: boolean, margin: number | null): PairStatistics[] {
  const found = tested.flatMap((one) => one.found ?? [])
  const adjusted = holm(found.map(({ p }) => p))
  const equal = margin === null ? [] : holm(found.map((one) => equivalenceTest(one, margin)))
  return tested.map(({ difference }, place) => {
    const [p = null, pEqual = null] = [adjusted[place], equal[place]]
    return {
      difference,
      p_holm: p,
      p_equal: pEqual,
      verdict: verdictOf(difference, higherIsBetter, p, pEqual),
    }
  })
}

function verdictOf(
  difference: number,
  higherIsBetter: boolean,
  p: number | null,
  pEqual: number | null,
): Verdict {
  if (pEqual !== null && pEqual < SIGNIFICANT) return 'equal'
  if (p === null || p >= SIGNIFICANT) return 'cannot be told'
  return difference > 0 === higherIsBetter ? 'better' : 'worse'
}

/** Scores in which non-finite values are replaced by the worst score of any run on that item. */
function finite(given: Scores, higherIsBetter: boolean): { scores: Scores; diverged: number[] } {
  const converged = (run: ArrayLike<number>) => Array.from(run).every(Number.isFinite)
  const diverged = given.map((runs) => runs.filter((run) => !converged(run)).length)
  if (diverged.every((count) => count === 0)) return { scores: given, diverged }
  const items = given[0]?.[0]?.length ?? 0
  const worse = (a: number, b: number) => (higherIsBetter ? Math.min(a, b) : Math.max(a, b))
  const worst = Array.from({ length: items }, (_, i) =>
    given
      .flatMap((runs) => runs.map((run) => run[i] as number))
      .filter(Number.isFinite)
      .reduce<number | undefined>(
        (found, value) => (found === undefined ? value : worse(found, value)),
        undefined,
      ),
  )
  if (worst.some((value) => value === undefined))
    throw new DataError('no run has a finite score of some item, so there is nothing to compare.')
  const scores = given.map((runs) =>
    runs.map((run) =>
      Float64Array.from({ length: items }, (_, i) => {
        const value = run[i] as number
        return Number.isFinite(value) ? value : (worst[i] as number)
      }),
    ),
  )
  return { scores, diverged }
}

function deviation(values: readonly number[]): number {
  const average = mean(values)
  return Math.sqrt(values.reduce((total, value) => total + (value - average) ** 2, 0) / (values.length - 1))
}
