import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  cosine,
  scheduleAt,
  scheduleFactor,
  scheduleOf,
  shortened,
  warmupStableDecay,
} from '../../../lib/options/schedules.js'
import type { Schedule } from '../../../lib/options/types.js'

interface Golden {
  name: 'constant' | 'constant_with_warmup' | 'linear' | 'cosine'
  warmup_steps: number
  total_steps: number
  factors: number[]
}

const golden: Golden[] = JSON.parse(
  readFileSync(join(__dirname, '../../parity/numbers/schedules.json'), 'utf8'),
)
const factors = (schedule: Schedule, warmupSteps: number, totalSteps: number, count = totalSteps) =>
  Array.from({ length: count }, (_, s) => scheduleFactor(schedule, { warmupSteps, totalSteps }, s))

describe('schedules', () => {
  test.each(golden)('$name with $warmup_steps of $total_steps steps is that of transformers', (row) => {
    const ours = factors(scheduleOf(row.name), row.warmup_steps, row.total_steps, row.factors.length)
    ours.forEach((factor, s) => {
      expect(factor).toBeCloseTo(row.factors[s] as number, 14)
    })
  })

  test('a cosine with a floor ends there, and its warm-up still starts at 0', () => {
    const row = factors(cosine({ minLrRate: 0.1 }), 2, 10, 11)
    expect(row[0]).toBe(0)
    expect(row[2]).toBe(1)
    expect(row[6]).toBeCloseTo(0.55, 14)
    expect(row[10]).toBeCloseTo(0.1, 14)
  })

  test('warm-up, stable, decay: starts from the floor, holds, falls to the floor', () => {
    const schedule = warmupStableDecay({ numDecaySteps: 4, decayType: 'linear', minLrRatio: 0.2 })
    const row = factors(schedule, 2, 10, 12)
    const expected = [0.2, 0.6, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2]
    row.forEach((factor, s) => {
      expect(factor).toBeCloseTo(expected[s] as number, 14)
    })
  })

  test('a floor outside [0, 1] is refused', () => {
    expect(() => cosine({ minLrRate: 2 })).toThrow('cosine(): minLrRate is 2, expected a number from 0 to 1.')
  })
})

test('a shorter run has the schedule of a longer one in small', () => {
  const stable = warmupStableDecay({ numDecaySteps: 100 })
  for (const lrSchedulerType of [
    'constant',
    'constant_with_warmup',
    'linear',
    'cosine',
    cosine(),
    stable,
  ] as const)
    for (const warmup of [
      { warmupSteps: 50, warmupRatio: 0 },
      { warmupSteps: null, warmupRatio: 0.1 },
    ]) {
      const whole = { lrSchedulerType, ...warmup, seed: 1 }
      const short = shortened(whole, 100, 500)
      expect(short.seed).toBe(1)
      for (let step = 0; step < 100; step++)
        expect(scheduleAt(short, step, 100)).toBeCloseTo(scheduleAt(whole, 5 * step, 500), 6)
      expect(shortened(whole, 500, 500)).toEqual(whole)
    }
})
