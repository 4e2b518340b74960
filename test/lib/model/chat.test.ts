import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { ChatMessage } from '../../../lib/index.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import type { Chat, ChatAnswer, ChatOptions } from '../../../lib/model/chat.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { lora } from '../../../lib/strategies/lora.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile } from '../scratch.js'

/** Bytes, as the tiny model's tokenizer counts, of which it takes 128 unless told otherwise. */
const turns: ChatMessage[] = [
  { role: 'user', content: 'Sky?' },
  { role: 'assistant', content: 'Blue.' },
  { role: 'user', content: 'Sea?' },
  { role: 'assistant', content: 'Green.' },
]

let folder: string
let model: Model
let adapter: Adapter
beforeAll(async () => {
  folder = tinyModel()
  const config = join(folder, 'config.json')
  const change = { max_position_embeddings: 4096 }
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...change }))
  model = await loadModel(folder, { precision: 'fp32' })
  adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }), { name: 'colors' })
  const data = scratchFile('chat.jsonl', `${JSON.stringify({ messages: turns })}\n`.repeat(8))
  const options = {
    maxSteps: 60,
    learningRate: 0.005,
    lrSchedulerType: 'constant' as const,
    maxSeqLength: 256,
  }
  for await (const _ of adapter.train(data, options));
})
afterAll(() => model.dispose())

const open: Chat[] = []
afterEach(async () => {
  for (const chat of open.splice(0)) await chat.dispose()
  model.use('colors')
})

async function start(options: ChatOptions = {}): Promise<Chat> {
  const chat = await model.chat(options)
  open.push(chat)
  return chat
}

async function say(chat: Chat, ...[text, options]: Parameters<Chat['send']>): Promise<ChatAnswer> {
  const parts = chat.send(text, options)
  for (;;) {
    const { done, value } = await parts.next()
    if (done) return value
  }
}

test('an answer knows the turns before, and only what is new goes through the model', async () => {
  const chat = await start()
  const first = await say(chat, 'Sky?')
  expect(first).toMatchObject({ text: 'Blue.', finishReason: 'stop', reusedTokens: 0, droppedMessages: 0 })
  const second = await say(chat, 'Sea?')
  expect(second).toMatchObject({ text: 'Green.', finishReason: 'stop' })
  // All but the last answer's end and the new question.
  expect(second.reusedTokens).toBe(first.promptTokens + 'Blue.'.length)
  expect(chat.messages).toEqual(turns)
  const whole = await model.generate(turns.slice(0, 3))
  expect(whole.tokenIds).toEqual(second.tokenIds)
})

test('parts add up to the answer, whose options can be changed', async () => {
  const chat = await start({ maxNewTokens: 3 })
  const parts: string[] = []
  for await (const part of chat.send('Sky?')) parts.push(part)
  expect(parts).toEqual(['B', 'l', 'u'])
  expect(await say(chat, 'Sky?', { stop: ['u'], maxNewTokens: 9 })).toMatchObject({ finishReason: 'stop' })
  await expect(model.chat({ maxNewToken: 3 } as never)).rejects.toThrow(
    'chat(): unknown key maxNewToken; did you mean maxNewTokens?',
  )
  await expect(say(chat, 'Sky?', { temperature: -1 })).rejects.toThrow('send(): temperature is -1')
  expect(chat.messages).toHaveLength(4)
})

sweepTest(
  'adapters are those that act when an answer begins, and what others computed is not used again',
  async () => {
    const chat = await start({ maxNewTokens: 6 })
    await say(chat, 'Sky?')
    model.use()
    const bare = await say(chat, 'Sea?')
    expect(bare.reusedTokens).toBe(0)
    expect(bare.text).not.toBe('Green.')
    const copy = await start({ messages: turns.slice(0, 2), maxNewTokens: 6 })
    expect((await say(copy, 'Sea?')).tokenIds).toEqual(bare.tokenIds)
    model.use({ adapter, weight: 0.5 })
    expect((await say(copy, 'Sea?')).reusedTokens).toBe(0)
    expect((await say(copy, 'Sea?')).reusedTokens).toBeGreaterThan(0)
    const data = scratchFile('more.jsonl', `${JSON.stringify({ messages: turns })}\n`.repeat(2))
    const other = await model.attach(lora({ r: 2 }))
    model.use(other)
    await say(copy, 'Sea?')
    for await (const _ of other.train(data, { maxSteps: 1, maxSeqLength: 256 }));
    expect((await say(copy, 'Sea?')).reusedTokens).toBe(0)
    await other.detach()
  },
)

test('the system text comes first and can be changed, and reset forgets the turns but not it', async () => {
  const chat = await start({ system: 'Be brief.', maxNewTokens: 2 })
  const { promptTokens } = await say(chat, 'Sky?')
  chat.reset()
  expect(chat.messages).toEqual([])
  expect((await say(chat, 'Sky?')).promptTokens).toBe(promptTokens)
  chat.reset()
  chat.system = null
  const without = (await say(chat, 'Sky?')).promptTokens
  expect(promptTokens - without).toBe('Be brief.'.length + 'system\n'.length + 3)
})

