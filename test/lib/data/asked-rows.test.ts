/** Rows that are kept to be asked. */
import { expect, test } from 'vitest'
import { AskedRowCollector } from '../../../lib/data/asked-rows.js'
import type { MessagesRow } from '../../../lib/data/dataset.js'

test('tools that all rows have count once toward what is kept', () => {
  const asked = new AskedRowCollector(() => 'a call')
  const description = 'x'.repeat(20_000)
  const row: MessagesRow = {
    format: 'messages',
    ...{ path: 'rows.jsonl', line: 1 },
    messages: [
      { role: 'user', content: 'How many?' },
      { role: 'assistant', content: 'Three.' },
    ],
    tools: [{ type: 'function', function: { name: 'stock', description } }],
  }
  for (let i = 0; i < 200; i++) asked.add(row, i)
  expect(asked.take()).toHaveLength(200)
})
