/** Selects the strategies from which the variance between seeds is estimated. */

import { mean } from '../../core/mean.js'
import { fisherTail } from './fisher.js'

export interface Pool {
  /** Indices of strategies whose variance between seeds far exceeds the others'. */
  left: ReadonlySet<number>
  /** Variance between seeds of a strategy's mean, after removing the effect shared by all strategies. */
  variance: number
  df: number
  /** The same variance of each strategy alone, inside the pool or not. */
  own: number[]
}

/** Probability that a compare of equally noisy strategies excludes one from the pool. */
const CHANCE = 1e-5

/**
 * Starts the pool with the half of the strategies that vary least, ignoring those with no variance, and adds others in
 * order of variance until the next one varies more than chance explains.
 * @param means by strategy and seed
 */
export function poolOf(means: readonly (readonly number[])[]): Pool {
  const seeds = means[0]?.length ?? 0
  const typical = Array.from({ length: seeds }, (_, k) =>
    median(means.map((row) => (row[k] as number) - mean(row))),
  )
  const ascending = means
    .map((row, index) => ({ row, index, variance: varianceAround(row, typical) }))
    .sort((a, b) => a.variance - b.variance || a.index - b.index)
  const constant = ascending.filter(({ variance }) => variance === 0).length
  const half = Math.floor((means.length - constant) / 2) + 1
  const pool = ascending.splice(0, constant + half).map(({ row }) => row)
  for (;;) {
    const variance = residualVariance(pool)
    const df = (pool.length - 1) * (seeds - 1)
    const center = Array.from({ length: seeds }, (_, k) => mean(pool.map((row) => row[k] as number)))
    let next: (typeof ascending)[number] | undefined
    let least = Number.POSITIVE_INFINITY
    for (const one of ascending) {
      const added = varianceAround(one.row, center) / (1 + 1 / pool.length)
      if (next === undefined || added < least) [next, least] = [one, added]
    }
    const fits = next && !(fisherTail(least / variance, seeds - 1, df) < CHANCE / means.length)
    if (next === undefined || !fits) {
      const left = new Set(ascending.map(({ index }) => index))
      // The center of a pool moves with its members and beside all others.
      const own = means.map(
        (row, s) => varianceAround(row, center) / (1 + (left.has(s) ? 1 : -1) / pool.length),
      )
      return { left, variance, df, own }
    }
    pool.push(next.row)
    ascending.splice(ascending.indexOf(next), 1)
  }
}

/** Mean square of the residuals after removing row and column means. */
function residualVariance(rows: readonly (readonly number[])[]): number {
  const center = (rows[0] ?? []).map((_, k) => mean(rows.map((row) => row[k] as number)))
  const squares = rows.reduce((sum, row) => sum + varianceAround(row, center), 0)
  return squares / (rows.length - 1)
}

/** Variance over seeds of the difference between a strategy's means and `center`. */
export function varianceAround(row: readonly number[], center: readonly number[]): number {
  const beside = row.map((value, k) => value - (center[k] as number))
  const average = mean(beside)
  return beside.reduce((sum, value) => sum + (value - average) ** 2, 0) / (row.length - 1)
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[half] as number)
    : ((sorted[half - 1] as number) + (sorted[half] as number)) / 2
}
