import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { RowEncoder } from '../../../lib/data/encode.js'
import { WorkerTokenizer } from '../../../lib/data/worker-tokenizer.js'
import { Lifetime } from '../../../lib/native/handles.js'
import { readTokenizerSource } from '../../../lib/tokenizer/read-source.js'
import { loadTokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

let lifetime: Lifetime
const opened: WorkerTokenizer[] = []
async function open(path: string): Promise<WorkerTokenizer> {
  lifetime = new Lifetime('The model', 'load it again')
  const tokenizer = await WorkerTokenizer.open({ kind: 'folder', path }, lifetime)
  opened.push(tokenizer)
  return tokenizer
}
afterEach(() => Promise.all(opened.splice(0).map((tokenizer) => tokenizer.close())))

test('answers what the tokenizer does, whatever is asked at the same time', async () => {
  const folder = tinyModel()
  const here = loadTokenizer(await readTokenizerSource({ kind: 'folder', path: folder }))
  const there = await open(folder)
  const { tokenizerJson: _, ...source } = here.source
  expect(there.about).toEqual({
    vocabSize: here.vocabSize,
    eosIds: here.eosIds,
    specialTexts: ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
    source: { ...source, tokenizerJson: null },
  })
  const options = { addSpecialTokens: true, skipSpecialTokens: true }
  const texts = ['Hello', 'What is six times seven?', 'Grüße, 世界']
  const encoded = texts.map((text) => here.encode(text, options))
  expect(await Promise.all(texts.map((text) => there.encode(text, options)))).toEqual(
    encoded.map((ids) => Int32Array.from(ids)),
  )
  const decoded = encoded.map(async (ids) => {
    const stream = there.decodeStream(options)
    const parts = await Promise.all(ids.map((id) => stream.push(id)))
    return [...parts, await stream.end()].join('')
  })
  expect(await Promise.all(decoded)).toEqual(encoded.map((ids) => here.decode(ids, options)))
})

test('encodes a row as a dataset would, or says why not', async () => {
  const folder = tinyModel()
  const options = { maxSeqLength: 64, unended: 'allow' as const }
  const row = {
    format: 'prompt_completion' as const,
    prompt: 'Hi',
    path: 'data',
    line: 3,
    unit: 'row' as const,
  }
  const encoder = new RowEncoder(await readTokenizerSource({ kind: 'folder', path: folder }), options)
  const there = await open(folder)
  const good = { ...row, completion: ' there' }
  const encoded = encoder.encode(good)
  expect(await there.encodeRow(good, options)).toEqual({ encoded, format: encoder.format })
  const empty = there.encodeRow({ ...row, completion: '' }, options)
  await expect(empty).rejects.toMatchObject({ code: 'DATA', message: expect.stringContaining('row 3') })
})

test('goes on after a text that it cannot take', async () => {
  const folder = scratchFolder()
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [], unk_token: '<unk>' }
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify({ model, added_tokens: [] }))
  const tokenizer = await open(folder)
  const options = { addSpecialTokens: false }
  await expect(tokenizer.encode('b', options)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
  expect(await tokenizer.encode('a', options)).toEqual(Int32Array.of(0))
})

test('is refused as it is here, and of no use without its model', async () => {
  await expect(open(scratchFolder())).rejects.toMatchObject({ code: 'FILE_FORMAT' })
  const tokenizer = await open(tinyModel())
  await lifetime.dispose(() => tokenizer.close())
  await expect(tokenizer.encode('a', { addSpecialTokens: true })).rejects.toMatchObject({ code: 'DISPOSED' })
})

test('whoever waits is told when the worker ends', async () => {
  const tokenizer = await open(tinyModel())
  const asked = tokenizer.encode('a', { addSpecialTokens: true })
  await Promise.all([expect(asked).rejects.toMatchObject({ code: 'INTERNAL' }), tokenizer.close()])
})

/** A model whose tokenizer.json is changed. */
function modelWith(change: object): string {
  const folder = tinyModel()
  const path = join(folder, 'tokenizer.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }))
  return folder
}

const growing = { type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(30) }

test.each([
  [
    'a regular expression that backtracks for ages',
    { pre_tokenizer: { type: 'Split', pattern: { Regex: '(a+a+)+b' }, behavior: 'Isolated', invert: false } },
    /tokenizer\.json took longer than 4001 ms for 50 characters and was stopped/,
  ],
  [
    'normalizers that make a text grow without end',
    { normalizer: { type: 'Sequence', normalizers: Array.from({ length: 12 }, () => growing) } },
    /(more than 1024 MiB of memory and was stopped|took longer than 4001 ms|one of its steps fails on 50 characters, or produces too many)/,
  ],
])('%s are stopped', async (_, change, message) => {
  const tokenizer = await open(modelWith(change))
  await expect(tokenizer.encode('a'.repeat(50), { addSpecialTokens: false })).rejects.toThrow(message)
  await tokenizer.close()
})

sweepTest('the worker ends with the process that asked, however that ends', async () => {
  needs('/proc')
  const script = `
    import { WorkerTokenizer } from './dist/esm/data/worker-tokenizer.js'
    await WorkerTokenizer.open({ kind: 'folder', path: ${JSON.stringify(tinyModel())} })
    console.log('open')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  const worker = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
  expect(worker).toMatch(/^\d+$/)
  // Ctrl-C reaches the worker too, but only the process that listens must act on it.
  process.kill(Number(worker), 'SIGINT')
  child.kill('SIGKILL')
  await vi.waitUntil(() => !existsSync(`/proc/${worker}`), { timeout: 30_000, interval: 50 })
})
