import { expect, test } from 'vitest'
import { readOldAnswers } from '../../../../lib/cli/migrate/old-answers.js'
import { scratchFile } from '../../scratch.js'

const fileOf = (...lines: unknown[]) =>
  scratchFile('answers.jsonl', lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
const batch = (id: string, content: string) => ({
  ...{ id: `batch_req_${id}`, custom_id: id, error: null },
  response: {
    status_code: 200,
    body: { id: 'chatcmpl-1', choices: [{ index: 0, message: { role: 'assistant', content } }] },
  },
})
const failed = (id: string) => ({
  ...{ custom_id: id, response: { status_code: 400, body: { error: { message: 'No.' } } }, error: null },
})

test('the output of a batch is matched by its ids, in any order', async () => {
  const path = fileOf(batch('row-9', 'nine'), failed('row-4'), batch('row-2', 'two'), batch('row-3', 'three'))
  expect(await readOldAnswers(path, 9, [2, 4, 9])).toEqual({ answers: ['two', null, 'nine'], failed: 1 })
})

test.each([
  ['an answer', { answer: 'so' }],
  ['a message', { role: 'assistant', content: 'so' }],
  [
    'a chat',
    {
      messages: [
        { role: 'user', content: 'How?' },
        { role: 'assistant', content: 'so' },
      ],
    },
  ],
  [
    'a completion of a chat',
    { id: 'chatcmpl-7', choices: [{ message: { role: 'assistant', content: 'so' } }] },
  ],
  ['a completion of a text', { id: 'cmpl-7', choices: [{ text: 'so' }] }],
  [
    'a message in parts',
    {
      content: [
        { type: 'text', text: 's' },
        { type: 'text', text: 'o' },
      ],
    },
  ],
])('%s without an id is matched by order, of the held-out rows or of all', async (_what, line) => {
  const other = { answer: 'other' }
  expect((await readOldAnswers(fileOf(line, other), 5, [2, 4])).answers).toEqual(['so', 'other'])
  const all = fileOf(other, line, other, other, line)
  expect((await readOldAnswers(all, 5, [2, 4])).answers).toEqual(['so', 'other'])
})

test('simple lines with ids are matched by them, and calls are compared by value', async () => {
  const call = { function: { name: 'look_up', arguments: '{"b": 1, "a": 2}' } }
  const path = fileOf({ id: 4, content: null, tool_calls: [call] }, { id: 'row-2', answer: 'two' })
  expect((await readOldAnswers(path, 5, [2, 4])).answers).toEqual([
    'two',
    '[{"arguments":{"a":2,"b":1},"name":"look_up"}]',
  ])
})

test.each([
  ['another number of lines', [{ answer: 'a' }], /has 1 answers without ids, expected 2, .* or 5/],
  [
    'an id that no row has',
    [{ id: 'row-6', answer: 'a' }],
    /line 1: the id is "row-6", expected .* "row-1" to "row-5"/,
  ],
  ['ids of one’s own', [batch('request-1', 'a')], /line 1: the id is "request-1"/],
  [
    'a line without an id among others',
    [{ id: 2, answer: 'a' }, { answer: 'b' }],
    /line 2: the id is missing/,
  ],
  [
    'an id twice',
    [
      { id: 2, answer: 'a' },
      { id: 'row-2', answer: 'b' },
    ],
    /line 2: .* two answers to row-2/,
  ],
  ['no answer', [{ id: 2, prediction: 'a' }], /line 1: expected a line of a batch/],
  [
    'a response without choices',
    [{ custom_id: 'row-2', response: { body: {} } }],
    /line 1: the response has no choices/,
  ],
  ['answers to other rows alone', [{ id: 1, answer: 'a' }], /no answer to a held-out row/],
])('%s is refused', async (_what, lines, message) => {
  await expect(readOldAnswers(fileOf(...lines), 5, [2, 4])).rejects.toThrow(message)
})
