import { expect, test } from 'vitest'
import { dataset } from '../../../../lib/train/sources/data-sources.js'

const defaults = {
  format: 'auto',
  fileType: 'auto',
  columns: {},
  header: true,
  encoding: 'auto',
  stripLabels: false,
  emptyRows: 'error',
  unended: 'error',
  specialTokensInContent: 'keep',
  streaming: false,
  shuffleBufferSize: 1000,
}

test('dataset() is frozen data with a format', () => {
  expect(dataset('a.jsonl')).toEqual({ path: 'a.jsonl', ...defaults })
  expect(Object.isFrozen(dataset('a.jsonl'))).toBe(true)
  expect(() => dataset('a.jsonl', { format: 'csv' as never })).toThrow(
    'dataset(): format is "csv", expected one of auto, messages, sharegpt, prompt_completion, alpaca, text, preference, unpaired_preference, classification.',
  )
  expect(() => dataset('')).toThrow('dataset(): source is "", expected a path')
  expect(() => dataset(3 as never)).toThrow(
    'dataset(): source is 3, expected a path, a list of paths, or rows',
  )
})

test('dataset() tells paths from rows, and leaves rows as they are', () => {
  expect(dataset(['a.jsonl', 'b.csv']).path).toEqual(['a.jsonl', 'b.csv'])
  const rows = [{ text: 'a' }]
  expect(dataset(rows, { name: 'mine' })).toEqual({ path: 'mine', rows, ...defaults })
  expect(Object.isFrozen(rows)).toBe(false)
})

test('dataset() takes the names that columns have, or their numbers', () => {
  expect(dataset('a.csv', { columns: { prompt: 'question', completion: 2 as never } }).columns).toEqual({
    prompt: 'question',
    completion: '2',
  })
  expect(() => dataset('a.csv', { columns: { promt: 'x' } as never })).toThrow(
    'dataset(): unknown key columns.promt; did you mean columns.prompt?',
  )
})
