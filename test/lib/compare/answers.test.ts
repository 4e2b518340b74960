import { expect, test } from 'vitest'
import { compareAnswers, normalizedAnswer } from '../../../lib/compare/answers.js'

/** Rows of which two models answer these many alone, both, and neither. */
function rowsOf({ onlyFirst = 0, onlySecond = 0, both = 0, neither = 0 }) {
  const row = (...answers: string[]) => ({ expected: 'yes', answers })
  return [
    ...Array.from({ length: onlyFirst }, () => row('yes', 'no')),
    ...Array.from({ length: onlySecond }, () => row('no', 'yes')),
    ...Array.from({ length: both }, () => row('yes', 'yes')),
    ...Array.from({ length: neither }, () => row('no', 'no')),
  ]
}

test('p of a pair is McNemar’s exact one, of the rows that one model alone answers right', () => {
  const { pairs, scores } = compareAnswers(rowsOf({ onlyFirst: 2, onlySecond: 9, both: 5, neither: 4 }), 2)
  // 2 · (1 + 11 + 55) / 2¹¹
  expect(pairs).toEqual([
    {
      ...{ first: 0, second: 1, rows: 20 },
      exact: { onlyFirst: 2, onlySecond: 9, p: expect.closeTo(0.0654296875, 12) },
      normalized: { onlyFirst: 2, onlySecond: 9, p: expect.closeTo(0.0654296875, 12) },
    },
  ])
  expect(scores.map(({ exact }) => exact.right)).toEqual([7, 14])
  expect(scores.map(({ f1 }) => f1)).toEqual([7 / 20, 14 / 20])
})

test('rows that a model did not answer count for none of its numbers', () => {
  const rows = [
    { expected: 'a', answers: ['a', null, 'b'] },
    { expected: 'a', answers: ['b', 'a', 'b'] },
    { expected: 'a', answers: ['A.', 'b', 'a'] },
  ]
  const { scores, pairs, right } = compareAnswers(rows, 3)
  expect(scores.map(({ answered, exact, normalized }) => [answered, exact.right, normalized.right])).toEqual([
    [3, 1, 2],
    [2, 1, 1],
    [3, 1, 1],
  ])
  expect(pairs.map(({ first, second, rows: both }) => [first, second, both])).toEqual([
    [0, 1, 2],
    [0, 2, 3],
    [1, 2, 2],
  ])
  expect(right.exact[0]).toEqual([true, null, false])
  expect(compareAnswers([{ expected: 'a', answers: [null] }], 1).scores[0]).toMatchObject({
    answered: 0,
    f1: 0,
  })
})

test.each([
  ['white space around it', 'It is so', '  It is so\n', true],
  ['case, spaces, and the end', 'It  is So.', 'it is so!', true],
  ['a form of Unicode', 'ﬁne', 'fine', true],
  [
    'JSON of other order and spacing',
    '{"a": 1, "b": [2, {"d": 3, "c": 4}]}',
    '{"b":[2,{"c":4,"d":3}],"a":1.0}',
    true,
  ],
  ['JSON in a fence', '{"a": 1}', '```json\n{"a":1}\n```', true],
  ['reasoning before it', 'so', '<think>\nwhy\n</think>\n\nSo', true],
  ['another word', 'It is so', 'It was so', false],
  ['case within JSON', '{"a": "So"}', '{"a": "so"}', false],
  ['order within a list', '[1, 2]', '[2, 1]', false],
  ['punctuation within', 'a.b', 'ab', false],
])('answers that differ in %s are normalized alike: %j, %j, %s', (_what, one, other, same) => {
  expect(normalizedAnswer(one) === normalizedAnswer(other)).toBe(same)
})
