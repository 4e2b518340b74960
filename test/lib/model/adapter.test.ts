import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Adapter } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { lora } from '../../../lib/strategies/lora.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { floats, goldenBatch, parity, readGolden, relativeError } from '../../parity/engine.js'
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

async function load(path = folder): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32' })
  loaded.push(model)
  return model
}

/** A model with two adapters that do something. */
async function loadTwo(): Promise<{ model: Model; one: Adapter; two: Adapter }> {
  const model = await load()
  const random = lora({ r: 4, loraAlpha: 2, initLoraWeights: false })
  const one = await model.attach(random, { name: 'one', seed: 1 })
  const two = await model.attach(random, { name: 'two', seed: 2 })
  return { model, one, two }
}

const tokens = Int32Array.from({ length: 24 }, (_, i) => 3 + ((i * 37) % 200))

describe('adapters on one model', () => {
  test('act with their weights, and their outputs add up as PEFT composes them', async () => {
    const model = await load(join(parity, 'models', 'llama3'))
    await model.loadAdapter(join(parity, 'peft', 'all_linear'))
    await model.loadAdapter(join(parity, 'peft', 'second'))
    model.use({ adapter: 'all_linear', weight: 0.5 }, { adapter: 'second', weight: 2 })
    const golden = floats(await readGolden('peft/sum.logits.safetensors'), 'logits')
    const batch = goldenBatch(await readGolden('golden/llama3.safetensors'))
    const logits: number[] = []
    for (let s = 0; s + 1 < batch.cuSeqlens.length; s++)
      logits.push(...(await model.logits(batch.tokens.slice(batch.cuSeqlens[s], batch.cuSeqlens[s + 1]))))
    expect(relativeError(logits, golden)).toBeLessThan(1e-4)
    model.use('all_linear', 'second')
    const unweighted = await model.logits(batch.tokens.slice(0, batch.cuSeqlens[1]))
    expect(relativeError(unweighted, golden.subarray(0, unweighted.length))).toBeGreaterThan(1e-2)
  })

  test('switch to and fro without a trace, and off is the base to the bit', async () => {
    const { model, one, two } = await loadTwo()
    const base = await model.logits(tokens, { adapters: [] })
    const both = await model.logits(tokens)
    model.use('one')
    const first = await model.logits(tokens)
    model.use(two)
    const second = await model.logits(tokens)
    expect(relativeError(first, second)).toBeGreaterThan(1e-3)
    model.use()
    expect(await model.logits(tokens)).toEqual(base)
    expect(model.adapters.map(({ name, weight }) => [name, weight])).toEqual([
      ['one', 0],
      ['two', 0],
    ])
    one.weight = 1
    expect(await model.logits(tokens)).toEqual(first)
    model.use('one', 'two')
    expect(await model.logits(tokens)).toEqual(both)
    await one.detach()
    expect(await model.logits(tokens)).toEqual(second)
    await two.detach()
    expect(await model.logits(tokens)).toEqual(base)
  })

  test('are chosen for one call by name, by themselves or with a weight, whatever acts otherwise', async () => {
    const { model, one } = await loadTwo()
    model.use('two')
    const alone = await model.logits(tokens, { adapters: ['one'] })
    expect(await model.logits(tokens, { adapters: [one] })).toEqual(alone)
    expect(await model.logits(tokens, { adapters: [{ adapter: 'one', weight: 1 }] })).toEqual(alone)
    const half = await model.logits(tokens, { adapters: [{ adapter: one, weight: 0.5 }] })
    expect(half).not.toEqual(alone)
    const [text, other] = [
      await model.generate('abc', { adapters: ['one'], maxNewTokens: 8, keepSpecialTokens: true }),
      await model.generate('abc', { maxNewTokens: 8, keepSpecialTokens: true }),
    ]
    model.use('one')
    expect((await model.generate('abc', { maxNewTokens: 8, keepSpecialTokens: true })).tokenIds).toEqual(
      text.tokenIds,
    )
    expect(other.tokenIds).not.toEqual(text.tokenIds)
  })

  test('stay as they are while another is trained, whatever their weights are', async () => {
    const { model, one, two } = await loadTwo()
    const before = await model.logits(tokens, { adapters: ['two'] })
    const apart = await load()
    const twin = await apart.attach(one.strategy, { seed: 1 })
    const losses = async (adapter: Adapter) => {
      const found: number[] = []
      for await (const { loss } of adapter.train(data, { maxSteps: 3 })) found.push(loss)
      return found
    }
    two.weight = 3
    expect(await losses(one)).toEqual(await losses(twin))
    expect(await model.logits(tokens, { adapters: ['two'] })).toEqual(before)
    expect(await model.logits(tokens, { adapters: ['one'] })).toEqual(await apart.logits(tokens))
  })

  test('have names of their own', async () => {
    const model = await load()
    await model.attach(lora({ r: 2 }))
    const path = join(scratchFolder(), 'tuned')
    await (await model.attach(lora({ r: 2 }))).save(path)
    await model.loadAdapter(path)
    await model.loadAdapter(path)
    await model.loadAdapter(path, { name: 'other' })
    expect(model.adapters.map(({ name }) => name)).toEqual(['lora', 'lora-2', 'tuned', 'tuned-2', 'other'])
    expect(model.adapter('tuned-2')).toBe(model.adapters[3])
    await expect(model.attach(lora(), { name: 'other' })).rejects.toThrow('already has an adapter other')
    await expect(model.loadAdapter(path, { name: '' })).rejects.toThrow('expected a text')
  })

  test('that are not there, named twice or at no weight are refused', async () => {
    const { model, one } = await loadTwo()
    const elsewhere = (await loadTwo()).one
    const config = (message: string) => expect.objectContaining({ code: 'CONFIG', message })
    expect(() => model.use('oen')).toThrow(config(`the model ${folder} has no adapter oen; it has one, two`))
    expect(() => model.use('style')).toThrow(
      config(`the model ${folder} has no adapter style; it has one, two`),
    )
    expect(() => model.use('one', one)).toThrow('the adapter one is named twice')
    expect(() => model.use(elsewhere)).toThrow(`the adapter one is not attached to the model ${folder}`)
    expect(() => model.use({ adapter: 'one', weight: Number.NaN })).toThrow(
      config('adapter one: weight is NaN, expected a finite number; 0 is off.'),
    )
    expect(() => {
      one.weight = '1' as never
    }).toThrow('expected a finite number')
    await one.detach()
    expect(() => model.use(one)).toThrow(
      expect.objectContaining({ code: 'DISPOSED', message: expect.stringContaining('The adapter one of') }),
    )
    expect(model.adapters.map(({ weight }) => weight)).toEqual([1])
  })
})

