import { expect, test } from 'vitest'
import { compareScores } from '../../../lib/compare/index.js'
import { pairedTest } from '../../../lib/compare/statistics/index.js'

test('models are compared on the rows that both answered', () => {
  const rows = [
    [0, 1, null],
    [0.5, 1.5, 1],
    [1, 4, 0],
  ]
  const { scores, pairs } = compareScores(rows, 3)
  expect(scores.map(({ answered, mean }) => [answered, mean])).toEqual([
    [3, 0.5],
    [3, 6.5 / 3],
    [2, 0.5],
  ])
  expect(pairs.map(({ first, second, rows, mean }) => [first, second, rows, mean])).toEqual([
    [0, 1, 3, 5 / 3],
    [0, 2, 2, -0.25],
    [1, 2, 2, -2.25],
  ])
  expect(pairs[0]?.p).toBe(pairedTest([1, 1, 3]))
})
