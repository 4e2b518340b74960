import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChatMessage } from '../../../lib/index.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import { lora } from '../../../lib/strategies/lora.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { nf4 } from '../../../lib/weights/quantization.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('data.jsonl', chats(20))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function load(options: Parameters<typeof loadModel>[1] = { precision: 'fp32' }): Promise<Model> {
  const model = await loadModel(folder, options)
  loaded.push(model)
  return model
}

/** The engine's thread may hold a finished job a moment longer. */
const nothingHeld = () =>
  vi.waitFor(() => expect(Object.values(addon().allocated()).filter((bytes) => bytes > 0)).toEqual([]))

const question: ChatMessage[] = [{ role: 'user', content: 'Colour of sky?' }]

describe('loading', () => {
  test('tells how far it is, in the order of the files', async () => {
    const seen: number[] = []
    await load({ onProgress: ({ loadedBytes, totalBytes }) => seen.push(loadedBytes / totalBytes) })
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(1)
  })

  test('holds exactly the bytes that its memory report says', async () => {
    for (const quantization of ['none', nf4(), nf4({ doubleQuant: false })] as const) {
      const model = await load({ precision: 'fp32', quantization })
      await model.attach(lora({ r: 2 }))
      const held = addon().allocated()
      for (const { category, bytes } of model.memory.rows) expect(held[category], category).toBe(bytes)
      await model.dispose()
      await nothingHeld()
    }
  })

  test('can be stopped, and leaves nothing in memory', async () => {
    const controller = new AbortController()
    const stopped = loadModel(folder, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('stop')),
    })
    await expect(stopped).rejects.toThrow('stop')
    await nothingHeld()
  })

  test.each([
    [
      { quantization: 'int3' },
      'loadModel(): quantization is "int3", expected none, nf4, fp4, int8, keep or {type: nf4, double_quant: true}.',
    ],
    [{ precision: 'fp16' }, 'loadModel(): precision is "fp16", expected one of auto, fp32, bf16.'],
    [{ threads: 0 }, 'loadModel(): threads is 0, expected auto or an integer from 1 to 1024.'],
    [{ thread: 1 }, 'loadModel(): unknown key thread; did you mean threads?'],
  ])('refuses %j', async (options, message) => {
    await expect(loadModel(folder, options as never)).rejects.toThrow(
      expect.objectContaining({ code: 'CONFIG', message }),
    )
  })

  test('refuses a model that its config does not fit, or that is not there', async () => {
    await expect(loadModel('/nowhere')).rejects.toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }))
    const broken = tinyModel()
    const change = (keys: Record<string, unknown>) => {
      const path = join(broken, 'config.json')
      writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...keys }))
    }
    change({ intermediate_size: 32 })
    await expect(loadModel(broken)).rejects.toThrow(
      /model\.safetensors: tensor "model\.layers\.0\.mlp\.(down|gate|up)_proj\.weight" is \[.*\], but the config requires \[/,
    )
    change({ num_hidden_layers: 9 })
    await expect(loadModel(broken)).rejects.toThrow(
      /lack \d+ of the \d+ tensors that its config requires: "model\.layers\./,
    )
    change({ model_type: 'gpt2' })
    await expect(loadModel(broken)).rejects.toThrow('model_type is "gpt2", which is not supported')
  })
})