test('an adapter that is saved while it is trained is saved between two steps', async () => {
  const model = await load()
  const adapter = await model.attach(lora({ r: 64, loraAlpha: 8 }))
  const root = scratchFolder()
  const after: string[] = []
  const during: string[] = []
  let training = true
  const saver = async () => {
    while (training) {
      const path = join(root, `during-${during.length}`)
      await adapter.save(path)
      during.push(path)
    }
  }
  const run = adapter.train(data, { maxSteps: 8, perDeviceTrainBatchSize: 1, maxSeqLength: 96 })
  const steps = run[Symbol.asyncIterator]()
  await steps.next()
  const saving = saver()
  do {
    const path = join(root, `step-${after.length}`)
    await adapter.save(path)
    after.push(path)
  } while (!(await steps.next()).done)
  training = false
  await saving
  const whole = await load()
  const logitsOf = async (path: string) => {
    const copy = await whole.loadAdapter(path)
    const logits = await whole.logits(tokens, { adapters: [copy] })
    await copy.detach()
    return Buffer.from(logits.buffer).toString('base64')
  }
  const known = new Set<string>()
  for (const path of after) known.add(await logitsOf(path))
  expect(known.size).toBe(8)
  expect(during.length).toBeGreaterThan(8)
  for (const path of during) expect(known).toContain(await logitsOf(path))
})
