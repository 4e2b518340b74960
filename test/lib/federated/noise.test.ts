/** The expected noise, against noise that is drawn. */

import { expect, test } from 'vitest'
import { counterUniform } from '../../../lib/core/counter-random.js'
import { expectedNoise, noiseRemarks } from '../../../lib/federated/noise.js'
import { planPrivacy } from '../../../lib/federated/privacy.js'
import type { AdapterSpec } from '../../../lib/native/addon.js'
import type { DpDyloraOptions } from '../../../lib/strategies/configs.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'

const [INPUTS, OUTPUTS, RANK] = [48, 40, 6]
const spec = (trainsA: boolean): AdapterSpec => ({
  parameters: [
    { name: 'a', rows: RANK, cols: INPUTS, trained: trainsA },
    { name: 'b', rows: OUTPUTS, cols: RANK, trained: true },
  ],
  terms: [
    { kind: 'low_rank', target: 'layer', parameters: { a: 'a', b: 'b' }, numbers: { rank: RANK, scale: 2 } },
  ],
})
const private_: DpDyloraOptions = {
  clients: { column: 'user' },
  noiseMultiplier: 1.2,
  rounds: 25,
  cohort: 8,
  clippingNorm: 0.3,
  serverLearningRate: 0.5,
}

function expected(trainsA: boolean, more: DpDyloraOptions = {}) {
  const config = dpDylora({ ...private_, ...more })
  return expectedNoise(planPrivacy(config, 100), config, spec(trainsA))
}

function normal(seed: number, index: number): number {
  const [u, v] = ['u', 'v'].map((name) => counterUniform(seed, name, index)) as [number, number]
  return Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v)
}

test.each([true, false])('is what drawn noise does, with A trained: %s', (trainsA) => {
  const noise = expected(trainsA)
  const ofRound = (1.2 * 0.3) / 8
  const count = RANK * OUTPUTS + (trainsA ? RANK * INPUTS : 0)
  expect(noise?.ofUpdate).toBeCloseTo((ofRound * Math.sqrt(count)) / 0.3, 12)
  let seed = 1
  const drawn = (length: number) => {
    const own = seed++
    return Array.from({ length }, (_, index) => normal(own, index))
  }
  // The sum of the rounds of a weight, times the server's rate.
  const walk = (length: number) => {
    const sum = new Array<number>(length).fill(0)
    for (let round = 0; round < 25; round++)
      for (const [index, value] of drawn(length).entries())
        sum[index] = (sum[index] as number) + 0.5 * ofRound * value
    return sum
  }
  let squares = 0
  const times = 20
  for (let time = 0; time < times; time++) {
    const own = seed++
    const start = Array.from(
      { length: RANK * INPUTS },
      (_, i) => (2 * counterUniform(own, 'a', i) - 1) / Math.sqrt(INPUTS),
    )
    const a = trainsA ? walk(RANK * INPUTS).map((value, i) => value + (start[i] as number)) : start
    const b = walk(OUTPUTS * RANK)
    for (let o = 0; o < OUTPUTS; o++)
      for (let i = 0; i < INPUTS; i++) {
        let change = 0
        for (let k = 0; k < RANK; k++)
          change += 2 * (b[o * RANK + k] as number) * (a[k * INPUTS + i] as number)
        squares += change ** 2
      }
  }
  const usual = 1 / INPUTS
  const measured = Math.sqrt(squares / (times * INPUTS * OUTPUTS) / usual)
  expect(measured / (noise?.ofWeights ?? Number.NaN)).toBeCloseTo(1, 1)
})

test('is unknown where an optimizer scales the updates, and less in a simulation of a large cohort', () => {
  expect(expected(true, { serverOptimizer: 'adam' })).toBeUndefined()
  expect(expected(true, { privacyUnit: 'example', clients: null })).toBeUndefined()
  const simulated = expected(true, { simulation: { population: 100_000, cohort: 800 } })
  expect(simulated?.ofUpdate).toBeCloseTo((expected(true)?.ofUpdate ?? Number.NaN) / 100, 12)
})

test('is warned of where it is larger than the weights', () => {
  const loud = expected(true, { clippingNorm: 5 })
  expect(noiseRemarks(expected(true) as NonNullable<typeof loud>, 25)).toEqual([])
  expect(noiseRemarks(loud as NonNullable<typeof loud>, 25)).toEqual([
    expect.stringMatching(
      /^the noise will drown what is learned: .* 3\.4 times clipping_norm, and 25 rounds .* lower strategy\.clipping_norm/,
    ),
  ])
})
