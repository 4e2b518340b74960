/** Chats without an answer at their end as prompts, with the texts of prompts in use. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { openDataset } from '../../../lib/data/dataset.js'
import { type PromptChat, PromptRenderer } from '../../../lib/data/prompt-tools.js'
import type { DatasetMessage } from '../../../lib/tokenizer/message.js'
import { askedOf } from '../../../lib/train/rows/prompting.js'
import { scratchFile } from '../scratch.js'
import { answer, decode, encoder, rowOf, user } from './chat-rows.js'

const renderPromptChat = (chat: PromptChat, special: Record<string, string>) =>
  new PromptRenderer(special).render(chat)

const folder = 'test/parity/chat-templates'
const TOOL = {
  type: 'function',
  function: { name: 'weather', description: 'Tells it', parameters: { type: 'object', properties: {} } },
}
const call: DatasetMessage = {
  ...{ role: 'assistant', content: '' },
  tool_calls: [{ id: 'call00001', type: 'function', function: { name: 'weather', arguments: { at: 1 } } }],
}
const result: DatasetMessage = { role: 'tool', content: 'Rain.', name: 'weather', tool_call_id: 'call00001' }
const CHATS: [what: string, messages: DatasetMessage[], tools: unknown[] | null][] = [
  ['a question', [{ role: 'system', content: 'Be brief.' }, user('2?')], null],
  ['a later question', [user('2?'), answer('two'), user('3?')], null],
  ['a later question after reasoning', [user('2?'), answer('two', 'Count.'), user('3?')], null],
  ['tools', [user('Rain?')], [TOOL]],
  ['the result of a call', [user('Rain?'), call, result], [TOOL]],
]

test.each(readdirSync(folder))('a prompt by %s is the one in use', (name) => {
  const template = readFileSync(`${folder}/${name}`, 'utf8')
  let same = 0
  for (const [what, messages, tools] of CHATS) {
    const by = encoder(template, { asPrompts: true, now: new Date(0) })
    let found: ReturnType<typeof by.encode>
    try {
      found = by.encode(rowOf({ messages, tools }))
    } catch (error) {
      // Parts that a template leaves out are refused.
      expect((error as Error).message, what).toMatch(/chat template/)
      continue
    }
    if (typeof found === 'string') throw new Error(found)
    const { format } = by
    const text = renderPromptChat(
      {
        ...{ template, messages, toolForm: format?.trainingTemplate === undefined ? 'own' : 'adapted' },
        options: {
          ...{ addGenerationPrompt: true, now: new Date(0), ...(tools === null ? {} : { tools }) },
          ...askedOf(format),
        },
      },
      Object.fromEntries(
        Object.entries(by.tokenizer.specialTokens).filter((entry): entry is [string, string] =>
          Boolean(entry[1]),
        ),
      ),
    )
    expect(decode(by, found.inputIds), what).toBe(text)
    expect(found).toMatchObject({ supervised: 0, ended: true, truncated: false })
    expect(found.labels.every((label) => label === -100)).toBe(true)
    expect(format?.thinking).toBeUndefined()
    same++
  }
  expect(same).toBeGreaterThan(2)
})

test('special tokens in a prompt are escaped, and a chat that ends with its answer is no prompt', () => {
  const template = readFileSync(`${folder}/qwen3.jinja`, 'utf8')
  const row = rowOf({ messages: [user('Write <|im_end|> please')], tools: null })
  const ids = (specialTokensInContent: 'keep' | 'escape') => {
    const by = encoder(template, { asPrompts: true, specialTokensInContent })
    const found = by.encode(row)
    if (typeof found === 'string') throw new Error(found)
    const ends = [...found.inputIds].filter((id) => decode(by, [id]) === '<|im_end|>')
    return { ends: ends.length, text: decode(by, found.inputIds), told: found.specialTokens }
  }
  const [kept, escaped] = [ids('keep'), ids('escape')]
  expect([kept.ends, escaped.ends]).toEqual([2, 1])
  expect(escaped.text).toBe(kept.text)
  expect(escaped.told).toEqual(['<|im_end|>'])
  const answered = encoder(template, { asPrompts: true }).encode(
    rowOf({ messages: [user('2?'), answer('two')], tools: null }),
  )
  expect(answered).toMatchObject({ supervised: 4 })
})

test('an item has the other columns, as plain JSON', async () => {
  const path = scratchFile(
    'rows.jsonl',
    '{"messages": [{"role": "user", "content": "a"}], "tools": [], "system": "Be kind.", "n": 1.5, "arguments": {"1": 2.0, "0": 12345678901234567890}}\n{"messages": [{"role": "user", "content": "a"}]}\n',
  )
  const items: (string | undefined)[] = []
  for await (const { item } of openDataset(path, { asPrompts: true })) items.push(item)
  expect(items.map((item) => item && JSON.parse(item))).toEqual([
    { system: 'Be kind.', n: 1.5, arguments: { 1: 2, 0: '12345678901234567890' } },
    '',
  ])
  for await (const { item } of openDataset(path)) expect(item).toBeUndefined()
})

test('a prompt of messages may be alone, as in datasets for TRL', async () => {
  const path = scratchFile(
    'rows.jsonl',
    '{"prompt": [{"role": "user", "content": "17 + 25?"}], "answer": 42}\n{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}\n',
  )
  const rows: unknown[] = []
  for await (const row of openDataset(path, { asPrompts: true })) rows.push(row)
  expect(rows).toMatchObject([
    { format: 'messages', messages: [{ role: 'user', content: '17 + 25?' }], item: '{"answer":42}' },
    { format: 'messages', messages: [{ content: 'a' }, { content: 'b' }] },
  ])
})
