/** Label smoothing and NEFTune as options of a run. */

import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import type { TrainOptions } from '../../../../lib/options/types.js'
import { lora } from '../../../../lib/strategies/lora.js'
import type { EvalEvent, TrainEvent, TrainStep } from '../../../../lib/train/steps/events.js'
import { tinyModel } from '../../../e2e/tiny-model.js'
import { scratchFolder } from '../../scratch.js'

let model: Model
beforeAll(async () => {
  model = await loadModel(tinyModel(), { precision: 'fp32' })
})
afterAll(() => model.dispose())

const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `Word ${i}?`, completion: `${i} and more.` }))

async function run(more: Partial<TrainOptions>, control: object = {}) {
  const adapter = await model.attach(lora({ r: 2 }), { seed: 1 })
  const options = { maxSteps: 4, perDeviceTrainBatchSize: 2, maxSeqLength: 64, learningRate: 1e-3, seed: 3 }
  const events: TrainEvent[] = []
  try {
    for await (const event of adapter
      .train(rows, { ...options, evalDataset: rows, ...more, ...control })
      .events())
      events.push(event)
  } finally {
    await adapter.detach()
  }
  const steps = events.filter((event): event is TrainStep => event.event === 'step')
  const [before] = events.filter((event): event is EvalEvent => event.event === 'eval')
  return { numbers: steps.map(({ loss, gradNorm }) => [loss, gradNorm]), before: before?.loss }
}

test.each([{ labelSmoothingFactor: 0.1 }, { neftuneNoiseAlpha: 5 }])(
  '%o acts in training, not in evaluation, and goes on where it was resumed',
  async (options) => {
    const [plain, whole, again] = [await run({}), await run(options), await run(options)]
    expect(whole).toEqual(again)
    expect(whole.before).toBe(plain.before)
    for (const [step, [loss = 0, norm = 0]] of whole.numbers.entries()) {
      expect(Math.abs(loss - (plain.numbers[step]?.[0] ?? 0)), 'loss').toBeGreaterThan(1e-6)
      expect(norm).not.toBe(plain.numbers[step]?.[1])
    }
    const outputDir = join(scratchFolder(), 'out')
    await run({ ...options, saveSteps: 2 }, { outputDir })
    const resumed = await run(options, { outputDir, force: true, resume: join(outputDir, 'checkpoint-2') })
    expect(resumed.numbers).toEqual(whole.numbers.slice(2))
    await expect(
      run({}, { outputDir, force: true, resume: join(outputDir, 'checkpoint-2') }),
    ).rejects.toThrow(
      Object.keys(options)[0] === 'labelSmoothingFactor' ? 'label_smoothing_factor' : 'neftune_noise_alpha',
    )
  },
)

test('noise of another seed or step is another noise', async () => {
  const [one, other] = [await run({ neftuneNoiseAlpha: 5 }), await run({ neftuneNoiseAlpha: 5, seed: 4 })]
  expect(one.numbers).not.toEqual(other.numbers)
})

test('wrong use is one error', async () => {
  const cases: [Partial<TrainOptions>, string][] = [
    [{ labelSmoothingFactor: 1 }, 'labelSmoothingFactor is 1, expected a number in [0, 1)'],
    [{ neftuneNoiseAlpha: 0 }, 'neftuneNoiseAlpha is 0'],
    [{ task: 'dpo', neftuneNoiseAlpha: 5 }, 'neftuneNoiseAlpha is 5, expected it to be absent with task dpo'],
    [{ task: 'orpo', labelSmoothingFactor: 0.1 }, 'labelSmoothingFactor is 0.1, expected 0 with task orpo'],
  ]
  for (const [options, message] of cases) await expect(run(options), message).rejects.toThrow(message)
})
