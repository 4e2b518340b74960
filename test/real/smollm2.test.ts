/**
 * The whole way on a real model: SmolLM2-135M-Instruct against golden logits of transformers, then QLoRA on real
 * English (this project's own documentation), saved, loaded back, and asked to write.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/core/root.js'
import { type Adapter, dataset, loadModel, lora, type Model, nf4 } from '../../lib/index.js'
import { graphOf, openModelFiles } from '../../lib/models/index.js'
import { addon } from '../../lib/native/addon.js'
import { lowrank, printed } from '../lib/cli/lowrank.js'
import { measure } from '../memory/measure.js'
import { floats, ints, parity, readGolden, relativeError } from '../parity/engine.js'
import { fetchSmolLm2 } from './smollm2.js'

const fetched = await fetchSmolLm2()
const why = 'skipped' in fetched ? fetched.skipped : ''
const path = 'path' in fetched ? fetched.path : ''
if (why) console.warn(`Skipping the tests on a real model: ${why}`)

const work = mkdtempSync(join(tmpdir(), 'lowrank-real-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

/** Paragraphs of the documentation as rows of plain text: every fifth is held out, its first and second half apart. */
function writeTexts(): { train: string; first: string; second: string } {
  const documents = [
    'CONTRIBUTING.md',
    ...readdirSync(join(packageRoot, 'docs'))
      .filter((name) => name.endsWith('.md'))
      .sort()
      .map((name) => join('docs', name)),
  ]
  const paragraphs = documents.flatMap((name) => {
    const text = readFileSync(join(packageRoot, name), 'utf8')
    return text.split(/\n\n+/).filter((paragraph) => paragraph.length > 200 && !paragraph.startsWith('|'))
  })
  const held = paragraphs.filter((_, i) => i % 5 === 4)
  const middle = Math.ceil(held.length / 2)
  const write = (name: string, rows: string[]) => {
    const file = join(work, name)
    writeFileSync(file, rows.map((text) => `${JSON.stringify({ text })}\n`).join(''))
    return file
  }
  return {
    train: write(
      'train.jsonl',
      paragraphs.filter((_, i) => i % 5 !== 4),
    ),
    first: write('first.jsonl', held.slice(0, middle)),
    second: write('second.jsonl', held.slice(middle)),
  }
}

