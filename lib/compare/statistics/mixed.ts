/**
 * The test of compare: whether two strategies differ on the mean over items, for any seed and any items of this kind.
 * Seeds and items are both random, and every strategy has the same ones. The variance between seeds is estimated from a
 * pool of strategies, since three seeds of two of them say little, but is never taken to be less than what these two
 * show. The more of it is their own, the fewer its degrees of freedom.
 */
import { mean } from '../../core/mean.js'
import { poolOf, varianceAround } from './pool.js'
import { studentQuantile, studentTail } from './student.js'

/** One number for each strategy, seed, and item. */
export type Scores = readonly (readonly ArrayLike<number>[])[]

/** A strategy's mean less another's. */
export interface Difference {
  difference: number
  standardError: number
  /** Degrees of freedom, by Satterthwaite. */
  df: number
  /** P-value of no difference, two-sided, not adjusted for other comparisons. */
  p: number
  /** 95 %, not adjusted for other comparisons. */
  interval: [low: number, high: number]
}

export interface MixedTest {
  /** Variance between seeds of each strategy's mean, without what all strategies have in common. */
  residualVariances: number[]
  /** Strategies outside the pool, by index: their differences are tested by their own variance between seeds. */
  left: ReadonlySet<number>
  difference: (strategy: number, other: number) => Difference
  /** Its p alone, which takes less time. */
  p: (strategy: number, other: number) => number
}

/** Prepares the tests of any two of `scores`, which have two seeds or more. */
export function mixedTest(scores: Scores): MixedTest {
  const seeds = scores[0]?.length ?? 0
  const items = scores[0]?.[0]?.length ?? 0
  const means = scores.map((runs) => runs.map(mean))
  const center = Array.from({ length: seeds }, (_, k) => mean(means.map((row) => row[k] as number)))
  const pool = poolOf(means)

  /** Mean square of the seeds for two strategies whose difference varies so much over seeds. */
  function seedPart(strategy: number, other: number, own: number): MeanSquare {
    const variance = Math.max(2 * pool.variance, own)
    const isOwn = pool.left.has(strategy) || pool.left.has(other)
    const shared = isOwn ? 0 : variance > 0 ? ((2 * pool.variance) / variance) ** 2 : 1
    return { square: items * variance, df: 1 / (shared / pool.df + (1 - shared) / (seeds - 1)) }
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

/** A control whose variance between seeds is so many times the others' makes false differences likely. */
const UNSTABLE = 4

/**
 * How many times the control's residual variance is the mean of the others', if it is too large to compare with, or null.
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

/** The seeds' and the items' share together, of which each has the rest in it. */
function combined(seeds: MeanSquare, items: MeanSquare, rest: MeanSquare): MeanSquare {
  const square = seeds.square + items.square - rest.square
  // A rest larger than a share is chance, and must not make the sum smaller than either.
  const least = Math.max(seeds.square, items.square)
  if (square < least) return { square: least, df: seeds.df }
  const spread = [seeds, items, rest].reduce(
    (total, part) => total + (part.df > 0 ? part.square ** 2 / part.df : 0),
    0,
  )
  return { square, df: spread > 0 ? square ** 2 / spread : seeds.df }
}
