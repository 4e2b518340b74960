import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  epsilonAfter,
  noiseMultiplierFor,
  ORDERS,
  type PrivacyOptions,
  privacySpent,
  rdpOfStep,
  stepsWithin,
} from '../../../lib/federated/accountant.js'
import { subsampledGaussianRdp } from '../../../lib/federated/subsampled-gaussian.js'
import { sweepTest } from '../../sweep.js'

interface Golden {
  orders: number[]
  /** Settings are rate, noise multiplier, steps, delta; results are epsilon and order. */
  epsilons: {
    setting: [number, number, number, number]
    dp_accounting: [number, number]
    opacus: [number, number]
  }[]
  /** Settings are rate, noise multiplier, order. */
  divergences: { setting: [number, number, number]; log_a: number }[]
}

const golden: Golden = JSON.parse(readFileSync(join(__dirname, '../../parity/numbers/privacy.json'), 'utf8'))
const relative = (a: number, b: number) => Math.abs(a - b) / Math.abs(b)
const spent = (samplingRate: number, noiseMultiplier: number, steps: number, delta: number) =>
  privacySpent({ samplingRate, noiseMultiplier, steps, delta })

describe('the divergence of a step', () => {
  test('is that of 50 digits to 1e-13, at rates from 1e-9 and noise from 0.1 to 20', () => {
    expect(golden.divergences.length).toBeGreaterThan(200)
    for (const { setting, log_a } of golden.divergences) {
      const [q, sigma, order] = setting
      const ours = subsampledGaussianRdp(q, sigma, order) * (order - 1)
      expect(relative(ours, log_a), `${setting}`).toBeLessThan(1e-13)
    }
  })

  test('is that of the Gaussian mechanism when all are sampled, and approaches it', () => {
    for (const order of ORDERS) {
      expect(subsampledGaussianRdp(1, 3, order)).toBeCloseTo(order / 18, 14)
      expect(relative(subsampledGaussianRdp(1 - 1e-12, 3, order), order / 18)).toBeLessThan(1e-10)
    }
  })

  sweepTest('grows with the order, also where little noise leaves bounds of fractional ones', () => {
    for (const sigma of [0.001, 0.0099, 0.01, 0.1, 0.5, 3, 1e6])
      for (const q of [1e-6, 0.01, 0.5, 0.999]) {
        const rdp = rdpOfStep({ samplingRate: q, noiseMultiplier: sigma })
        for (const [i, value] of rdp.entries())
          expect(value, `${sigma} ${q} ${ORDERS[i]}`).toBeGreaterThanOrEqual((rdp[i - 1] ?? 0) * (1 - 1e-12))
      }
  })
})

