/** KTO against TRL's, through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Adapter } from '../../lib/model/adapter.js'
import { loadModel } from '../../lib/model/load.js'
import type { Model } from '../../lib/model/model.js'
import { floats, parity, readGolden, relativeError, type Tensors, tensorOf } from './engine.js'

interface Golden {
  rows: { own: number[]; mismatched: number[]; prompt: number; label: boolean }[]
  reference: { own: number[]; mismatched: number[] }
  cases: Record<
    string,
    {
      options: { beta: number; desirable_weight?: number; undesirable_weight?: number; shift?: number }
      loss: number
      metrics: Record<string, number>
    }
  >
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'preference', 'kto.json'), 'utf8'))
let model: Model
let adapter: Adapter
let gradients: Tensors
beforeAll(async () => {
  model = await loadModel(join(parity, 'models', 'llama3'), { precision: 'fp32' })
  adapter = await model.loadAdapter(join(parity, 'peft', 'all_linear'), { trainable: true })
  gradients = await readGolden('preference/kto_gradients.safetensors')
})
afterAll(() => model.dispose())

test.each(Object.keys(golden.cases))('%s: loss, metrics and gradients', async (name) => {
  const { options, loss, metrics } = golden.cases[name] as Golden['cases'][string]
  const { beta, shift = 0, desirable_weight = 1, undesirable_weight = 1 } = options
  const { reference } = golden
  const batch = golden.rows.map(({ own, mismatched, prompt, label }, i) => {
    const row = (tokens: number[], sum: number) => ({
      tokens,
      weights: tokens.map((_, t) => (t < prompt ? 0 : 1)),
      reference: sum,
    })
    const kl = row(mismatched, (reference.mismatched[i] as number) - shift)
    return { ...row(own, reference.own[i] as number), label, kl }
  })
  const weights = { desirableWeight: desirable_weight, undesirableWeight: undesirable_weight }
  // Rows in micro-batches of their own give the same as together.
  for (const microBatchTokens of [2, 1000]) {
    const control = { normalizer: batch.length, microBatchTokens }
    const found = await adapter.forwardBackward(batch, { name: 'kto', beta, ...weights }, control)
    expect(Math.abs(found.loss / loss - 1)).toBeLessThan(1e-4)
    for (const [key, value] of Object.entries(metrics)) expect(found.metrics[key], key).toBeCloseTo(value, 4)
    for (const { name: factor } of adapter.state.description.spec.parameters.filter(
      ({ trained }) => trained,
    )) {
      const gradient = adapter.state.native.read(factor, 'gradient')
      const expected = floats(gradients, `${name}.${tensorOf(adapter, factor)}`)
      expect(relativeError(gradient, expected), factor).toBeLessThan(1e-4)
    }
    await adapter.state.native.zeroGradients().promise
    await adapter.optimStep({ learningRate: 1e-30 })
  }
})

test('the divergence counts where it is positive', () => {
  expect(golden.cases.kto_far?.metrics.kl).toBeGreaterThan(0.5)
  expect(golden.cases.kto_weighted?.metrics.kl).toBeGreaterThan(0.1)
})
