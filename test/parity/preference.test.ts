/** Losses over pairs against TRL's, through PEFT, in float64. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Adapter } from '../../lib/model/adapter.js'
import { loadModel } from '../../lib/model/load.js'
import type { Model } from '../../lib/model/model.js'
import type { LossOptions } from '../../lib/train/losses/index.js'
import { floats, parity, readGolden, relativeError, type Tensors, tensorOf } from './engine.js'

interface Golden {
  rows: { chosen: number[]; rejected: number[] }[]
  prompts: number[]
  reference: [chosen: number[], rejected: number[]]
  cases: Record<string, { loss: number; metrics: Record<string, number> }>
}

const golden: Golden = JSON.parse(readFileSync(join(parity, 'preference', 'losses.json'), 'utf8'))
let model: Model
let adapter: Adapter
let gradients: Tensors
beforeAll(async () => {
  model = await loadModel(join(parity, 'models', 'llama3'), { precision: 'fp32' })
  adapter = await model.loadAdapter(join(parity, 'peft', 'all_linear'), { trainable: true })
  gradients = await readGolden('preference/gradients.safetensors')
})
afterAll(() => model.dispose())

const LOSSES: Record<string, LossOptions> = {
  dpo: { name: 'dpo', beta: 0.3 },
  ipo: { name: 'dpo', beta: 0.3, lossType: 'ipo' },
  dpo_strong: { name: 'dpo', beta: 1.5 },
  orpo: { name: 'orpo', beta: 0.4 },
}

test.each(Object.keys(LOSSES))('%s: loss, metrics and gradients', async (name) => {
  const batch = golden.rows.map((row, pair) => {
    const side = (tokens: number[], which: 0 | 1) => ({
      tokens,
      weights: tokens.map((_, t) => (t < (golden.prompts[pair] as number) ? 0 : 1)),
      reference: golden.reference[which][pair] as number,
    })
    return { chosen: side(row.chosen, 0), rejected: side(row.rejected, 1) }
  })
  const loss = LOSSES[name] as LossOptions
  const counts = { pairs: 3, tokens: 26 }
  // Pairs in micro-batches of their own give the same as together.
  for (const microBatchTokens of [2, 1000]) {
    const normalizer = loss.name === 'orpo' ? counts : counts.pairs
    const found = await adapter.forwardBackward(batch, loss, { normalizer, microBatchTokens })
    const expected = golden.cases[name] as Golden['cases'][string]
    expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(1e-4)
    for (const [key, value] of Object.entries(expected.metrics))
      expect(found.metrics[key], key).toBeCloseTo(value, 4)
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