sweepTest('the oldest turns are dropped when the context is full, down to half of it', async () => {
  const chat = await start({ contextTokens: 120, maxNewTokens: 8 })
  const answers: ChatAnswer[] = []
  for (let i = 0; i < 6; i++) answers.push(await say(chat, 'Sky?'))
  const dropped = answers.map(({ droppedMessages }) => droppedMessages)
  expect(dropped[1]).toBe(0)
  expect(new Set(dropped).size).toBeGreaterThan(1)
  expect(new Set(dropped).size).toBeLessThan(6)
  for (const count of dropped) expect(count % 2).toBe(0)
  for (const [i, { promptTokens, reusedTokens }] of answers.entries()) {
    expect(promptTokens + 8).toBeLessThanOrEqual(120)
    if (dropped[i] !== dropped[i - 1]) expect(promptTokens).toBeLessThanOrEqual(60)
    else expect(reusedTokens).toBeGreaterThan(0)
  }
  expect(chat.messages).toHaveLength(12)
  await expect(say(chat, 'x'.repeat(200))).rejects.toThrow(
    /^send\(\): the text has 2\d\d tokens with its template, but the context has 120; send a shorter text/,
  )
  expect(chat.messages).toHaveLength(12)
  expect((await say(chat, 'Sky?')).droppedMessages).toBeLessThan(12)
  await expect(model.chat({ contextTokens: 5000 })).rejects.toThrow(
    'the model supports at most 4096; lower it',
  )
})

test('an answer that is broken off stays as far as it came, and one without a word leaves no question', async () => {
  const chat = await start()
  const controller = new AbortController()
  const stopped = (async () => {
    for await (const _ of chat.send('Sky?', { signal: controller.signal }))
      controller.abort(new Error('enough'))
  })()
  await expect(stopped).rejects.toThrow('enough')
  expect(chat.messages).toEqual([turns[0], { role: 'assistant', content: 'B' }])
  for await (const _ of chat.send('Sky?')) break
  expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: 'B' })
  await expect(say(chat, 'Sky?', { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no')
  expect(chat.messages).toHaveLength(4)
  expect((await say(chat, 'Sea?')).reusedTokens).toBeGreaterThan(0)
})

test('there is one answer at a time, and none after disposal', async () => {
  const chat = await start()
  const answer = chat.send('Sky?')
  await answer.next()
  await expect(chat.send('Sea?').next()).rejects.toThrow('this chat is still answering; wait')
  expect(() => chat.reset()).toThrow('stop the answer before reset()')
  await chat.dispose()
  const gone = { code: 'DISPOSED', message: expect.stringContaining(`The chat with ${folder} was disposed`) }
  await expect(answer.next()).rejects.toThrow(expect.objectContaining(gone))
  await expect(chat.send('Sea?').next()).rejects.toThrow(expect.objectContaining(gone))
})

test('a model without a chat template goes on from plain text', async () => {
  const bare = tinyModel()
  rmSync(join(bare, 'tokenizer_config.json'))
  const other = await loadModel(bare, { precision: 'fp32' })
  try {
    const chat = await other.chat({ messages: [{ role: 'user', content: 'One' }], maxNewTokens: 4 })
    expect(chat.plain).toBe(true)
    const answer = await say(chat, 'Two', { keepSpecialTokens: true })
    const { tokenIds } = await other.generate('One\nTwo', { maxNewTokens: 4, keepSpecialTokens: true })
    expect(answer.tokenIds).toEqual(tokenIds)
  } finally {
    await other.dispose()
  }
})

test('a chat that is disposed while its cache is made leaves none', async () => {
  const before = addon().allocated().kv_cache
  const chat = await model.chat()
  const { createSession } = addon()
  const disposal = new Promise<void>((resolve) => {
    vi.spyOn(addon(), 'createSession').mockImplementationOnce((...given) => {
      resolve(chat.dispose())
      return createSession(...given)
    })
  })
  await expect(say(chat, 'Sky?')).rejects.toMatchObject({ code: 'DISPOSED' })
  await disposal
  expect(addon().allocated().kv_cache).toBe(before)
})

test('the cache goes with the chat or the model', async () => {
  const other = await loadModel(folder, { precision: 'fp32' })
  const before = addon().allocated().kv_cache
  const chat = await other.chat()
  await say(chat, 'Sky?', { maxNewTokens: 2 })
  expect(addon().allocated().kv_cache).toBeGreaterThan(before)
  await other.dispose()
  expect(addon().allocated().kv_cache).toBe(before)
  await expect(chat.send('Sea?').next()).rejects.toThrow(expect.objectContaining({ code: 'DISPOSED' }))
})
