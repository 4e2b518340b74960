import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ConfigError, DataError, FileFormatError, UnsupportedError } from '../../../lib/core/errors.js'
import { openDataset } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { encodeDataset } from '../../../lib/data/encode-dataset.js'
import type { TokenizerSource } from '../../../lib/tokenizer/source.js'
import { sweepTest } from '../../sweep.js'
import { turnsDuring } from '../turns.js'

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { tokenizer: tokenizerJson, config: tokenizerConfig } = parity('tokenizer_small.json').tokenizers.smollm
const { templates } = parity('tokenizer_chat.json')
const source: TokenizerSource = { tokenizerJson, tokenizerConfig, chatTemplate: templates.chatml.text }

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lowrank-encode-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function file(name: string, ...rows: unknown[]): string {
  const path = join(folder, name)
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  return path
}

const chat = (question: string, answer: string) => ({
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ],
})

describe('encodeDataset', () => {
  sweepTest('gives the rows that the encoder gives, with statistics', async () => {
    const chats = Array.from({ length: 300 }, (_, i) =>
      chat(`Question ${i}?`, `Answer ${'yes '.repeat(i % 9)}`),
    )
    const paths = [
      file('a.jsonl', ...chats.slice(0, 100)),
      file('b.jsonl', ...chats.slice(100), chat('x', '')),
    ]
    const options = { maxSeqLength: 50, emptyRows: 'drop' as const }
    const data = await encodeDataset(paths, source, options)

    const encoder = new RowEncoder(source, options)
    let row = 0
    let truncated = 0
    let supervised = 0
    for await (const read of openDataset(paths)) {
      const expected = encoder.encode(read)
      if (typeof expected === 'string') continue
      expect(data.ids(row)).toEqual(expected.inputIds)
      expect(data.labels(row)).toEqual(expected.labels)
      expect(data.place(row)).toEqual({ path: read.path, line: read.line })
      if (expected.truncated) truncated++
      supervised += expected.supervised
      row++
    }
    expect(data.length).toBe(row)
    const tokens = Array.from({ length: row }, (_, i) => data.rowLength(i)).reduce((a, b) => a + b)
    expect(truncated).toBeGreaterThan(0)
    expect(data.stats).toMatchObject({ rows: 301, truncated, tokens, supervisedTokens: supervised })
    expect(data.stats.dropped).toBe(301 - row)
    expect(data.usesClock).toBe(false)
  })

  const raw = { prompting: { prompts: false, instructions: false } }

  it('counts what it leaves out', async () => {
    const long = { prompt: 'word '.repeat(50), completion: 'x' }
    const path = file('drop.jsonl', { prompt: 'a', completion: ' b' }, { prompt: 'a', completion: '' }, long)
    const data = await encodeDataset(path, source, { maxSeqLength: 20, emptyRows: 'drop', ...raw })
    expect(data.stats).toMatchObject({ rows: 3, dropped: 2, droppedByTruncation: 1 })
    await expect(encodeDataset(path, source, { maxSeqLength: 20, ...raw })).rejects.toThrow(
      /drop.jsonl, line 2: there is nothing to train on/,
    )
  })

  it('refuses data that never teaches where an answer ends, unless that is allowed', async () => {
    const long = { prompt: 'a', completion: ' word'.repeat(50) }
    const path = file('unended.jsonl', long, long)
    await expect(encodeDataset(path, source, { maxSeqLength: 20, ...raw })).rejects.toThrow(
      `none of the 2 examples of ${path} teaches the model to stop: max_seq_length 20 cuts all of them before the end of an answer; raise it, or train without an end with unended: allow`,
    )
    expect(await encodeDataset(path, source, { maxSeqLength: 20, unended: 'allow', ...raw })).toHaveLength(2)
    const mixed = file('mixed.jsonl', long, { prompt: 'a', completion: ' b' })
    expect((await encodeDataset(mixed, source, { maxSeqLength: 20, ...raw })).stats.ended).toBe(1)
    const documents = file('documents.jsonl', { text: 'word '.repeat(50) })
    expect(await encodeDataset(documents, source, { maxSeqLength: 20 })).toHaveLength(1)
  })

  sweepTest('keeps the event loop free', async () => {
    const path = file(
      'many.jsonl',
      ...Array.from({ length: 4000 }, (_, i) => ({ text: `Row ${i}: ${'word '.repeat(60)}` })),
    )
    let seen = 0
    const encoding = encodeDataset(
      path,
      source,
      { maxSeqLength: 512 },
      { onProgress: ({ rows }) => (seen = rows) },
    )
    expect(await turnsDuring(encoding)).toBeGreaterThan(1000)
    expect(await encoding).toHaveLength(4000)
    expect(seen).toBe(4000)
  })

  it('gives the date to templates, the same for all rows', async () => {
    const dated = { ...source, chatTemplate: `{{ strftime_now('%Y-%m-%d') }}${templates.chatml.text}` }
    const path = file('dated.jsonl', chat('a', 'b'))
    const data = await encodeDataset(path, dated, { maxSeqLength: 99, now: new Date(2020, 4, 6) })
    const { tokenizer } = new RowEncoder(source, { maxSeqLength: 99 })
    expect(tokenizer.decode(data.ids(0), { skipSpecialTokens: false })).toMatch(/^2020-05-06<\|im_start\|>/)
    expect(data.usesClock).toBe(true)
    expect(data.now).toBe(new Date(2020, 4, 6).getTime())
  })

  it.each([
    [
      'a malformed line',
      '{"text": "a"}\n{"text"',
      {},
      DataError,
      /bad.jsonl, line 2: the line is not valid JSON/,
    ],
    ['no rows', '\n', {}, DataError, /bad.jsonl holds no rows/],
    [
      'nothing to learn',
      '{"prompt":"a","completion":""}',
      { emptyRows: 'drop' },
      DataError,
      /none of the 1 rows of .* has a token to train on/,
    ],
    ['an option out of range', '{"text":"a b"}', { maxSeqLength: 0 }, ConfigError, /max_seq_length must be/],
  ] as const)('is rejected for %s', async (_, content, options, type, message) => {
    const path = join(folder, 'bad.jsonl')
    writeFileSync(path, content)
    const attempt = () => encodeDataset(path, source, { maxSeqLength: 64, ...options })
    await expect(attempt()).rejects.toThrow(type)
    await expect(attempt()).rejects.toThrow(message)
  })

  it('is rejected for a missing file, a tokenizer that cannot be used and a template that takes too long', async () => {
    const path = file('one.jsonl', chat('a', 'b'))
    const options = { maxSeqLength: 64 }
    await expect(encodeDataset(join(folder, 'missing.jsonl'), source, options)).rejects.toThrow(
      FileFormatError,
    )
    const unigram = { tokenizerJson: { model: { type: 'Unigram' } } }
    await expect(encodeDataset(path, unigram, options)).rejects.toThrow(UnsupportedError)
    const loops = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}'
    const templateLimits = { milliseconds: 100, characters: 1000 }
    const slow = encodeDataset(path, { ...source, chatTemplate: loops }, { ...options, templateLimits })
    await expect(slow).rejects.toThrow(/one.jsonl, line 1: the chat template ran longer than 100 ms/)
  })

  sweepTest('gives every chat the whole time limit, however long all take together', async () => {
    const path = file('slow.jsonl', ...Array.from({ length: 20 }, (_, i) => chat(`${i}`, 'b')))
    const waiting = '{% for a in range(3000) %}{% set b = a %}{% endfor %}'
    const slow = { ...source, chatTemplate: waiting + templates.chatml.text }
    const one = performance.now()
    const encoder = new RowEncoder(slow, { maxSeqLength: 99 })
    for await (const row of openDataset(file('first.jsonl', chat('0', 'b')))) encoder.encode(row)
    const milliseconds = Math.ceil(8 * (performance.now() - one))
    const templateLimits = { milliseconds, characters: 10_000 }
    const data = await encodeDataset(path, slow, { maxSeqLength: 99, templateLimits })
    expect(data.length).toBe(20)
  })

  it('stops when it is told to', async () => {
    const path = file(
      'stop.jsonl',
      ...Array.from({ length: 10_000 }, (_, i) => ({ text: `Row ${i}: ${'word '.repeat(60)}` })),
    )
    const controller = new AbortController()
    const reason = new Error('enough')
    const work = encodeDataset(
      path,
      source,
      { maxSeqLength: 512 },
      {
        signal: controller.signal,
        onProgress: () => controller.abort(reason),
      },
    )
    await expect(work).rejects.toBe(reason)
    await expect(
      encodeDataset(path, source, { maxSeqLength: 512 }, { signal: controller.signal }),
    ).rejects.toBe(reason)
  })
})

