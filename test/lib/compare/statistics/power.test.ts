import { expect, test } from 'vitest'
import {
  detectableDifference,
  seedsToDetect,
  simulatedPower,
} from '../../../../lib/compare/statistics/index.js'
import { type Simulated, simulated } from './compares.js'
import { golden } from './golden.js'

test('of two strategies, it is the power of a paired t test', () => {
  for (const [seeds, spreads, power] of golden.power)
    expect(Math.abs(simulatedPower({ strategies: 2, seeds, spreads }) - power)).toBeLessThan(0.035)
})

test.each<[number, number, number]>([
  [13, 5, 2],
  [6, 8, 2],
  [13, 3, 3],
])(
  'of %d strategies with %d seeds, compares of many items find %d spreads as often as printed',
  (strategies, seeds, spreads) => {
    const printed = simulatedPower({ strategies, seeds, spreads })
    const { found } = simulated({ strategies, seeds, spreads, itemSpread: 0.1, noise: 0.3, compares: 600 })
    expect(Math.abs(found - printed)).toBeLessThan(0.06)
  },
)

test('three seeds cannot promise two spreads among thirteen, eleven can', () => {
  // As docs/compare.md says.
  expect(Math.abs(100 * simulatedPower({ strategies: 13, seeds: 3, spreads: 2 }) - 7)).toBeLessThan(1)
  expect(Math.abs(100 * simulatedPower({ strategies: 13, seeds: 10, spreads: 2 }) - 72)).toBeLessThan(1)
  const enough = seedsToDetect({ strategies: 13, spreads: 2 }) as number
  expect(enough).toBe(11)
  expect(simulatedPower({ strategies: 13, seeds: enough, spreads: 2 })).toBeGreaterThanOrEqual(0.8)
  expect(simulatedPower({ strategies: 13, seeds: enough - 1, spreads: 2 })).toBeLessThan(0.8)
  expect(seedsToDetect({ strategies: 6, spreads: 0.1 }, 10)).toBeUndefined()
})

test('a difference that is called detectable is found in 8 of 10 compares', () => {
  const setting: Simulated = {
    strategies: 6,
    seeds: 8,
    spreads: 0,
    itemSpread: 0.5,
    noise: 0.5,
    compares: 100,
  }
  const { differences } = simulated(setting)
  const named = differences.map((difference) => detectableDifference(difference, 5))
  const spreads = named.reduce((sum, value) => sum + value, 0) / named.length
  const { found } = simulated({ ...setting, spreads, compares: 400 })
  expect(found).toBeGreaterThan(0.72)
  expect(found).toBeLessThan(0.9)
})
