/** Calls of the AI SDK that share the cache of a model, and what makes it stale. */
import { generateText, type ModelMessage } from 'ai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { languageModel } from '../../../lib/ai/index.js'
import { loadModel, lora } from '../../../lib/index.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { BASE, rowsOf } from '../serve/service.js'

const SYSTEM = `You are a helper who ${'counts numbers, and '.repeat(12)}is brief.`
const PROMPT = 'Say the number 7'

let model: Model
let adapter: Adapter
const rows = (word: string) =>
  rowsOf(8)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line.replaceAll('Number', word)))
const train = (adapter: Adapter, word: string, maxSteps = 4) =>
  adapter.train(rows(word), { maxSteps, learningRate: 0.02, maxSeqLength: 64 })
beforeAll(async () => {
  model = await loadModel(BASE)
  adapter = await model.attach(lora({ r: 4 }))
  await train(adapter, 'one')
}, 60_000)
afterAll(() => model.dispose())

const ask = (adapters?: Parameters<Model['use']>, more: object = {}) =>
  generateText({
    ...{ model: languageModel(model, adapters && { adapters }), prompt: PROMPT },
    ...{ temperature: 0, maxOutputTokens: 12, ...more },
  })
const generated = async (adapters?: Parameters<Model['use']>) =>
  (
    await model.generate([{ role: 'user', content: PROMPT }], {
      maxNewTokens: 12,
      ...(adapters && { adapters }),
    })
  ).text

test('calls get the answers together that each gets alone', async () => {
  const second = await model.attach(lora({ r: 8, targetModules: 'all-linear' }), { name: 'second' })
  await train(second, 'two')
  const requests = Array.from({ length: 12 }, (_, seed) => () => {
    const adapters = [[], ['lora'], ['second']][seed % 3] as string[]
    return ask(adapters, { seed, temperature: seed % 2, maxOutputTokens: 4 + seed, system: SYSTEM })
  })
  const alone: string[] = []
  for (const request of requests) alone.push((await request()).text)
  const together = await Promise.all(requests.map(async (request) => (await request()).text))
  expect(together).toEqual(alone)
  expect(new Set(alone).size).toBeGreaterThan(6)
  await second.detach()
  expect((await ask(['lora'])).text).toBe(await generated(['lora']))
})

test('a call continues from the prompt of the one before', async () => {
  const messages: ModelMessage[] = [{ role: 'user', content: PROMPT }]
  const turn = () => ask(undefined, { prompt: undefined, messages, system: SYSTEM })
  const first = await turn()
  messages.push({ role: 'assistant', content: first.text }, { role: 'user', content: 'And 8?' })
  const { cacheReadTokens } = (await turn()).usage.inputTokenDetails
  expect(cacheReadTokens).toBeGreaterThan(64)
  expect(cacheReadTokens).toBeLessThanOrEqual(first.usage.totalTokens as number)
})

test('weights of adapters are used', async () => {
  const texts: string[] = []
  for (const weight of [1, 0.5, -1, 0]) {
    const { text } = await ask([{ adapter: 'lora', weight }])
    expect(text).toBe(await generated([{ adapter: 'lora', weight }]))
    texts.push(text)
  }
  expect(new Set(texts).size).toBeGreaterThan(2)
})

test('an adapter that has taken a step answers with its new values', async () => {
  const prompted = () => ask(undefined, { system: SYSTEM })
  const before = await ask()
  await prompted()
  expect((await prompted()).usage.cachedInputTokens).toBeGreaterThan(64)
  for (const window of (await model.encodeRows(rows('three'), { maxSeqLength: 64 })).windows()) {
    await adapter.forwardBackward(window, 'cross_entropy')
    await adapter.optimStep({ learningRate: 0.05 })
  }
  expect((await prompted()).usage.cachedInputTokens).toBe(0)
  const after = await ask()
  expect(after.text).not.toBe(before.text)
  expect(after.text).toBe(await generated())
})

test('the cache is freed when training begins, and with the model', async () => {
  const held = () => addon().allocated('host').kv_cache ?? 0
  await ask()
  expect(held()).toBeGreaterThan(0)
  const run = train(adapter, 'four', 1)
  for await (const _ of run) expect(held()).toBe(0)
  await ask()
  expect(held()).toBeGreaterThan(0)
  await model.dispose()
  expect(held()).toBe(0)
})