it('finds its worker from both module formats', () => {
  const path = file('formats.jsonl', chat('a', 'b'))
  const data = join(folder, 'source.json')
  writeFileSync(data, JSON.stringify(source))
  const use = `
    const source = JSON.parse(require('node:fs').readFileSync(${JSON.stringify(data)}, 'utf8'))
    load.then(({ encodeDataset }) => encodeDataset(${JSON.stringify(path)}, source, { maxSeqLength: 64 }))
      .then((encoded) => console.log(encoded.length))`
  for (const load of [
    `import('./dist/esm/data/encode-dataset.js')`,
    `Promise.resolve(require('./dist/cjs/data/encode-dataset.js'))`,
  ]) {
    const script = `const load = ${load};${use}`
    expect(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim()).toBe('1')
  }
})

it('says so where the permissions of the process forbid another', () => {
  const permission = ['--permission', '--experimental-permission'].find((name) =>
    process.allowedNodeEnvironmentFlags.has(name),
  ) as string
  const script = `
    const { renderChat } = require('./dist/cjs/data/render-chat.js')
    renderChat({ tokenizerJson: null, chatTemplate: 'text' }, [{ role: 'user' }]).then(console.log, (error) => console.log(error.code, error.message))`
  const run = (...more: string[]) =>
    execFileSync(process.execPath, [permission, '--allow-fs-read=*', ...more, '-e', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  expect(run()).toMatch(/^UNSUPPORTED .* allow it with --allow-child-process\.\n$/)
  expect(run('--allow-child-process')).toBe('text\n')
})
