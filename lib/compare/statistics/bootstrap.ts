/** Bootstrap confidence intervals by resampling seeds and items. */
import { counterUniforms } from '../../core/counter-random.js'
import type { Scores } from './mixed.js'

export interface BootstrapOptions {
  draws?: number
  seed?: number
}

/**
 * Means of each strategy in `draws` resamples. Seeds and items are resampled independently with replacement; all
 * strategies share the same resamples, and all seeds share the same items.
 */
export function bootstrapMeans(
  scores: Scores,
  { draws = 10_000, seed = 0 }: BootstrapOptions = {},
): Float64Array[] {
  const seeds = scores[0]?.length ?? 0
  const items = scores[0]?.[0]?.length ?? 0
  const ofSeeds = counterUniforms(seed, 'bootstrap of seeds')
  const ofItems = counterUniforms(seed, 'bootstrap of items')
  const seedCounts = new Uint32Array(seeds)
  const itemCounts = new Uint32Array(items)
  const means = scores.map(() => new Float64Array(draws))
  for (let draw = 0; draw < draws; draw++) {
    recount(seedCounts, ofSeeds, draw)
    recount(itemCounts, ofItems, draw)
    for (const [s, runs] of scores.entries()) {
      let total = 0
      for (const [k, run] of runs.entries()) {
        const weight = seedCounts[k] as number
        if (weight === 0) continue
        let inner = 0
        for (let i = 0; i < items; i++) inner += (itemCounts[i] as number) * (run[i] as number)
        total += weight * inner
      }
      ;(means[s] as Float64Array)[draw] = total / (seeds * items)
    }
  }
  return means
}

/** Middle 95% of the resampled values. */
export function percentileInterval(values: Float64Array): [low: number, high: number] {
  const sorted = values.slice().sort()
  const at = (share: number) => {
    const place = share * (sorted.length - 1)
    const [below, above] = [sorted[Math.floor(place)] as number, sorted[Math.ceil(place)] as number]
    return below + (above - below) * (place - Math.floor(place))
  }
  return [at(0.025), at(0.975)]
}

/** Resamples with replacement and counts how often each index is drawn. */
function recount(counts: Uint32Array, uniform: (index: number) => number, draw: number): void {
  const { length } = counts
  counts.fill(0)
  for (let n = 0; n < length; n++) {
    const drawn = Math.floor(uniform(draw * length + n) * length)
    counts[drawn] = (counts[drawn] as number) + 1
  }
}
