/** `reasoning_history: drop`, against what transformers renders from the models' own templates up to each answer. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { DatasetRow } from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import { encodeDataset } from '../../../lib/data/encode-dataset.js'
import { type EncodedRow, type EncodeRowOptions, IGNORE } from '../../../lib/data/encoded-row.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import { drawRows, setAside, splitRows } from '../../../lib/train/rows/held-out.js'
import { scratchFile } from '../scratch.js'
import { answer, decode, encoder as encoderOf, rowOf, sourceOf, user } from './chat-rows.js'

interface Case {
  name: string
  messages: DatasetMessage[]
  tools: unknown[] | null
  answers?: { at: number; prompt: string; ids: string }[]
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const { families } = parity('training_templates.json') as {
  families: Record<string, { own: string; cases: Case[] }>
}

const encoder = (chatTemplate: string, options: Partial<EncodeRowOptions> = {}) =>
  encoderOf(chatTemplate, { reasoningHistory: 'drop', ...options })

const learned = (by: RowEncoder, { inputIds, labels }: EncodedRow) =>
  decode(
    by,
    inputIds.filter((_, at) => labels[at] !== IGNORE),
  )

const CHAT = rowOf({
  messages: [
    user('2?'),
    answer('two', 'Count.'),
    user('3?'),
    answer('three'),
    user('4?'),
    answer('four', 'Again.'),
  ],
  tools: null,
})

describe.each(Object.entries(families))('chats of %s without earlier reasoning', (_, { own, cases }) => {
  it.each(cases.filter(({ answers }) => answers))(
    'have the ids of transformers up to each answer, which is learned after its prompt: $name',
    (one) => {
      const by = encoder(own)
      const examples = by.encodeAll(rowOf(one)) as EncodedRow[]
      expect(examples.map(({ inputIds, ended }) => ({ ids: inputIds.join(' '), ended }))).toEqual(
        one.answers?.map(({ ids }) => ({ ids, ended: true })),
      )
      for (const [index, { inputIds, labels }] of examples.entries()) {
        const start = labels.findIndex((label) => label !== IGNORE)
        expect(decode(by, inputIds.slice(0, start))).toBe(one.answers?.[index]?.prompt)
      }
      expect(examples.every(({ lostReasoning }) => lostReasoning === 0)).toBe(true)
    },
  )

  it('make an example of every answer that is learned', () => {
    const by = encoder(own)
    const texts = (row: DatasetRow, options: Partial<EncodeRowOptions> = {}) => {
      const other = encoder(own, options)
      return other.encodeAll(row).map((found) => (typeof found === 'string' ? found : learned(other, found)))
    }
    const [first, second, third] = texts(CHAT)
    expect(first).toContain('Count.')
    expect(second).toBe('three<|im_end|>')
    expect(third).toContain('Again.')
    expect(third).not.toContain('Count.')
    expect(texts(CHAT, { trainOn: 'last' })).toEqual([third])
    const unweighted = CHAT.messages.map((message, at) =>
      at === 1 ? { ...message, weight: 0 as const } : message,
    )
    expect(texts({ ...CHAT, messages: unweighted })).toEqual([second, third])
    const empty = CHAT.messages.with(3, answer(''))
    expect(() => by.encodeAll({ ...CHAT, messages: empty })).toThrow('assistant turn 2 of 3 is empty')
    expect(texts({ ...CHAT, messages: empty }, { emptyRows: 'drop' })).toEqual([first, third])
  })

  it('count as truncated, not as dropped, where later answers are cut off', () => {
    const lengths = (encoder(own).encodeAll(CHAT) as EncodedRow[]).map(({ inputIds }) => inputIds.length)
    const by = encoder(own, { maxSeqLength: lengths[0] as number })
    expect(by.encodeAll(CHAT)).toMatchObject([{ truncated: true, line: 7 }])
  })
})

it.each(['lfm2_5', 'lfm2_5_keyed', 'lfm2_5_preserving'])(
  'the template of %s gets reasoning in the form that it reads, and leaves it out of earlier turns',
  (key) => {
    const { families } = parity('adapted_chats.json') as {
      families: Record<string, { own: string; added_tokens: object[]; cases: Case[] }>
    }
    const { own, added_tokens, cases } = families[key] as (typeof families)[string]
    const source = sourceOf(own)
    const tokenizerJson = { ...source.tokenizerJson, added_tokens }
    const by = new RowEncoder({ ...source, tokenizerJson }, { maxSeqLength: 4096, reasoningHistory: 'drop' })
    const one = cases.find(({ name }) => name === 'reasoned turns') as Case
    const examples = by.encodeAll(rowOf(one)) as EncodedRow[]
    const prompt = key === 'lfm2_5_preserving' ? '' : '<think>'
    const answer = `${prompt}Look at the sky.\n\nIt is gray.</think>It's dry.<|im_end|>`
    expect(examples.map((example) => learned(by, example))).toEqual([answer, answer])
    const last = decode(by, (examples[1] as EncodedRow).inputIds)
    expect(last.split('Look at the sky.')).toHaveLength(2)
    expect(last).toContain("<|im_start|>assistant\nIt's dry.<|im_end|>")
  },
)

it('a row of several examples is one row in the counts, and is held out whole', async () => {
  const rows = Array.from({ length: 20 }, (_, i) => {
    const { messages } = CHAT
    return JSON.stringify({ messages: i % 2 === 0 ? messages : messages.slice(0, 2) })
  })
  const { own } = families.qwen3 as (typeof families)[string]
  const path = scratchFile('chats.jsonl', `${rows.join('\n')}\n`)
  const data = await encodeDataset(path, sourceOf(own), { maxSeqLength: 4096, reasoningHistory: 'drop' })
  expect(data.stats).toMatchObject({ rows: 20, examples: 40, dropped: 0, lostReasoning: { rows: 0 } })
  expect(data.length).toBe(40)
  const { train, heldOut } = splitRows(data, { fraction: 0.25, seed: 1 })
  const lines = (examples: Uint32Array) => new Set(Array.from(examples, (row) => data.place(row).line))
  expect(lines(heldOut).size).toBe(5)
  expect([...lines(train)].filter((line) => lines(heldOut).has(line))).toEqual([])
  expect(train.length + heldOut.length).toBe(40)
  expect(() => splitRows(data, { fraction: 0.01, seed: 1 })).toThrow('the fraction 0.01 of 20 chats')
  const { drawn, others } = drawRows(data, train, 7, 1)
  expect(drawn.length).toBeGreaterThan(3)
  expect(drawn.length).toBeLessThanOrEqual(7)
  expect([...drawn, ...others].sort((a, b) => a - b)).toEqual([...train])
  expect([...lines(others)].filter((line) => lines(drawn).has(line))).toEqual([])
  const first = train.filter((row) => data.place(row).line === data.place(train[0] as number).line)
  expect(() => setAside(data, first, 1, 1)).toThrow('examples are of one chat')
  expect(drawRows(data, heldOut, 64, 1)).toEqual({ drawn: heldOut, others: new Uint32Array() })
})

it('the examples of a row keep its group', () => {
  const own = Object.values(families)[0]?.own as string
  const row: DatasetRow = {
    ...{ format: 'alpaca', instruction: 'Add.', input: '', output: 'two', history: [['2?', 'two']] },
    ...{ path: 'train.jsonl', line: 7, group: 'ward 3' },
  }
  const examples = encoder(own).encodeAll(row)
  expect(examples).toMatchObject([{ group: 'ward 3' }, { group: 'ward 3' }])
})

it('chats of a file that is listed twice are held out with their copies', async () => {
  const { own } = families.qwen3 as (typeof families)[string]
  const [once, twice] = ['once.jsonl', 'twice.jsonl'].map((name) =>
    scratchFile(name, `${JSON.stringify({ messages: CHAT.messages })}\n`.repeat(8)),
  ) as [string, string]
  const options = { maxSeqLength: 4096, reasoningHistory: 'drop' } as const
  const data = await encodeDataset([twice, once, twice], sourceOf(own), options)
  const { train, heldOut } = splitRows(data, { fraction: 0.25, seed: 1 })
  const places = (examples: Uint32Array) =>
    new Set(Array.from(examples, (row) => Object.values(data.place(row)).join()))
  expect([...places(train)].filter((place) => places(heldOut).has(place))).toEqual([])
  expect(places(heldOut).size).toBe(4)
  expect(train.length + heldOut.length).toBe(data.length)
})

it('is named where the ends of turns are not known because earlier ones have no reasoning', () => {
  const template = `{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' and loop.index0 > ns.last %}{{ '<think>' + (m.reasoning_content or '') + '</think>' }}{% endif %}{{ m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}`
  expect(() => encoder(template, { reasoningHistory: 'keep' }).encodeAll(CHAT)).toThrow(
    'so its end is not known; use reasoning_history: drop, train_on: last, a template with {% generation %} markers',
  )
  expect(encoder(template).encodeAll(CHAT)).toHaveLength(3)
})

it('is refused where there is no earlier reasoning to drop', () => {
  const { own } = families.qwen3 as (typeof families)[string]
  const plain =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
  const keeps = `{% for m in messages %}{{ m.role + (m.reasoning_content or '') + m.content + '<|im_end|>' }}{% endfor %}`
  for (const template of [plain, keeps])
    expect(() => encoder(template).encodeAll(CHAT)).toThrow(
      'reasoning_history is drop, but the chat template keeps the reasoning of earlier turns, or renders no reasoning',
    )
  const place = { path: 'a', line: 1 }
  const others: DatasetRow[] = [
    { format: 'text', text: 'Once', ...place },
    { format: 'prompt_completion', prompt: 'a', completion: 'b', ...place },
  ]
  for (const row of others)
    expect(() => encoder(own).encodeAll(row)).toThrow(`rows of the format ${row.format} have no turns`)
  expect(() => encoder(own, { trainOn: 'all' }).encodeAll(CHAT)).toThrow('train_on is all')
})
