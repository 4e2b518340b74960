/** Values of tool calls and schemas, from the text of a row to the text of a template, against Python. */
import { readFileSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import { describe, expect, it } from 'vitest'
import { parseExactJson, TEMPLATE_KEYS } from '../../../lib/data/dataset/exact-json.js'
import {
  type DatasetForm,
  type DatasetRow,
  type MessagesRow,
  openDataset,
} from '../../../lib/data/dataset.js'
import { RowEncoder } from '../../../lib/data/encode.js'
import type { EncodeRowOptions } from '../../../lib/data/encoded-row.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import { pythonJson, pythonText } from '../../../lib/tokenizer/python-text.js'

interface Row {
  name: string
  row: string
  text: string
  ids: number[]
}

interface Family {
  own: string
  training?: string
  bos_token?: string
  eos_token?: string
  added_tokens?: object[]
  rows: Row[]
}

const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
const adapted = parity('adapted_chats.json') as {
  families: Record<string, Family>
  written: { template: string; rows: Row[] }
  numbers: [text: string, json: string, literal: string][]
}
const trained = parity('training_templates.json') as { families: Record<string, Family> }
const families = { ...adapted.families, ...trained.families }
const { tokenizers } = parity('tokenizer_small.json')
const [{ row: VALUES }] = adapted.written.rows as [Row]

async function rowOf(text: string, form: DatasetForm = {}): Promise<MessagesRow> {
  const rows: DatasetRow[] = []
  async function* stdin() {
    yield Buffer.from(text)
  }
  for await (const row of openDataset('-', { fileType: 'jsonl', ...form, stdin: stdin() })) rows.push(row)
  // As a row is when it was sent to the text worker.
  return deserialize(serialize(rows[0]))
}

function encoder(family: Family, options: Partial<EncodeRowOptions> = {}): RowEncoder {
  const { tokenizer, config } = tokenizers.qwen2
  const { own, training, added_tokens = tokenizer.added_tokens, bos_token, eos_token } = family
  const source = {
    tokenizerJson: { ...tokenizer, added_tokens },
    tokenizerConfig: { ...config, ...(bos_token ? { bos_token, eos_token } : {}) },
    chatTemplate: own,
  }
  // Where a part of the empty block belongs to the prompt, learning the rest would split a token.
  const trainEmptyThink = training?.includes("{{- '<think>\\n' + reasoning") ?? false
  return new RowEncoder(source, { maxSeqLength: 4096, trainEmptyThink, ...options })
}

function idsOf(by: RowEncoder, row: MessagesRow): number[] {
  const found = by.encode(row)
  if (typeof found === 'string') throw new Error(found)
  return [...found.inputIds]
}

const written = ({ messages, tools = [] }: MessagesRow) =>
  new ChatTemplate(adapted.written.template, {}).render(messages, { tools })

describe.each(Object.keys(families))(
  'the values of tool calls and schemas, with the template of %s',
  (key) => {
    const family = families[key] as Family

    it.each(family.rows)('have the ids of transformers: $name', async ({ row, ids }) => {
      expect(idsOf(encoder(family), await rowOf(row))).toEqual(ids)
    })

    it('have them with their special tokens escaped, too', async () => {
      const [{ row, ids }] = family.rows as [Row]
      const by = encoder(family, { specialTokensInContent: 'escape' })
      const escaped = idsOf(by, await rowOf(row.replace('"z": 1', '"z": 1, "<|im_end|>": 1.0')))
      expect(escaped.length).toBeGreaterThan(ids.length)
      const text = by.tokenizer.decode(escaped, { skipSpecialTokens: false })
      // Each form has its own quotes, or tags with line breaks.
      expect(text).toMatch(/2["'>]?[=:]?\s?["']?x[^xy]{1,30}1["'>]?[=:]?\s?["']?y/)
      expect(text).toMatch(/"<\|im_end\|>": 1\.0/)
    })
  },
)

it.each(adapted.written.rows)('a template writes values as in Python: $name', async ({ row, text }) => {
  expect(written(await rowOf(row))).toBe(text)
})

it.each(adapted.numbers)('the number %s is written as in Python', (text, json, literal) => {
  const value = parseExactJson(text)
  expect(pythonJson(value)).toBe(json)
  expect(pythonText(value)).toBe(literal)
})

describe('values are as in Python in', () => {
  const [{ text }] = adapted.written.rows as [Row]
  const { messages, tools } = JSON.parse(VALUES)
  const call = messages[1].tool_calls[0].function
  const given = /"arguments": (\{.*?\}\]\})/.exec(VALUES)?.[1] as string
  const schemas = /"tools": (.*)\}$/.exec(VALUES)?.[1] as string

  it('a list of messages that is a string', async () => {
    const list = /"messages": (\[.*\]), "tools"/.exec(VALUES)?.[1] as string
    const row = JSON.stringify({ messages: list, tools: schemas })
    expect(written(await rowOf(row))).toBe(text)
  })

  it('tools of another name', async () => {
    const row = VALUES.replace('"tools": [', '"nested": {"schemas": [').replace(/$/, '}')
    expect(written(await rowOf(row, { columns: { tools: 'nested.schemas' } }))).toBe(text)
  })

  it('a chat of ShareGPT', async () => {
    const said = JSON.stringify(`{"name": "${call.name}", "arguments": ${given}}`)
    const row = `{"conversations": [{"from": "human", "value": "Which?"}, {"from": "function_call", "value": ${said}}], "tools": ${schemas}}`
    expect(written(await rowOf(row))).toBe(text)
  })

  it('a JSON array', async () => {
    expect(written(await rowOf(`[${VALUES}]`, { fileType: 'json' }))).toBe(text)
  })

  it('rows of a program, whose numbers and objects are those of JavaScript', async () => {
    const rows = { rows: [{ messages, tools }], name: 'rows' }
    for await (const row of openDataset(rows)) {
      const [first] = written(row as MessagesRow).split('\n')
      expect(first).toMatch(/^\{'1': 'y', '2': 'x', 'b': True, 'n': None, 'f': 1, /)
    }
  })
})

describe('exact JSON', () => {
  it('is only under its keys', () => {
    const text =
      '{"2": 1.0, "1": {"arguments": {"2": [1.0], "1": "\\"tools\\": \\\\"}, "f": 2.0}, "weight": 1.0}'
    const value = parseExactJson(text, TEMPLATE_KEYS)
    expect(value).toMatchObject({ 1: { f: 2 }, 2: 1, weight: 1 })
    expect(pythonJson(value)).toBe(
      '{"1": {"arguments": {"2": [1.0], "1": "\\"tools\\": \\\\"}, "f": 2}, "2": 1, "weight": 1}',
    )
  })

  it.each([
    '{"tools": [], "a" : "x\\": 1", "b"\n:\t"\\\\", "__proto__": {"a": [{}, [[]], -1, 1.5e-3, true, null]}}',
    '["tools", {"": "\\ud83d\\u0000", "é": -0.25}]',
    ' "tools" ',
  ])('is as any other, but for its numbers and order: %s', (text) => {
    expect(parseExactJson(text)).toStrictEqual(JSON.parse(text))
    expect(parseExactJson(text, TEMPLATE_KEYS)).toStrictEqual(JSON.parse(text))
  })

  it('may be nested without end, but not in a row', async () => {
    const deep = `${'{"a":['.repeat(100_000)}1.0${']}'.repeat(100_000)}`
    expect(() => parseExactJson(deep)).not.toThrow()
    const row = VALUES.replace('"z": 1', `"2": {"z": ${'{"1":['.repeat(40)}1.0${']}'.repeat(40)}}`)
    await expect(rowOf(row)).rejects.toThrow('"messages" is nested more than 64 deep')
  })

  it('is no object where a number stands', async () => {
    await expect(rowOf(VALUES.replace(/"arguments": .*?\]\}/, '"arguments": 1.0'))).rejects.toThrow(
      'must be an object such as {"city": "Rome"}, or its JSON, not 1',
    )
  })
})
