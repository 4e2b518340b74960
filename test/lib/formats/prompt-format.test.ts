import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { FileFormatError } from '../../../lib/core/errors.js'
import type { ChatMessage } from '../../../lib/index.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { full } from '../../../lib/strategies/full.js'
import { lora } from '../../../lib/strategies/lora.js'
import { dataset } from '../../../lib/train/sources/data-sources.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

/** Bytes, as the tiny model's tokenizer counts. */
const SHAPE = { maxSeqLength: 128 }
const QUICK = { ...SHAPE, maxSteps: 30, learningRate: 0.005, lrSchedulerType: 'constant' as const }
const pairs = [
  { prompt: 'Sky?', completion: 'Blue.' },
  { prompt: 'Sea?', completion: 'Green.' },
]
const asChats = pairs.map(({ prompt, completion }) => ({
  messages: [
    { role: 'user', content: prompt },
    { role: 'assistant', content: completion },
  ],
}))
const withSystem = asChats.map(({ messages }) => ({
  messages: [{ role: 'system', content: 'Name it.' }, ...messages],
}))

let folder: string
beforeAll(() => {
  folder = tinyModel()
})

let model: Model
const warnings: string[] = []
const open = (path = folder) =>
  loadModel(path, { precision: 'fp32', onWarning: (message) => warnings.push(message) })
beforeEach(async () => {
  warnings.length = 0
  model = await open()
})
afterEach(() => model.dispose())

/** Trains a new adapter on the rows and saves it. */
async function trained(rows: readonly object[], options: object = {}): Promise<string> {
  const adapter = await model.attach(lora({ r: 4 }))
  for await (const _ of adapter.train(rows.slice(), { ...QUICK, ...options }));
  const path = join(scratchFolder(), 'adapter')
  await adapter.save(path)
  await adapter.detach()
  await model.loadAdapter(path)
  return path
}

const loss = async (rows: readonly object[], options: object = {}) =>
  (await model.evaluate(rows.slice(), { ...SHAPE, ...options })).loss

test('rows of prompt and completion are used as they were trained: as chats', async () => {
  const path = await trained(pairs)
  expect(await loss(pairs)).toBe(await loss(asChats))
  const answer = await model.generate('Sky?')
  expect(answer.tokenIds).toEqual((await model.generate([{ role: 'user', content: 'Sky?' }])).tokenIds)
  expect(answer).toMatchObject({ text: 'Blue.', finishReason: 'stop' })
  expect((await model.exactMatch(pairs, SHAPE)).exactMatch).toBe(1)
  expect(warnings).toEqual([])
  expect(JSON.parse(readFileSync(join(path, 'lowrank.json'), 'utf8')).prompt_format).toMatchObject({
    form: 'chat',
    template_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    stop: ['<|im_end|>'],
  })
  // The opposite is said once, however often it is asked.
  await model.generate('Sky?', { chatTemplate: false, maxNewTokens: 1 })
  await model.generate('Sea?', { chatTemplate: false, maxNewTokens: 1 })
  expect(warnings).toEqual([expect.stringMatching(/was trained on chats.*leave out --raw/)])
})

sweepTest('rows of prompt and completion are used as they were trained: as raw text on request', async () => {
  await trained(pairs, { chatTemplate: false })
  expect(model.promptFormat).toMatchObject({ form: 'raw', stop: [expect.any(String)] })
  expect(await loss(pairs)).toBe(await loss(pairs, { chatTemplate: false }))
  expect(await loss(pairs)).toBeLessThan(await loss(pairs, { chatTemplate: true }))
  expect(warnings).toEqual([expect.stringMatching(/was trained on raw text.*--raw/)])
  expect((await model.generate('Sky?')).text).toBe('Blue.')
  const chat = await model.chat()
  expect(chat.plain).toBe(true)
  await chat.dispose()
  const [likely = 0, unlikely = 0] = await model.logLikelihoods([
    { prompt: 'Sky?', completion: 'Blue.' },
    { prompt: 'Sky?', completion: 'Brown' },
  ])
  expect(likely).toBeGreaterThan(unlikely)
})

sweepTest('the system prompt that all rows share goes in front, unless another is given', async () => {
  await trained(withSystem)
  expect(model.promptFormat?.system).toBe('Name it.')
  expect(await loss(pairs)).toBe(await loss(withSystem))
  expect((await model.generate('Sea?')).text).toBe('Green.')
  const chat = await model.chat()
  expect(chat.system).toBe('Name it.')
  const parts: string[] = []
  for await (const part of chat.send('Sky?')) parts.push(part)
  expect(parts.join('')).toBe('Blue.')
  await chat.dispose()
  const without = await model.chat({ system: null })
  expect(without.system).toBeNull()
  await without.dispose()
  const bare = await model.generate('Sea?', { system: null, maxNewTokens: 8 })
  const other: ChatMessage[] = [
    { role: 'system', content: 'Other.' },
    { role: 'user', content: 'Sea?' },
  ]
  expect((await model.generate('Sea?', { system: 'Other.', maxNewTokens: 8 })).tokenIds).toEqual(
    (await model.generate(other, { maxNewTokens: 8 })).tokenIds,
  )
  expect(bare.text).toBeDefined()
})

