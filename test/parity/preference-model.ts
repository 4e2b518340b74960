/** The model of the golden losses over preferences: its losses and gradients against TRL's. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import type { Adapter } from '../../lib/model/adapter.js'
import { loadModel } from '../../lib/model/load.js'
import type { Model } from '../../lib/model/model.js'
import { floats, parity, readGolden, relativeError, type Tensors, tensorOf } from './engine.js'

/**
 * A check of a loss, its metrics, and its gradients, which are in `file` under the name of the case. It is given a
 * function that computes the loss in micro-batches of so many tokens.
 * @param tolerance of losses and gradients, relative
 */
export function goldenLosses(file: string, tolerance = 1e-4) {
  let model: Model
  let adapter: Adapter
  let gradients: Tensors
  beforeAll(async () => {
    model = await loadModel(join(parity, 'models', 'llama3'), { precision: 'fp32' })
    adapter = await model.loadAdapter(join(parity, 'peft', 'all_linear'), { trainable: true })
    gradients = await readGolden(file)
  })
  afterAll(() => model.dispose())

  return async (
    name: string,
    expected: { loss: number; metrics: Record<string, number> },
    losses: (adapter: Adapter, microBatchTokens: number) => ReturnType<Adapter['forwardBackward']>,
  ) => {
    // Rows or pairs in micro-batches of their own give the same as together.
    for (const microBatchTokens of [2, 1000]) {
      const found = await losses(adapter, microBatchTokens)
      expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(tolerance)
      for (const [key, value] of Object.entries(expected.metrics))
        expect(found.metrics[key], key).toBeCloseTo(value, 4)
      for (const { name: factor } of adapter.state.description.spec.parameters.filter(
        ({ trained }) => trained,
      )) {
        const gradient = adapter.state.native.read(factor, 'gradient')
        const golden = floats(gradients, `${name}.${tensorOf(adapter, factor)}`)
        expect(relativeError(gradient, golden), factor).toBeLessThan(tolerance)
      }
      await adapter.state.native.zeroGradients().promise
      await adapter.optimStep({ learningRate: 1e-30 })
    }
  }
}
