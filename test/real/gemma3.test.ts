/**
 * A second family on a real model: Gemma 3 270M against golden logits of transformers, then LoRA over the blocks of its GGUF
 * file, on this project's own documentation.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/core/root.js'
import { loadModel, lora, type Model } from '../../lib/index.js'
import { floats, ints, parity, readGolden, relativeError } from '../parity/engine.js'
import { fetchGemma3 } from './gemma3.js'

const fetched = await fetchGemma3()
const why = 'skipped' in fetched ? fetched.skipped : ''
const path = 'path' in fetched ? fetched.path : ''
if (why) console.warn(`Skipping the tests on Gemma 3: ${why}`)

const models: Model[] = []
afterAll(async () => {
  for (const model of models) await model.dispose()
})

async function load(options: Parameters<typeof loadModel>[1]): Promise<Model> {
  const model = await loadModel(path, options)
  models.push(model)
  return model
}

/** Paragraphs of the documentation: those to train on, and a few that are held out. */
function paragraphs(): { train: { text: string }[]; held: { text: string }[] } {
  const folder = join(packageRoot, 'docs')
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .sort()
  const rows = names.flatMap((name) =>
    readFileSync(join(folder, name), 'utf8')
      .split(/\n\n+/)
      .filter((text) => text.length > 200 && !text.startsWith('|'))
      .map((text) => ({ text })),
  )
  return {
    train: rows.filter((_, i) => i % 5 !== 4),
    held: rows.filter((_, i) => i % 30 === 4).slice(0, 16),
  }
}

describe.skipIf(why !== '')('Gemma 3 270M from a GGUF file', () => {
  it('gives the logits of transformers reading the same file, for more tokens than its window', async () => {
    const golden = await readGolden('real/gemma3.safetensors')
    const { every, best } = JSON.parse(readFileSync(join(parity, 'real/gemma3.json'), 'utf8')) as {
      every: number
      best: number
    }
    const model = await load({ precision: 'fp32', quantization: 'keep' })
    const tokens = ints(golden, 'input_ids')
    const logits = await model.logits(tokens)
    const last = logits.subarray(logits.length - logits.length / tokens.length)
    const error = relativeError(
      last.filter((_, i) => i % every === 0),
      floats(golden, 'logits'),
    )
    console.log(`relative error of the logits: ${error.toExponential(1)}`)
    expect(error).toBeLessThan(1e-4)
    expect(last.indexOf(last.reduce((a, b) => Math.max(a, b)))).toBe(best)
  })

  it('learns from sixty short texts what helps with others', async () => {
    const model = await load({ quantization: 'keep' })
    const { train, held } = paragraphs()
    const before = await model.evaluate(held, { maxSeqLength: 64 })
    const adapter = await model.attach(lora({ r: 8, loraAlpha: 16, targetModules: 'all-linear' }), {
      seed: 1,
    })
    const options = {
      perDeviceTrainBatchSize: 1,
      maxSeqLength: 64,
      maxSteps: 60,
      learningRate: 3e-4,
      seed: 1,
    }
    for await (const { loss } of adapter.train(train, options)) expect(loss).toBeGreaterThan(0)
    const after = await model.evaluate(held, { maxSeqLength: 64, adapters: [adapter] })
    console.log(`held-out loss ${before.loss.toFixed(3)} -> ${after.loss.toFixed(3)}`)
    expect(after.loss).toBeLessThan(before.loss - 0.1)
  })
})