test('an adapter without the record is used as before', async () => {
  const path = await trained(pairs, { chatTemplate: false })
  const file = join(path, 'lowrank.json')
  const { prompt_format: _, ...rest } = JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, JSON.stringify(rest))
  for (const adapter of model.adapters) await adapter.detach()
  await model.loadAdapter(path)
  expect(model.promptFormat).toBeNull()
  expect(await loss(pairs)).toBe(await loss(pairs, { chatTemplate: false }))
  expect((await model.chat()).plain).toBe(false)
  expect(warnings).toEqual([])
  writeFileSync(file, JSON.stringify({ ...rest, prompt_format: { form: 'verse' } }))
  await expect(model.loadAdapter(path)).rejects.toThrow(FileFormatError)
  await expect(model.loadAdapter(path)).rejects.toThrow(/prompt_format.form is "?\\?"verse/)
})

test('checkpoints and trained models have the record too', async () => {
  const adapter = await model.attach(full())
  const out = scratchFolder()
  const run = adapter.train(withSystem, { ...QUICK, maxSteps: 2, saveSteps: 1, outputDir: out })
  for await (const _ of run);
  for (const path of [out, join(out, 'checkpoint-1')]) {
    const again = await open(path)
    expect(again.promptFormat).toMatchObject({ form: 'chat', system: 'Name it.' })
    await again.dispose()
  }
})

test('a stream is recorded as far as it was read', async () => {
  const path = scratchFile('rows.jsonl', withSystem.map((row) => `${JSON.stringify(row)}\n`).join(''))
  const adapter = await model.attach(lora({ r: 4 }))
  for await (const _ of adapter.train(dataset(path, { streaming: true }), { ...QUICK, maxSteps: 2 }));
  expect(adapter.state.format).toMatchObject({ form: 'chat', system: 'Name it.' })
})

sweepTest('what is written of a model has the record, and words for other programs', async () => {
  await trained(withSystem)
  const folder = scratchFolder()
  const merged = await model.save(join(folder, 'merged'))
  expect(merged.files).toContain('lowrank.json')
  expect(merged.remarks).toEqual([
    expect.stringMatching(/the system prompt "Name it\."; .*other programs need it in the prompt/),
  ])
  const gguf = await model.export(join(folder, 'model.gguf'), { format: 'gguf' })
  expect(gguf.remarks).toContain(merged.remarks[0])
  for (const path of [join(folder, 'merged'), join(folder, 'model.gguf')]) {
    const again = await open(path)
    expect(again.promptFormat).toEqual(model.promptFormat)
    expect((await again.generate('Sea?')).text).toBe('Green.')
    // Written again it is there once.
    const copy = await again.export(join(scratchFolder(), 'copy.gguf'), { format: 'gguf' })
    expect(copy.files).toEqual(['copy.gguf'])
    await again.dispose()
  }
  await model.export(join(folder, 'ollama'), { format: 'ollama' })
  const modelfile = readFileSync(join(folder, 'ollama', 'Modelfile'), 'utf8')
  expect(modelfile).toContain('SYSTEM """Name it."""\n')
  expect(modelfile).toContain('PARAMETER stop "<|im_end|>"\n')
  await model.export(join(folder, 'adapter.gguf'), { format: 'gguf-lora' })
  const format = model.promptFormat
  for (const adapter of model.adapters) await adapter.detach()
  expect(model.promptFormat).toBeNull()
  await model.loadAdapter(join(folder, 'adapter.gguf'))
  expect(model.promptFormat).toEqual(format)
})

test('a model written over another does not keep its record', async () => {
  const path = join(scratchFolder(), 'merged')
  await trained(withSystem)
  await model.save(path)
  for (const adapter of model.adapters) await adapter.detach()
  await model.save(path, { force: true })
  const again = await open(path)
  expect(again.promptFormat).toBeNull()
  await again.dispose()
})

test('raw text stays raw in a Modelfile', async () => {
  await trained(pairs, { chatTemplate: false })
  const path = join(scratchFolder(), 'ollama')
  const { remarks } = await model.export(path, { format: 'ollama' })
  expect(readFileSync(join(path, 'Modelfile'), 'utf8')).toContain('TEMPLATE """{{ .Prompt }}"""\n')
  expect(remarks).toEqual([])
})
