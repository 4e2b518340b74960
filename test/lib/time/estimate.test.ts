import { expect, test } from 'vitest'
import { ratesOf, type StepWork, stepTime, type Timed } from '../../../lib/time/estimate.js'

const rates = { blocks: 200e9, head: 100e9, tokenSeconds: 1e-5, updateSeconds: 2e-9 }
const work: StepWork = { tokens: 1000, blocks: 400e9, head: 50e9, trained: 10e6 }

test('a step takes its micro-batches and one update', () => {
  // 2 s of blocks, 0.5 s of the head and 0.01 s of the rest, twice; then 0.02 s for the update.
  const time = stepTime(work, rates, 2)
  expect(time.secondsPerStep).toBeCloseTo(5.04, 9)
  expect(time.tokensPerStep).toBe(2000)
  expect(time.tokensPerSecond).toBeCloseTo(2000 / 5.04, 9)
})

/** Time of a model that is as fast as the rates. */
function timed(blocks: number, head: number): Timed {
  const own = { tokens: 256, blocks, head, trained: blocks / 1e4 }
  const microBatch = blocks / rates.blocks + head / rates.head + own.tokens * rates.tokenSeconds
  return { work: own, microBatch, update: own.trained * rates.updateSeconds }
}

test('rates come from the differences between small models', () => {
  const small = timed(1e9, 1e9)
  const found = ratesOf(small, timed(5e9, 1e9), timed(1e9, 9e9))
  for (const [key, rate] of Object.entries(rates))
    expect((found as typeof rates)[key as keyof typeof rates] / rate).toBeCloseTo(1, 9)
  expect(stepTime(work, found as typeof rates, 2).secondsPerStep).toBeCloseTo(5.04, 6)
})

test('a larger model that was not slower tells no rates', () => {
  const small = timed(1e9, 1e9)
  const deep = timed(5e9, 1e9)
  const wide = timed(1e9, 9e9)
  expect(ratesOf(small, { ...deep, microBatch: small.microBatch }, wide)).toBeUndefined()
  expect(ratesOf(small, deep, { ...wide, microBatch: small.microBatch / 2 })).toBeUndefined()
})

test('updates in the backward pass take no time of their own', () => {
  const [small, deep, wide] = [timed(1e9, 1e9), timed(5e9, 1e9), timed(1e9, 9e9)]
  expect(ratesOf(small, { ...deep, update: 0 }, wide)?.updateSeconds).toBe(0)
})
