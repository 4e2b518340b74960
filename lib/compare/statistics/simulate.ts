/** Simulated scores, for measuring the power and the false-positive rate of the tests. */
import { counterUniforms } from '../../core/counter-random.js'

export interface Simulation {
  seeds: number
  items: number
  /** True mean of each strategy. */
  means: readonly number[]
  /** Standard deviation of each strategy's mean over seeds; default 1. */
  spreads?: readonly number[]
  /** Standard deviation over items of the strategy-by-item effect, which is the same for all seeds. */
  itemSpread: number
  /** Standard deviation of the residual over seeds and items. */
  noise: number
}

/**
 * Normally distributed scores of simulated run `run`, with strategy-by-seed, strategy-by-item, and residual effects.
 */
export function simulatedScores(
  { seeds, items, means, spreads = [], itemSpread, noise }: Simulation,
  seed: number,
  run: number,
): Float64Array[][] {
  const strategies = means.length
  const size = strategies * (seeds + items + seeds * items)
  const normal = normals(seed, 'simulated compare', run * (size + (size % 2)))
  return means.map((average, s) => {
    const ofItem = Float64Array.from({ length: items }, () => itemSpread * normal())
    return Array.from({ length: seeds }, () => {
      const ofSeed = average + (spreads[s] ?? 1) * normal()
      return ofItem.map((value) => ofSeed + value + noise * normal())
    })
  })
}

/** Standard normal samples by the Box-Muller method, from the uniform number at `first` of a stream. */
export function normals(seed: number, stream: string, first = 0): () => number {
  const uniform = counterUniforms(seed, stream)
  let index = first
  let kept: number | undefined
  return () => {
    if (kept !== undefined) {
      const value = kept
      kept = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform(index++)))
    const angle = 2 * Math.PI * uniform(index++)
    kept = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}
