/** Training over every format that the base can be held in. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel, lora, planModel } from '../../lib/index.js'
import { describeQuantization, QUANTIZATIONS } from '../../lib/strategies/quantization.js'
import { scratchFile, scratchFolder } from '../lib/files/scratch.js'
import { chats, tinyModel } from './tiny-model.js'

test.each(QUANTIZATIONS.map((quantization) => [describeQuantization(quantization), quantization] as const))(
  'over %s the loss falls, memory is as planned, and the adapter is merged onto what it was trained on',
  async (_, quantization) => {
    const folder = tinyModel()
    const model = await loadModel(folder, { quantization, precision: 'fp32' })
    try {
      const plan = await planModel(folder, { strategy: lora({ r: 4 }), quantization, precision: 'fp32' })
      const adapter = await model.attach(lora({ r: 4 }))
      const held = model.memory.rows.filter(({ category }) => /weights|constants/.test(category))
      const planned = plan.rows.filter(({ category }) => /weights|constants/.test(category))
      expect(held).toEqual(planned)
      const losses: number[] = []
      const options = { maxSteps: 12, maxSeqLength: 64, learningRate: 0.01 }
      for await (const { loss } of adapter.train(scratchFile('train.jsonl', chats(24)), options))
        losses.push(loss)
      expect(losses.at(-1)).toBeLessThan((losses[0] as number) * 0.8)
      const merged = join(scratchFolder(), 'merged')
      const { check } = await adapter.merge(merged, { dtype: 'f32' })
      expect(check?.maxAbsLogitError).toBeLessThan(1e-3)
      rmSync(merged, { recursive: true })
    } finally {
      await model.dispose()
    }
  },
)