describe('adapters', () => {
  sweepTest(
    'start without effect, change the output when trained, and take it with them when they go',
    async () => {
      const model = await load()
      const before = await model.evaluate(data)
      const adapter = await model.attach(lora({ r: 4, loraAlpha: 16 }))
      expect(await model.evaluate(data)).toEqual(before)
      for await (const _ of adapter.train(data, { maxSteps: 3, learningRate: 0.02, warmupRatio: 0 }));
      expect((await model.evaluate(data)).loss).toBeLessThan(before.loss)
      expect(await model.evaluate(data, { adapters: [] })).toEqual(before)
      await adapter.detach()
      expect(model.adapters).toEqual([])
      expect(await model.evaluate(data)).toEqual(before)
    },
  )

  test('come back from their folder with the same effect, and add up', async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 4, initLoraWeights: false, loraAlpha: 1 }))
    const alone = await model.evaluate(data)
    const path = join(scratchFolder(), 'adapter')
    await adapter.save(path)
    const twin = await model.loadAdapter(path)
    expect(twin.strategy).toEqual(adapter.strategy)
    expect((await model.evaluate(data, { adapters: [twin] })).loss).toBe(alone.loss)
    const both = await model.evaluate(data)
    const twice = await model.attach(lora({ r: 4, initLoraWeights: false, loraAlpha: 2 }))
    expect((await model.evaluate(data, { adapters: [twice] })).loss).toBeCloseTo(both.loss, 4)
    expect(twin.trainableParameters).toBe(0)
    expect(() => twin.train(data)).toThrow(
      'the adapter was loaded for inference; load it with { trainable: true }',
    )
  })

  test('and whatever else a program without types gives are checked and named', async () => {
    const model = await load()
    const byHand = { name: 'lora', r: 2 } as unknown as ReturnType<typeof lora>
    expect((await model.attach(byHand)).trainableParameters).toBe(
      (await model.attach(lora({ r: 2 }))).trainableParameters,
    )
    const given = (value: unknown) => value as never
    await expect(model.attach(given({ name: 'lora', r: -1 }))).rejects.toThrow(
      'attach(): strategy.r is -1, expected a positive integer.',
    )
    await expect(model.attach(given(undefined))).rejects.toThrow(
      "attach(): strategy is missing, expected an object, as in { name: 'lora' }.",
    )
    for (const prompt of [5, undefined, [], [{ content: 'Hello' }]])
      await expect(model.generate(given(prompt))).rejects.toThrow(
        /^generate\(\): prompt is .*, expected a text, or a list of at least one message/,
      )
    await expect(loadModel(given(undefined))).rejects.toThrow(
      'loadModel(): name is missing, expected a folder, a .gguf file or a name on the hub.',
    )
  })

  test('of qlora go onto the quantization that it stands for, and no other', async () => {
    const plain = await load()
    await expect(plain.attach(qlora())).rejects.toThrow(
      'attach(): strategy qlora requires quantization nf4, but the model was loaded with none; load it with the former, or attach the inner adapter.',
    )
    const quantized = await load({ quantization: nf4(), precision: 'fp32' })
    const adapter = await quantized.attach(qlora({ adapter: lora({ r: 2 }) }))
    for await (const step of adapter.train(data, { maxSteps: 2 })) expect(step.loss).toBeGreaterThan(0)
  })

  test('depend on the seed they were attached with, and on nothing else', async () => {
    const model = await load()
    const lossOf = async (seed: number) => {
      const adapter = await model.attach(lora({ r: 4, initLoraWeights: false, loraAlpha: 4 }), { seed })
      const { loss } = await model.evaluate(data, { adapters: [adapter] })
      await adapter.detach()
      return loss
    }
    expect(await lossOf(1)).toBe(await lossOf(1))
    expect(await lossOf(1)).not.toBe(await lossOf(2))
  })
})

describe('generating', () => {
  test('is the same text in parts and whole, and the same again', async () => {
    const model = await load()
    const parts: string[] = []
    const stream = model.stream(question, { maxNewTokens: 24, temperature: 1, seed: 5 })
    let end = await stream.next()
    for (; !end.done; end = await stream.next()) parts.push(end.value)
    expect(parts.join('')).toBe(end.value.text)
    expect(parts.length).toBeGreaterThan(1)
    const again = await model.generate(question, { maxNewTokens: 24, temperature: 1, seed: 5 })
    expect(again.tokenIds).toEqual(end.value.tokenIds)
    const other = await model.generate(question, { maxNewTokens: 24, temperature: 1, seed: 6 })
    expect(other.tokenIds).not.toEqual(again.tokenIds)
  })

  sweepTest('learns to answer and to stop from training', async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
    const one = scratchFile(
      'one.jsonl',
      `${JSON.stringify({ messages: [...question, { role: 'assistant', content: 'Blue, as ever.' }] })}\n`.repeat(
        8,
      ),
    )
    const options = { maxSteps: 40, learningRate: 0.005, lrSchedulerType: 'constant' as const }
    for await (const _ of adapter.train(one, options));
    const answer = await model.generate(question, { maxNewTokens: 32 })
    expect(answer).toMatchObject({ text: 'Blue, as ever.', finishReason: 'stop' })
    expect(await model.generate(question, { maxNewTokens: 4 })).toMatchObject({
      text: 'Blue',
      finishReason: 'length',
    })
    expect(await model.generate(question, { stop: [' as', 'zzz'] })).toMatchObject({
      text: 'Blue,',
      finishReason: 'stop',
    })
  })

  test('stops at a limit of the model, and refuses a prompt beyond it', async () => {
    const model = await load()
    const limit = model.config.max_position_embeddings as number
    const prompt = 'x'.repeat(limit - 3)
    expect(
      (await model.generate(prompt, { maxNewTokens: 50, keepSpecialTokens: true })).tokenIds.length,
    ).toBeLessThanOrEqual(3)
    await expect(model.generate('x'.repeat(limit))).rejects.toThrow(
      `generate(): the prompt has ${limit} tokens, but the model supports at most ${limit}, including the answer.`,
    )
    await expect(model.generate('')).rejects.toThrow('the prompt is empty')
  })

  test('takes a prompt of many chunks, telling how far it is', async () => {
    const long = tinyModel()
    const path = join(long, 'config.json')
    const config = JSON.parse(readFileSync(path, 'utf8'))
    writeFileSync(path, JSON.stringify({ ...config, max_position_embeddings: 2048 }))
    const model = await loadModel(long, { precision: 'fp32' })
    loaded.push(model)
    const prompt = Array.from({ length: 1100 }, (_, i) => 'abcdefghij'[(i * i) % 10]).join('')
    const seen: number[] = []
    const { tokenIds } = await model.generate(prompt, {
      maxNewTokens: 1,
      onPromptProgress: ({ tokens, totalTokens }) => seen.push(tokens / totalTokens),
    })
    expect(seen).toEqual([0, 512 / 1100, 1024 / 1100, 1])
    const vocab = JSON.parse(readFileSync(join(long, 'tokenizer.json'), 'utf8')).model.vocab
    const logits = await model.logits(Int32Array.from(prompt, (letter) => vocab[letter]))
    const last = logits.subarray(-(model.config.vocab_size as number))
    expect(tokenIds).toEqual([last.indexOf(Math.max(...last))])
  })

  test('can be stopped', async () => {
    const model = await load()
    const controller = new AbortController()
    const stream = model.stream('abc', { maxNewTokens: 200, temperature: 1, signal: controller.signal })
    await stream.next()
    controller.abort(new Error('enough'))
    await expect(stream.next().then(() => stream.next())).rejects.toThrow('enough')
  })

  test.each([
    [{ temperature: -1 }, 'generate(): temperature is -1, expected a number from 0 to 100.'],
    [{ topP: 0 }, 'generate(): topP is 0, expected a number in (0, 1].'],
    [{ maxNewTokens: 0 }, 'generate(): maxNewTokens is 0, expected a positive integer.'],
    [{ max_new_tokens: 3 }, 'generate(): unknown key max_new_tokens; did you mean maxNewTokens?'],
  ])('refuses %j', async (options, message) => {
    await expect((await load()).generate('a', options as never)).rejects.toThrow(message)
  })
})

