import { expect, test } from 'vitest'
import { TimeCheck } from '../../../lib/cli/time-check.js'

const estimate = {
  ...{ secondsPerStep: 1, tokensPerStep: 100, tokensPerSecond: 100 },
  ...{ steps: 60, runSeconds: 60 },
}

/** What is said after each of the steps. */
function said(rates: readonly number[], more: Partial<ConstructorParameters<typeof TimeCheck>[0]> = {}) {
  const check = new TimeCheck({ ...estimate, ...more })
  return rates.flatMap((tokensPerSecond) => check.add({ tokens: 100, tokensPerSecond }) ?? [])
}

test('an estimate that the first steps contradict is corrected once, in words', () => {
  expect(said([10, 25, 25, 25, 25, 25])).toEqual([
    'Time, corrected: the first 4 steps were slower than estimated, about 4.00 s a step instead of 1.00 s; 60 steps take about 4 min 00 s instead of 1 min 00 s.',
  ])
  expect(said([300, 200, 200, 200, 200, 200])).toEqual([
    'Time, corrected: the first 5 steps were faster than estimated, about 0.50 s a step instead of 1.00 s; 60 steps take about 30 s instead of 1 min 00 s.',
  ])
})

test('a first step that warms up, a busy machine, and a short run contradict nothing', () => {
  expect(said([1, 100, 80, 120, 90, 100])).toEqual([])
  expect(said([10, 25, 25, 25, 25, 25], { steps: 3, runSeconds: 3 })).toEqual([])
})

test('rows that are longer than usual take longer and are no contradiction', () => {
  const check = new TimeCheck(estimate)
  for (let step = 0; step < 6; step++)
    expect(check.add({ tokens: 400, tokensPerSecond: 100 })).toBeUndefined()
})

test('a run without a known end has a corrected step', () => {
  expect(said([10, 25, 25, 25], { steps: null, runSeconds: null })).toEqual([
    'Time, corrected: the first 4 steps were slower than estimated, about 4.00 s a step instead of 1.00 s.',
  ])
})