describe.skipIf(why !== '')('SmolLM2-135M-Instruct from a GGUF file', () => {
  it('takes the memory that plan tells, with Node.js and the data', async () => {
    const { train: rows } = writeTexts()
    const config = join(work, 'memory.yaml')
    const settings = {
      ...{ model: path, strategy: { name: 'qlora' }, dataset: rows, max_steps: 3, learning_rate: 1e-4 },
      ...{ per_device_train_batch_size: 1, max_seq_length: 256, save_steps: 2, output_dir: 'memory' },
    }
    writeFileSync(config, JSON.stringify(settings))
    const [plan] = printed<'plan'>(await lowrank(['plan', config, '--json']))
    const done = printed<'train'>(await lowrank(['train', config, '--json'])).at(-1)
    const measured = done?.event === 'done' ? done.peak_rss_bytes : 0
    const told = plan?.process.bytes ?? 0
    console.log(`told ${(told / 2 ** 20).toFixed(1)} MiB, measured ${(measured / 2 ** 20).toFixed(1)} MiB`)
    expect(Math.abs(told - measured)).toBeLessThan(Math.max(0.05 * measured, 8 * 2 ** 20))
  })

  it('gives the logits of transformers reading the same file', async () => {
    const golden = await readGolden('real/smollm2.safetensors')
    const files = await openModelFiles(path)
    const graph = graphOf(files.config)
    const model = addon().createModel(graph)
    for (const { name } of graph.weights) {
      const source = files.tensors.get(name)
      if (source === undefined) throw new Error(`the file lacks ${name}`)
      await model.loadWeight(name, source, 'f32').promise
    }
    const tokens = ints(golden, 'input_ids')
    const session = await addon().createSession(model, [], {
      forward: { mode: 'forward', tokens: 64, sequences: 1, headRows: 1, kvCapacity: 128, precision: 'f32' },
    }).promise
    const rows = Int32Array.of(tokens.length - 1)
    const { logits } = await session.forward('forward', { tokens, past: 0, rows, wantLogits: true }).promise
    const error = relativeError(logits as Float32Array, floats(golden, 'logits'))
    console.log(`relative error of the logits: ${error.toExponential(1)}`)
    expect(error).toBeLessThan(1e-4)
    await session.dispose()
    await model.dispose()
  })

  it('writes the greedy answer that transformers writes', async () => {
    const { prompt, greedy } = JSON.parse(readFileSync(join(parity, 'real/smollm2.json'), 'utf8')) as Record<
      string,
      string
    >
    const model = await loadModel(path, { precision: 'fp32' })
    const answer = await model.generate(prompt as string, { maxNewTokens: 20 })
    expect(`${answer.text}<|im_end|>`).toBe(greedy)
    expect(answer.finishReason).toBe('stop')
    await model.dispose()
  })

  it('trains within a tenth of the planned memory', async () => {
    const { train } = writeTexts()
    const measured = await measure(path, train, '3')
    const expected = measured.before + measured.planned
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
    console.log(
      `planned ${mib(measured.planned)} over ${mib(measured.before)} before loading; resident at the peak ${mib(measured.peak)}`,
    )
    expect(measured.tokens).toBeGreaterThan(1900)
    expect(Math.abs(measured.peak / expected - 1)).toBeLessThan(0.1)
  })

  describe('tuned with QLoRA for 30 steps of 512 tokens', () => {
    const texts = why ? undefined : writeTexts()
    let model: Model
    let adapter: Adapter
    const losses: number[] = []
    const before: number[] = []
    const after: number[] = []
    const halves = () => [texts?.first as string, texts?.second as string].map((file) => dataset(file))
    const evaluateHalves = async () => {
      const out: number[] = []
      for (const half of halves()) out.push((await model.evaluate(half)).loss)
      return out
    }

    beforeAll(async () => {
      model = await loadModel(path, { quantization: nf4({ doubleQuant: true }) })
      before.push(...(await evaluateHalves()))
      adapter = await model.attach(lora({ r: 16, loraAlpha: 32, targetModules: 'all-linear' }))
      const run = adapter.train(texts?.train as string, {
        learningRate: 5e-4,
        maxSteps: 30,
        perDeviceTrainBatchSize: 1,
        maxSeqLength: 512,
        outputDir: join(work, 'out'),
      })
      for await (const step of run) losses.push(step.loss)
      after.push(...(await evaluateHalves()))
      const fall = before.map((loss, i) => `${loss.toFixed(3)} to ${after[i]?.toFixed(3)}`)
      console.log(`held-out loss fell from ${fall.join(' and from ')}`)
    }, 600_000)
    afterAll(() => model?.dispose())

    it('lowers the loss on both halves of the held-out text', () => {
      expect(losses).toHaveLength(30)
      for (const [i, loss] of after.entries()) expect(loss).toBeLessThan((before[i] as number) - 0.1)
    })

    it('gives the same loss and text after it was saved and loaded back', async () => {
      const prompt = 'A checkpoint holds'
      const options = { maxNewTokens: 30, adapters: [adapter] }
      const tuned = await model.generate(prompt, options)
      const folder = join(work, 'adapter')
      await adapter.save(folder)
      await adapter.detach()
      const base = await model.generate(prompt, { maxNewTokens: 30 })
      const loaded = await model.loadAdapter(folder)
      expect((await model.evaluate(halves()[0] as ReturnType<typeof dataset>)).loss).toBe(after[0])
      const again = await model.generate(prompt, { maxNewTokens: 30, adapters: [loaded] })
      expect(again.text).toBe(tuned.text)
      expect(again.text).not.toBe(base.text)
      expect(again.text.length).toBeGreaterThan(20)
      console.log(`${prompt}${again.text}`)
    })
  })
})
