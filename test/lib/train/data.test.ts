import { expect, test } from 'vitest'
import { dataset } from '../../../lib/train/data.js'

test('dataset() is frozen data with a format', () => {
  expect(dataset('a.jsonl')).toEqual({ path: 'a.jsonl', format: 'auto' })
  expect(Object.isFrozen(dataset('a.jsonl'))).toBe(true)
  expect(() => dataset('a.jsonl', { format: 'csv' as never })).toThrow(
    'dataset(): format is "csv", expected one of auto, messages, prompt_completion, text.',
  )
  expect(() => dataset('')).toThrow('dataset(): path is "", expected a path.')
})
