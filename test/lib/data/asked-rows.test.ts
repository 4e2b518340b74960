/** Rows that are kept to be asked. */
import { serialize } from 'node:v8'
import { expect, test } from 'vitest'
import { AskedRowCollector, AskedRowReader } from '../../../lib/data/asked-rows.js'
import type { MessagesRow } from '../../../lib/data/dataset.js'

const DESCRIPTION = 'x'.repeat(20_000)

function rowWith(name: string): MessagesRow {
  return {
    format: 'messages',
    ...{ path: 'rows.jsonl', line: 1 },
    messages: [
      { role: 'user', content: 'How many?' },
      { role: 'assistant', content: 'Three.' },
    ],
    tools: [{ type: 'function', function: { name, description: DESCRIPTION } }],
  }
}

test('equal tools count and are sent once, also where others lie between them', () => {
  const asked = new AskedRowCollector({ lastAnswer: () => 'a call', rendersChat: () => true })
  const reader = new AskedRowReader()
  for (const start of [0, 100]) {
    for (let i = start; i < start + 100; i++) asked.add(rowWith(i % 2 === 0 ? 'stock' : 'order'), i)
    const sent = asked.take()
    expect(serialize(sent).length).toBeLessThan(3 * DESCRIPTION.length)
    const rows = reader.read(sent)
    expect(rows.map(({ index }) => index)).toEqual(Array.from({ length: 100 }, (_, i) => start + i))
    for (const { index, tools } of rows)
      expect(JSON.parse(tools as string)).toEqual(rowWith(index % 2 === 0 ? 'stock' : 'order').tools)
  }
})

test('an answer is expected without its reasoning, with and without tools', () => {
  const call = '<tool_call>{}</tool_call>'
  const lastAnswer = () => `<think>\nI look it up.\n</think>\n\n${call}`
  const asked = new AskedRowCollector({ lastAnswer, rendersChat: () => true })
  const { tools: _, ...plain } = rowWith('stock')
  const [question] = plain.messages
  asked.add(rowWith('stock'), 0)
  for (const content of ['Three.', '<think>One, two.</think>Three.'])
    asked.add({ ...plain, messages: [question, { role: 'assistant', content }] as typeof plain.messages }, 1)
  expect(asked.take().rows.map(({ expected }) => expected)).toEqual([call, 'Three.', 'Three.'])
})
