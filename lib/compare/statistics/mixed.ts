/**
 * The significance test of compare: do two strategies differ in their mean over items, for any seed and any items of
 * this kind? Seeds and items are random effects shared by all strategies. With many seeds, or few strategies, the
 * variance between seeds is that of the paired differences of the two strategies. A few seeds of two strategies say
 * little about it, so there it is estimated from all strategies, but never taken below what the two themselves show.
 */
import { mean } from '../../core/mean.js'
import { poolOf, varianceAround } from './pool.js'
import { studentQuantile, studentTail } from './student.js'

/** One score per strategy, seed, and item. */
export type Scores = readonly (readonly ArrayLike<number>[])[]

/** The difference between the means of two strategies. */
export interface Difference {
  difference: number
  standardError: number
  /** Degrees of freedom, by Satterthwaite's approximation. */
  df: number
  /** Two-sided p-value, not adjusted for multiple comparisons. */
  p: number
  /** 95% confidence interval, not adjusted for multiple comparisons. */
  interval: [low: number, high: number]
}

export interface MixedTest {
  /** Variance between seeds of each strategy's mean, after removing the effect shared by all strategies. */
  residualVariances: number[]
  /** Indices of strategies outside the pool, which vary far more over seeds than the others. */
  left: ReadonlySet<number>
  difference: (strategy: number, other: number) => Difference
  /** Only the p-value, which is cheaper to compute. */
  p: (strategy: number, other: number) => number
}

/** Number of seeds from which paired differences say enough about their own variance. */
const PAIRED_SEEDS = 8

/** Smallest number of strategies whose pool knows more about the variance than a pair does. */
const POOLED_STRATEGIES = 4

/** Largest share that the pool has in a variance: the rest is what a few seeds of the two strategies show. */
const POOL_SHARE = 0.5

/**
 * True if the variance between seeds is that of the differences of equal seeds alone. Only the size of a compare
 * decides, which is known before it begins.
 */
export function isPaired(strategies: number, seeds: number): boolean {
  return seeds >= PAIRED_SEEDS || strategies < POOLED_STRATEGIES
}

/** Prepares tests of any two strategies in `scores`, which has at least two seeds. */
export function mixedTest(scores: Scores): MixedTest {
  const seeds = scores[0]?.length ?? 0
  const items = scores[0]?.[0]?.length ?? 0
  const means = scores.map((runs) => runs.map(mean))
  const center = Array.from({ length: seeds }, (_, k) => mean(means.map((row) => row[k] as number)))
  const pool = poolOf(means)

  const paired = isPaired(scores.length, seeds)

  /** Mean square of the seeds for two strategies whose difference has variance `own` over seeds. */
  function seedPart(strategy: number, other: number, own: number): MeanSquare {
    if (paired) return { square: items * own, df: seeds - 1 }
    const noisier = Math.max(pool.own[strategy] as number, pool.own[other] as number)
    const variance = Math.max(pool.variance + noisier, own)
    const share = variance > 0 ? Math.min(POOL_SHARE, pool.variance / variance) : POOL_SHARE
    return { square: items * variance, df: 1 / (share ** 2 / pool.df + (1 - share) ** 2 / (seeds - 1)) }
  }

  function tested(strategy: number, other: number): Omit<Difference, 'interval'> {
    const [first, second] = [scores[strategy], scores[other]] as [ArrayLike<number>[], ArrayLike<number>[]]
    const byItem = new Float64Array(items)
    const bySeed = new Float64Array(seeds)
    for (let k = 0; k < seeds; k++)
      for (let i = 0; i < items; i++) {
        const d = (first[k]?.[i] as number) - (second[k]?.[i] as number)
        byItem[i] = (byItem[i] as number) + d / seeds
        bySeed[k] = (bySeed[k] as number) + d / items
      }
    const average = mean(bySeed)
    let ofItems = 0
    for (let i = 0; i < items; i++) ofItems += ((byItem[i] as number) - average) ** 2
    let ofSeeds = 0
    for (let k = 0; k < seeds; k++) ofSeeds += ((bySeed[k] as number) - average) ** 2
    let rest = 0
    for (let k = 0; k < seeds; k++)
      for (let i = 0; i < items; i++) {
        const d = (first[k]?.[i] as number) - (second[k]?.[i] as number)
        rest += (d - (bySeed[k] as number) - (byItem[i] as number) + average) ** 2
      }
    const itemDf = items - 1
    const restDf = (seeds - 1) * itemDf
    const itemSquare = itemDf > 0 ? (seeds * ofItems) / itemDf : 0
    const restSquare = restDf > 0 ? rest / restDf : 0
    const { square, df } = combined(
      seedPart(strategy, other, ofSeeds / (seeds - 1)),
      { square: itemSquare, df: itemDf },
      { square: restSquare, df: restDf },
    )
    const standardError = Math.sqrt(square / (seeds * items))
    const t = average === 0 ? 0 : Math.abs(average) / standardError
    return { difference: average, standardError, df, p: Math.min(1, 2 * studentTail(t, df)) }
  }

  function difference(strategy: number, other: number): Difference {
    const found = tested(strategy, other)
    const half = found.standardError * studentQuantile(0.975, found.df)
    return { ...found, interval: [found.difference - half, found.difference + half] }
  }
  const residualVariances = means.map((row) => varianceAround(row, center))
  return { residualVariances, left: pool.left, difference, p: (strategy, other) => tested(strategy, other).p }
}

/** A control whose variance between seeds exceeds the others' by this factor makes false positives likely. */
const UNSTABLE = 4

/**
 * Ratio of the control's residual variance to the mean of the others', if it is too large for comparisons; else null.
 * With two strategies it is unknown which one is unstable.
 */
export function unstableControl(variances: readonly number[], control: number): number | null {
  if (variances.length < 3) return null
  const ratio = (variances[control] as number) / mean(variances.filter((_, s) => s !== control))
  return ratio > UNSTABLE ? ratio : null
}

/** A mean square and its degrees of freedom. */
interface MeanSquare {
  square: number
  df: number
}

/** Combines the mean squares of seeds and items, both of which include the residual. */
function combined(seeds: MeanSquare, items: MeanSquare, rest: MeanSquare): MeanSquare {
  const square = seeds.square + items.square - rest.square
  // A residual larger than either mean square is due to chance and must not pull the sum below them.
  const least = Math.max(seeds.square, items.square)
  if (square < least) return { square: least, df: seeds.df }
  const spread = [seeds, items, rest].reduce(
    (total, part) => total + (part.df > 0 ? part.square ** 2 / part.df : 0),
    0,
  )
  return { square, df: spread > 0 ? square ** 2 / spread : seeds.df }
}
