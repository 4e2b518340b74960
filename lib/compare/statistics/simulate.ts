/** Scores of simulated compares, to know what the tests find and what they claim falsely. */
import { counterUniforms } from '../../core/counter-random.js'

export interface Simulation {
  seeds: number
  items: number
  /** True mean of each strategy. */
  means: readonly number[]
  /** Deviation of each strategy's mean over seeds; 1 where not given. */
  spreads?: readonly number[]
  /** Deviation over items of what a strategy does to an item, whatever the seed. */
  itemSpread: number
  /** Deviation over seeds and items of what is left. */
  noise: number
}

/** Scores of simulated run `run`: normal, with parts for strategy and seed, strategy and item, and all three. */
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

/** Standard normals, by Box and Muller's method. */
function normals(seed: number, stream: string, first: number): () => number {
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