describe('epsilon', () => {
  // Below this delta says it all: its square covers the divergence. opacus has no such rule.
  const positive = golden.epsilons.filter(({ dp_accounting: [epsilon] }) => epsilon > 0)

  test('is over the orders of dp_accounting', () => {
    expect(golden.orders).toEqual(ORDERS)
  })

  test('is that of opacus to 1e-8, with its order', () => {
    expect(positive.length).toBeGreaterThan(280)
    for (const { setting, opacus } of positive) {
      const { epsilon, order } = spent(...setting)
      expect(relative(epsilon, opacus[0]), `${setting}`).toBeLessThan(1e-8)
      expect(order, `${setting}`).toBe(opacus[1])
    }
  })

  test('is 0 where that of dp_accounting is', () => {
    const zero = golden.epsilons.filter((row) => !positive.includes(row))
    expect(zero.length).toBeGreaterThan(2)
    for (const { setting } of zero)
      expect(spent(...setting)).toEqual({ epsilon: 0, order: null, atEndOfOrders: false })
  })

  sweepTest('is that of dp_accounting where its order is an integer, and else at most as large', () => {
    // dp_accounting takes log|Gamma| for the binomials of fractional orders, so it adds what alternates in sign, and
    // leaves out orders whose sum then does not end. The factors are how much larger that makes its epsilon.
    const limits = [
      { below: 1, factor: 1 + 1e-6 },
      { below: 5, factor: 1.0002 },
      { below: 10, factor: 1.003 },
      { below: 50, factor: 1.08 },
      { below: Infinity, factor: 3.5 },
    ]
    const differing = new Set<object>()
    for (const row of positive) {
      const [theirs] = row.dp_accounting
      const { epsilon, order } = spent(...row.setting)
      expect(epsilon, `${row.setting}`).toBeLessThanOrEqual(theirs * (1 + 1e-8))
      const limit = limits.find(({ below }) => epsilon < below)
      expect(theirs / epsilon, `${row.setting}`).toBeLessThan(limit?.factor as number)
      if (relative(epsilon, theirs) < 1e-6) continue
      differing.add(row)
      expect(order, `${row.setting}`).toBeLessThan(11)
    }
    expect(differing.size).toBeGreaterThan(50)
  })

  test.each([
    [0.01, 1.1, 10_000, 1e-5, 5.6319923686818, 4.7],
    [0.01, 4, 1_000, 1e-5, 0.3011611585549, 48],
    [256 / 60_000, 1.3, 14_063, 1e-5, 1.9890699006209, 10.1],
    [0.001, 0.8, 2_000, 1e-6, 1.5046928736626, 8.5],
    [1, 5, 10, 1e-5, 2.81365324713, 7.9],
  ])(
    'at rate %f and noise %f after %i steps, delta %f: %f, by integration',
    (q, sigma, steps, delta, epsilon, order) => {
      const ours = spent(q, sigma, steps, delta)
      expect(relative(ours.epsilon, epsilon)).toBeLessThan(1e-11)
      expect(ours.order).toBe(order)
      expect(ours.atEndOfOrders).toBe(false)
    },
  )

  test('composes: steps of two settings add up', () => {
    const first = rdpOfStep({ samplingRate: 0.01, noiseMultiplier: 1 })
    const sum = first.map((value) => 10 * value)
    expect(epsilonAfter(sum, 1, 1e-6).epsilon).toBeCloseTo(spent(0.01, 1, 10, 1e-6).epsilon, 12)
  })

  const setting = fc.record<PrivacyOptions>({
    samplingRate: fc.double({ min: 1e-5, max: 1, noNaN: true }),
    noiseMultiplier: fc.double({ min: 0.05, max: 50, noNaN: true }),
    steps: fc.integer({ min: 1, max: 2e6 }),
    delta: fc.double({ min: 1e-12, max: 0.01, noNaN: true }),
  })
  const more = fc.double({ min: 1.001, max: 3, noNaN: true })

  sweepTest('grows with rate and steps, and falls with noise and delta', () => {
    fc.assert(
      fc.property(setting, more, (options, factor) => {
        const { epsilon } = privacySpent(options)
        const changed = (change: Partial<PrivacyOptions>) => privacySpent({ ...options, ...change }).epsilon
        const slack = 1 + 1e-12
        expect(epsilon).toBeGreaterThanOrEqual(0)
        expect(
          changed({ samplingRate: Math.min(1, options.samplingRate * factor) }) * slack,
        ).toBeGreaterThanOrEqual(epsilon)
        expect(changed({ steps: Math.ceil(options.steps * factor) }) * slack).toBeGreaterThanOrEqual(epsilon)
        expect(changed({ noiseMultiplier: options.noiseMultiplier * factor })).toBeLessThanOrEqual(
          epsilon * slack,
        )
        expect(changed({ delta: options.delta * factor })).toBeLessThanOrEqual(epsilon * slack)
      }),
      { numRuns: 100 },
    )
  })

  test('at the limits: no noise, no steps, noise without end, numbers that overflow', () => {
    const endless = { epsilon: Infinity, order: null, atEndOfOrders: false }
    const nothing = { epsilon: 0, order: null, atEndOfOrders: false }
    expect(spent(0.1, 0, 1, 1e-5)).toEqual(endless)
    expect(spent(0.1, 1e-200, 1, 1e-5)).toEqual(endless)
    expect(spent(1, 1e-200, 1, 1e-5)).toEqual(endless)
    expect(spent(0.1, 0, 0, 1e-5)).toEqual(nothing)
    expect(spent(0.1, 1, 0, 1e-5)).toEqual(nothing)
    expect(spent(0.1, 1e100, 1_000_000, 1e-5)).toEqual(nothing)
    expect(spent(1e-300, 1, 1_000_000, 1e-12)).toEqual(nothing)
    for (const sigma of [0.01, 0.3, 1, 20]) {
      const { epsilon } = spent(0.9, sigma, 1_000_000, 1e-12)
      expect(Number.isFinite(epsilon)).toBe(true)
      expect(epsilon).toBeGreaterThan(1)
    }
  })

  test('says when its order is the first or the last', () => {
    expect(spent(0.5, 1, 10_000, 1e-5)).toMatchObject({ order: 1.1, atEndOfOrders: true })
    expect(spent(1e-4, 20, 1, 1e-12)).toMatchObject({ order: 1024, atEndOfOrders: true })
  })
})