describe('after disposal', () => {
  test('everything names what was disposed', async () => {
    const model = await loadModel(folder, { precision: 'fp32' })
    const adapter = await model.attach(lora({ r: 2 }))
    const run = adapter.train(data, { maxSteps: 3 })[Symbol.asyncIterator]()
    await run.next()
    const stream = model.stream('abc')
    await stream.next()
    await model.dispose()
    await model.dispose()
    const gone = expect.objectContaining({ code: 'DISPOSED' })
    await expect(run.next()).rejects.toThrow(gone)
    await expect(stream.next()).rejects.toThrow(gone)
    expect(() => adapter.train(data)).toThrow(`The adapter lora of ${folder} was disposed and cannot be used`)
    await expect(adapter.save('/tmp/never')).rejects.toThrow(gone)
    await expect(model.generate('a')).rejects.toThrow(`The model ${folder} was disposed and cannot be used`)
    await expect(model.attach(lora())).rejects.toThrow(gone)
    expect(() => model.memory).toThrow(gone)
    await nothingHeld()
  })

  test('waits for the step in flight', async () => {
    const model = await loadModel(folder, { precision: 'fp32' })
    const adapter = await model.attach(lora({ r: 2 }))
    const run = adapter.train(data, { maxSteps: 3, gradientAccumulationSteps: 4 })[Symbol.asyncIterator]()
    await run.next()
    const second = run.next()
    await new Promise((resolve) => setImmediate(resolve))
    await Promise.all([second, model.dispose()])
    expect((await second).value?.step).toBe(2)
    await expect(run.next()).rejects.toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })
})

describe('planning without loading', () => {
  test('gives what the run plans, from the files or from config.json alone', async () => {
    const model = await load({ quantization: 'nf4', precision: 'fp32' })
    const adapter = await model.attach(qlora({ adapter: lora({ r: 4 }) }))
    const run = adapter.train(data, { maxSeqLength: 128, evalFraction: 0.2 })
    const options = {
      strategy: adapter.strategy,
      precision: 'fp32',
      maxSeqLength: 128,
      evaluates: true,
    } as const
    expect(await planModel(folder, options)).toEqual(run.memory)
    expect(await planModel(join(folder, 'config.json'), options)).toEqual(run.memory)
    expect(run.memory.toString()).toMatch(/^weights +[\d.]+ KiB +\d+ %\n/)
  })
})

sweepTest('exact match tells of every row whether generation writes its answer', async () => {
  const model = await load({ precision: 'fp32', quantization: 'none' })
  const options = { maxSeqLength: 96 }
  expect(await model.exactMatch(data, options)).toMatchObject({ exactMatch: 0, rows: 20 })
  const adapter = await model.attach(lora({ r: 4, loraAlpha: 8 }))
  const run = adapter.train(data, {
    ...options,
    learningRate: 5e-3,
    maxSteps: 60,
    perDeviceTrainBatchSize: 1,
  })
  for await (const _ of run);
  const { exactMatch, matched } = await model.exactMatch(data, options)
  const generated: boolean[] = []
  for (const line of readFileSync(data, 'utf8').trim().split('\n')) {
    const [question, answer] = JSON.parse(line).messages
    const { text, finishReason } = await model.generate([question], { maxNewTokens: 40 })
    generated.push(text === answer.content && finishReason === 'stop')
  }
  expect(matched).toEqual(generated)
  expect(exactMatch).toBe(generated.filter(Boolean).length / 20)
  expect(exactMatch).toBeGreaterThan(0)
  expect((await model.exactMatch(data, { ...options, adapters: [] })).exactMatch).toBe(0)
})
