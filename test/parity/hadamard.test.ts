/** The two ways of LoHa's arithmetic, factored and in full, agree; which one a plan takes depends on its tokens. */

import { describe, expect, test } from 'vitest'
import { addon, type MicroBatch, type Precision } from '../../lib/native/addon.js'
import type { LohaOptions } from '../../lib/strategies/configs.js'
import { describeAdapter, linearSites } from '../../lib/strategies/describe.js'
import { loha } from '../../lib/strategies/loha.js'
import { loadTiny, relativeError, trainPlan } from './engine.js'

const batch: MicroBatch = {
  tokens: Int32Array.from({ length: 16 }, (_, i) => (i * 37) % 200),
  cuSeqlens: Int32Array.of(0, 9, 16),
  labels: Int32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? -100 : (i * 53) % 200)),
}

/** Loss and all gradients of one micro-step in a plan of some capacity. */
async function step(options: LohaOptions, tokens: number, precision: Precision = 'f32') {
  const { graph, model } = await loadTiny('odd')
  const { spec, factors } = describeAdapter(loha(options), linearSites(graph))
  const adapter = addon().createAdapter(spec, { trainable: true })
  for (const { name } of factors) adapter.fill(name, { kind: 'normal', std: 0.2, seed: 3 })
  const plan = { ...trainPlan, tokens, precision }
  const session = await addon().createSession(model, [adapter], { train: plan }).promise
  const input = { ...batch, lossScale: 1 / 12, seed: 4, step: 1, microStep: 0 }
  const { lossSum } = await session.trainStep('train', input).promise
  const gradient = Float32Array.from(factors.flatMap(({ name }) => [...adapter.read(name, 'gradient')]))
  const { arenaBytes } = session.report('train')
  for (const made of [session, adapter, model]) await made.dispose()
  return { lossSum, gradient, arenaBytes }
}

// Linears of 36 x 72 to 120 x 72 at rank 5: factored below about 20 tokens, in full from about 40 on.
const [few, many] = [16, 512]

describe('LoHa in full and factored', () => {
  test.each<[string, LohaOptions]>([
    ['without dropout', { r: 5 }],
    ['with rows dropped', { r: 5, rankDropout: 0.4 }],
    ['with modules dropped', { r: 5, moduleDropout: 0.5 }],
  ])('give the same loss and gradients %s', async (_, options) => {
    const [factored, formed] = [await step(options, few), await step(options, many)]
    expect(relativeError([formed.lossSum], [factored.lossSum])).toBeLessThan(1e-5)
    expect(relativeError(formed.gradient, factored.gradient)).toBeLessThan(1e-5)
  })

  test('are near each other with operands in bf16', async () => {
    // In bf16 the products of the change come on top, so that only higher ranks are formed.
    const [factored, formed] = [await step({ r: 16 }, few, 'bf16'), await step({ r: 16 }, many, 'bf16')]
    const exact = await step({ r: 16 }, many)
    expect(relativeError(formed.gradient, exact.gradient)).toBeLessThan(0.05)
    expect(relativeError(factored.gradient, exact.gradient)).toBeLessThan(0.05)
  })
})
