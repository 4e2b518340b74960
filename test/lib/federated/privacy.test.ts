import { describe, expect, test } from 'vitest'
import { privacySpent } from '../../../lib/federated/accountant.js'
import { epsilonOf, planPrivacy, reportOf } from '../../../lib/federated/privacy.js'
import type { DpDyloraOptions } from '../../../lib/strategies/configs.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { privacyRemarks } from '../../../lib/strategies/privacy-report.js'

const settings: DpDyloraOptions = {
  clients: { column: 'user' },
  cohort: 20,
  rounds: 50,
  noiseMultiplier: 1,
  delta: 1e-4,
}
const plan = (more: DpDyloraOptions = {}, population = 1000) =>
  planPrivacy(dpDylora({ ...settings, ...more }), population)

describe('a plan', () => {
  test('of noise and rounds spends what the accountant says', () => {
    const given = { samplingRate: 0.02, noiseMultiplier: 1, delta: 1e-4 }
    expect(plan()).toMatchObject({ rounds: 50, population: 1000, cohort: 20, caveat: null, ...given })
    for (const steps of [0, 1, 50])
      expect(epsilonOf(plan(), steps)).toBe(privacySpent({ ...given, steps }).epsilon)
  })

  test('of a target and rounds has just enough noise', () => {
    const found = plan({ noiseMultiplier: null, targetEpsilon: 2 })
    expect(epsilonOf(found, 50)).toBeLessThanOrEqual(2)
    expect(epsilonOf(found, 50)).toBeGreaterThan(1.999)
  })

  test('of a target and noise has as many rounds as that allows, and no more than are asked for', () => {
    const found = plan({ rounds: null, targetEpsilon: 2 })
    expect(epsilonOf(found, found.rounds)).toBeLessThanOrEqual(2)
    expect(epsilonOf(found, found.rounds + 1)).toBeGreaterThan(2)
    expect(plan({ rounds: 3, targetEpsilon: 2 }).rounds).toBe(3)
    expect(plan({ rounds: 1_000_000, targetEpsilon: 2 }).rounds).toBe(found.rounds)
  })

  test('chooses a delta of a tenth of one over the clients', () => {
    expect(plan({ delta: null }).delta).toBe(1e-4)
  })

  test('adds noise in proportion to the clipping norm', () => {
    expect(plan({ clippingNorm: 0.25, noiseMultiplier: 3 }).real.deviation).toBe(0.75)
  })

  test('of a simulation counts the large population and draws from the real one', () => {
    const simulation = { population: 1e6, cohort: 5000 }
    const found = plan({ simulation, clippingNorm: 0.5, noiseMultiplier: 2, delta: 1e-7 })
    expect(found).toMatchObject({ population: 1e6, cohort: 5000, samplingRate: 0.005, caveat: 'simulation' })
    expect(found.real).toMatchObject({ population: 1000, cohort: 20, samplingRate: 0.02 })
    // Of the mean over the cohort, the noise is that of the large one.
    expect(found.real.deviation / 20).toBeCloseTo((2 * 0.5) / 5000, 15)
  })
})

test('a report says what was spent, what will be, and what it rests on', () => {
  const found = plan()
  const report = reportOf(found, 10)
  expect(report).toMatchObject({
    epsilon: epsilonOf(found, 10),
    final_epsilon: epsilonOf(found, 50),
    delta: 1e-4,
    unit: 'user',
    population: 1000,
    cohort: 20,
    sampling: 'poisson',
    rounds: 10,
    total_rounds: 50,
    accountant: 'rdp',
    private: true,
  })
  expect(report.promise).toContain(`epsilon ${report.epsilon.toPrecision(3)}`)
  expect(report.epsilon).toBeLessThan(report.final_epsilon)
})

test('a delta above a tenth of one over the clients is remarked on', () => {
  const remarks = (delta: number | null) => privacyRemarks(reportOf(plan({ delta }), 0))
  expect(remarks(null)).toEqual([])
  expect(remarks(1e-4)).toEqual([])
  expect(remarks(1.1e-4)).toEqual([expect.stringContaining('delta is 0.00011, and more than 0.00010')])
})

test('noise from a known key promises nothing, and says so', () => {
  const report = reportOf(plan({ noiseKey: '0'.repeat(64) }), 10)
  expect(report.private).toBe(false)
  expect(report.promise).toMatch(/^Not private: the noise comes from a known key/)
})
