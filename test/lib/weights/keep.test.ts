/** GGUF files whose blocks stay as they are, against the same files decoded on load. */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChatMessage } from '../../../lib/index.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import { lora } from '../../../lib/strategies/lora.js'
import { keep } from '../../../lib/weights/quantization.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'

let path: string
let data: string
beforeAll(async () => {
  data = scratchFile('data.jsonl', chats(20))
  path = join(scratchFolder(), 'model.gguf')
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  await model.export(path, { format: 'gguf', dtype: 'q8_0' })
  await model.dispose()
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function load(options: Parameters<typeof loadModel>[1]): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32', ...options })
  loaded.push(model)
  return model
}

const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 240)

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0)
}

describe('a GGUF file that is kept', () => {
  test('computes what the decoded one computes, a token at a time too', async () => {
    const kept = await load({ quantization: keep() })
    const decoded = await load({})
    const expected = await decoded.logits(tokens)
    expect(largestDifference(await kept.logits(tokens), expected)).toBeLessThan(1e-5)
    const question: ChatMessage[] = [{ role: 'user', content: 'Colour of sky?' }]
    const texts = await Promise.all(
      [kept, decoded].map((model) => model.generate(question, { maxNewTokens: 12 })),
    )
    expect(texts[0]?.tokenIds).toEqual(texts[1]?.tokenIds)
  })

  test('may be paged, which changes no bit', async () => {
    const whole = await load({ quantization: keep() })
    const paged = await load({ quantization: keep(), pagedWeights: true })
    expect(await paged.logits(tokens)).toEqual(await whole.logits(tokens))
  })

  test('trains as the decoded one does', async () => {
    const losses = async (model: Model) => {
      const adapter = await model.attach(lora({ r: 4 }))
      const found: number[] = []
      for await (const { loss } of adapter.train(data, {
        maxSteps: 10,
        maxSeqLength: 64,
        learningRate: 0.01,
      }))
        found.push(loss)
      return found
    }
    const kept = await losses(await load({ quantization: keep() }))
    const decoded = await losses(await load({}))
    expect(kept.at(-1)).toBeLessThan((kept[0] as number) * 0.97)
    for (const [step, loss] of kept.entries()) expect(loss).toBeCloseTo(decoded[step] as number, 3)
  })

  test('is held in as many bytes as its matrices take in the file, which its plan knew', async () => {
    const model = await load({ quantization: keep() })
    const [held] = model.memory.rows.filter(({ category }) => category === 'weights')
    expect(addon().allocated().weights).toBe(held?.bytes)
    expect(held?.bytes).toBeLessThan(statSync(path).size)
    const plan = await planModel(path, { strategy: lora(), quantization: 'keep', precision: 'fp32' })
    expect(plan.bytes('weights')).toBe(held?.bytes)
    await model.dispose()
    await vi.waitFor(() => expect(addon().allocated().weights).toBe(0))
  })

  test('gives adapters that say so, and no start from what quantization took', async () => {
    const model = await load({ quantization: 'keep' })
    expect(model.quantization).toEqual({ type: 'keep' })
    await expect(model.attach(lora({ initLoraWeights: 'loftq' }))).rejects.toThrow(
      'GGUF blocks were quantized before loading; load it with quantization nf4',
    )
  })

  test('is written in 16 bits or Q8_0, and in codes of bitsandbytes only once quantized so', async () => {
    const model = await load({ quantization: keep() })
    const output = join(scratchFolder(), 'out')
    await expect(model.save(output, { dtype: 'nf4' })).rejects.toThrow('is not loaded in NF4')
    const { check } = await model.save(output, { dtype: 'f32' })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
  })

  test('is asked for of GGUF files only', async () => {
    await expect(loadModel(tinyModel(), { quantization: 'keep' })).rejects.toThrow(
      /quantization is keep, .* has none: its matrices are (BF16|F32)\. Use a \.gguf file/,
    )
  })
})
