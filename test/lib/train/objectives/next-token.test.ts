/** Token accuracy as an option of a run. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { EvalEvent, TrainStep } from '../../../../lib/train/steps/events.js'
import { BASE } from '../../serve/service.js'

let model: Model
beforeAll(async () => {
  model = await loadModel(BASE, { precision: 'fp32' })
})
afterAll(() => model.dispose())

const rows = Array.from({ length: 8 }, (_, i) => ({
  prompt: `Once upon ${i}`,
  completion: ' a time, a king',
}))

async function run(more: Partial<TrainOptions>) {
  const adapter = await model.attach(lora({ r: 2 }), { seed: 1 })
  const shape = { maxSteps: 2, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4, maxSeqLength: 64 }
  const steps: TrainStep[] = []
  const evaluations: EvalEvent[] = []
  const training = adapter.train(rows, { ...shape, learningRate: 1e-3, evalDataset: rows, ...more })
  for await (const event of training.events()) {
    if (event.event === 'step') steps.push(event)
    if (event.event === 'eval') evaluations.push(event)
  }
  model.use()
  const { meanTokenAccuracy: before } = await model.exactMatch(rows, { maxSeqLength: 64 })
  model.use(adapter)
  const { meanTokenAccuracy: after } = await model.exactMatch(rows, { maxSeqLength: 64 })
  await adapter.detach()
  return { steps, evaluations, before, after, planned: training.memory.peakBytes }
}

const numbers = ({ steps, evaluations }: Awaited<ReturnType<typeof run>>) => [
  ...steps.map(({ loss, gradNorm }) => [loss, gradNorm]),
  ...evaluations.map(({ loss }) => loss),
]

test('token accuracy is that of exactMatch, and moves nothing', async () => {
  // Also where the logits of few rows exist at a time.
  for (const more of [{}, { logitsMemory: '1MiB', packing: false }]) {
    const [off, on] = [await run(more), await run({ ...more, tokenAccuracy: true })]
    expect(numbers(on)).toEqual(numbers(off))
    expect(off.steps.every((step) => !('meanTokenAccuracy' in step))).toBe(true)
    expect(on.planned - off.planned).toBeGreaterThanOrEqual(0)
    expect(on.planned - off.planned).toBeLessThanOrEqual(4096)
    expect(on.before).toBeGreaterThan(0)
    expect(on.before).toBeLessThan(1)
    // A step measures before its update, and each has all rows.
    expect(on.steps[0]?.meanTokenAccuracy).toBeCloseTo(on.before, 12)
    expect(on.evaluations.map(({ meanTokenAccuracy }) => meanTokenAccuracy)).toEqual([
      expect.closeTo(on.before, 12),
      expect.closeTo(on.after, 12),
    ])
  }
  await expect(run({ task: 'dpo', tokenAccuracy: true })).rejects.toThrow('it belongs to causal_lm')
})
