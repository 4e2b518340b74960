import { expect, test } from 'vitest'
import { bootstrapMeans, percentileInterval } from '../../../../lib/compare/statistics/index.js'
import { simulatedScores } from '../../../../lib/compare/statistics/simulate.js'
import { mean } from '../../../../lib/core/mean.js'

const variance = (values: ArrayLike<number>) => {
  const average = mean(values)
  return mean(Array.from(values, (value) => (value - average) ** 2))
}

const scores = simulatedScores({ seeds: 4, items: 15, means: [0, 1], itemSpread: 2, noise: 3 }, 1, 0)

test('resampled means have the variance of seeds and items that are drawn crossed', () => {
  for (const [s, means] of bootstrapMeans(scores, { draws: 40_000 }).entries()) {
    const runs = scores[s] as Float64Array[]
    const bySeed = variance(runs.map(mean))
    const byItem = variance(Array.from({ length: 15 }, (_, i) => mean(runs.map((run) => run[i] as number))))
    const all = variance(runs.flatMap((run) => [...run]))
    const expected = bySeed / 4 + byItem / 15 + (all - bySeed - byItem) / 60
    expect(variance(means) / expected).toBeGreaterThan(0.97)
    expect(variance(means) / expected).toBeLessThan(1.03)
    expect(Math.abs(mean(means) - mean(runs.map(mean)))).toBeLessThan(0.03)
  }
})

test('strategies are resampled alike, and the same seed draws the same', () => {
  const shifted = (scores[0] as Float64Array[]).map((run) => run.map((value) => value + 2))
  const [first, second] = bootstrapMeans([scores[0] as Float64Array[], shifted], { draws: 50 })
  for (const [draw, value] of (first as Float64Array).entries())
    expect((second as Float64Array)[draw]).toBeCloseTo(value + 2, 12)
  expect(bootstrapMeans(scores, { draws: 50, seed: 4 })).toEqual(
    bootstrapMeans(scores, { draws: 50, seed: 4 }),
  )
  expect(bootstrapMeans(scores, { draws: 50, seed: 4 })).not.toEqual(
    bootstrapMeans(scores, { draws: 50, seed: 5 }),
  )
})

test('an interval holds the middle 95 %', () => {
  expect(percentileInterval(Float64Array.from({ length: 1001 }, (_, i) => 1000 - i))).toEqual([25, 975])
})
