/**
 * Statistics of a metric over strategies, seeds, and items: differences from the control, groups of distinguishable
 * strategies, and the smallest detectable differences.
 */
import { DataError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import { type BootstrapOptions, bootstrapMeans, percentileInterval } from './bootstrap.js'
import { holm } from './holm.js'
import { letters } from './letters.js'
import { type Difference, type MixedTest, mixedTest, type Scores, unstableControl } from './mixed.js'
import { detectableDifference, SIGNIFICANT } from './power.js'

export { type BootstrapOptions, bootstrapMeans, percentileInterval } from './bootstrap.js'
export { fisherTail } from './fisher.js'
export { holm } from './holm.js'
export { letters } from './letters.js'
export { mcnemar } from './mcnemar.js'
export { type Difference, type MixedTest, mixedTest, type Scores, unstableControl } from './mixed.js'
export { type MeanInterval, meanInterval, pairedTest } from './paired.js'
export { detectableDifference, type PowerSettings, seedsToDetect, simulatedPower } from './power.js'
export { studentQuantile, studentTail } from './student.js'
export { wilson } from './wilson.js'

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
  bootstrap?: BootstrapOptions
}

export interface MetricStatistics {
  /**
   * Each strategy minus the control. With a single seed the variance between seeds is unknown, so the other fields are
   * null.
   */
  against: {
    name: string
    difference: number
    interval: [number, number] | null
    df: number | null
    p: number | null
    p_holm: number | null
    /** Smallest true difference that 80% of such compares would detect. */
    detectable: number | null
  }[]
  /** Sorted by mean, best first. */
  groups: {
    name: string
    /** Strategies that share no letter differ significantly; those outside the pool have no letters. */
    letters: string
    mean: number
    /** 95% bootstrap interval over seeds and items; too narrow with few seeds. */
    interval: [number, number]
    /** Standard deviation over seeds; null with a single seed. */
    spread: number | null
    /** Number of diverged seeds. Non-finite scores are replaced by the worst score of any run on that item. */
    diverged: number
  }[]
  /**
   * Strategies whose variance between seeds far exceeds the others'; their differences are tested with their own
   * variance.
   */
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
  bootstrap = {},
}: MetricScores): MetricStatistics {
  const { scores, diverged } = finite(given, higherIsBetter)
  const seeds = scores[0]?.length ?? 0
  const means = scores.map((runs) => runs.map(mean))
  const averages = means.map(mean)
  const order = names
    .map((_, s) => s)
    .sort((a, b) => {
      const difference = (averages[a] as number) - (averages[b] as number)
      return (higherIsBetter ? -difference : difference) || a - b
    })
  const others = order.filter((s) => s !== control)
  const tests = seeds > 1 && names.length > 1 ? mixedTest(scores) : undefined
  const found = others.map((s) => tests?.difference(s, control))
  const adjusted = tests ? holm(found.map((result) => (result as Difference).p)) : []
  const against = others.map((s, place) => {
    const result = found[place]
    return {
      name: names[s] as string,
      difference: (averages[s] as number) - (averages[control] as number),
      interval: result?.interval ?? null,
      df: result?.df ?? null,
      p: result?.p ?? null,
      p_holm: adjusted[place] ?? null,
      detectable: result ? detectableDifference(result, others.length) : null,
    }
  })
  const marks = groupLetters(order, tests)
  const resampled = bootstrapMeans(scores, bootstrap)
  const groups = order.map((s, place) => ({
    name: names[s] as string,
    letters: marks[place] as string,
    mean: averages[s] as number,
    interval: percentileInterval(resampled[s] as Float64Array),
    spread: seeds > 1 ? deviation(means[s] as number[]) : null,
    diverged: diverged[s] as number,
  }))
  return {
    against,
    groups,
    left_pool: order.filter((s) => tests?.left.has(s)).map((s) => names[s] as string),
    unstable_control: tests ? unstableControl(tests.residualVariances, control) : null,
  }
}

/**
 * Letters of the strategies in `order`, from tests of all pairs in the pool; none for strategies outside it. Two
 * strategies differ only if everything ranked between them does too, so groups are contiguous.
 */
function groupLetters(order: readonly number[], tests: MixedTest | undefined): string[] {
  if (!tests) return order.map(() => 'a')
  const pool = order.filter((s) => !tests.left.has(s))
  const pairs = pool.flatMap((_, b) => pool.slice(0, b).map((_, a) => [a, b] as const))
  const adjusted = holm(pairs.map(([a, b]) => tests.p(pool[a] as number, pool[b] as number)))
  const alike = pairs.filter((_, i) => (adjusted[i] as number) >= SIGNIFICANT)
  const marks = letters(pool.length, (a, b) => !alike.some(([first, last]) => first <= a && b <= last))
  return order.map((s) => marks[pool.indexOf(s)] ?? '')
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