describe('the noise for a target', () => {
  test('of the literature', () => {
    const sigma = noiseMultiplierFor({ targetEpsilon: 2, samplingRate: 1e-3, steps: 1000, delta: 1e-6 })
    expect(sigma).toBeCloseTo(0.7087, 4)
  })

  sweepTest('spends no more than the target, and a little less noise would', () => {
    const options = fc.record({
      targetEpsilon: fc.double({ min: 0.2, max: 60, noNaN: true }),
      samplingRate: fc.double({ min: 1e-4, max: 1, noNaN: true }),
      steps: fc.integer({ min: 1, max: 1e6 }),
      delta: fc.double({ min: 1e-9, max: 1e-3, noNaN: true }),
    })
    fc.assert(
      fc.property(options, ({ targetEpsilon, ...rest }) => {
        const sigma = noiseMultiplierFor({ targetEpsilon, ...rest })
        const at = (noiseMultiplier: number) => privacySpent({ ...rest, noiseMultiplier }).epsilon
        expect(at(sigma)).toBeLessThanOrEqual(targetEpsilon)
        expect(at(sigma * (1 - 1e-4))).toBeGreaterThan(targetEpsilon)
      }),
      { numRuns: 25 },
    )
  })

  test('is refused where there is none', () => {
    expect(() =>
      noiseMultiplierFor({ targetEpsilon: 0.01, samplingRate: 1, steps: 1, delta: 1e-100 }),
    ).toThrow('no noise gives an epsilon of 0.01 at a delta of 1e-100')
  })
})

describe('the steps within a target', () => {
  test.each([
    [2, 1e-3, 0.8, 1e-6],
    [8, 0.01, 1.1, 1e-5],
    [0.5, 0.2, 30, 1e-7],
    [3, 1, 5, 1e-5],
  ])('of epsilon %f: that many, and not one more', (targetEpsilon, samplingRate, noiseMultiplier, delta) => {
    const step = { samplingRate, noiseMultiplier, delta }
    const steps = stepsWithin({ targetEpsilon, ...step })
    expect(steps).toBeGreaterThan(1)
    expect(privacySpent({ ...step, steps }).epsilon).toBeLessThanOrEqual(targetEpsilon)
    expect(privacySpent({ ...step, steps: steps + 1 }).epsilon).toBeGreaterThan(targetEpsilon)
  })

  test('are none where the first is too much, and without end where steps reveal nothing', () => {
    const step = { samplingRate: 0.1, delta: 1e-5, targetEpsilon: 1 }
    expect(stepsWithin({ ...step, noiseMultiplier: 0 })).toBe(0)
    expect(stepsWithin({ ...step, noiseMultiplier: 0.4 })).toBe(0)
    expect(stepsWithin({ ...step, noiseMultiplier: 1e30 })).toBe(Number.MAX_SAFE_INTEGER)
  })
})

describe('arguments', () => {
  const good = { samplingRate: 0.1, noiseMultiplier: 1, steps: 10, delta: 1e-5 }

  test.each([
    [{ samplingRate: 0 }, 'privacySpent(): samplingRate is 0, expected a number above 0, at most 1.'],
    [{ samplingRate: 1.5 }, 'privacySpent(): samplingRate is 1.5, expected a number above 0, at most 1.'],
    [{ noiseMultiplier: -1 }, 'privacySpent(): noiseMultiplier is -1, expected a number from 0.'],
    [{ noiseMultiplier: Number.NaN }, 'noiseMultiplier is NaN, expected a number from 0.'],
    [{ noiseMultiplier: Infinity }, 'noiseMultiplier is Infinity, expected a number from 0.'],
    [{ steps: 1.5 }, 'privacySpent(): steps is 1.5, expected an integer from 0.'],
    [{ steps: -1 }, 'privacySpent(): steps is -1, expected an integer from 0.'],
    [{ delta: 0 }, 'privacySpent(): delta is 0, expected a number between 0 and 1.'],
    [{ delta: 1 }, 'privacySpent(): delta is 1, expected a number between 0 and 1.'],
    [{ delta: undefined as unknown as number }, 'privacySpent(): delta is missing'],
  ])('%j are refused', (change, message) => {
    expect(() => privacySpent({ ...good, ...change })).toThrow(message)
  })

  test('of the others are too', () => {
    const { noiseMultiplier, ...rest } = good
    expect(() => noiseMultiplierFor({ ...rest, targetEpsilon: 0 })).toThrow(
      'noiseMultiplierFor(): targetEpsilon is 0, expected a number above 0.',
    )
    expect(() => noiseMultiplierFor({ ...rest, steps: 0, targetEpsilon: 1 })).toThrow(
      'noiseMultiplierFor(): steps is 0, expected a positive integer.',
    )
    const { steps, ...step } = good
    expect(() => stepsWithin({ ...step, targetEpsilon: Infinity })).toThrow(
      'stepsWithin(): targetEpsilon is Infinity, expected a number above 0.',
    )
    expect([noiseMultiplier, steps]).toEqual([1, 10])
  })
})
