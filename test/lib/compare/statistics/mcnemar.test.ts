import { expect, test } from 'vitest'
import { mcnemar } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('p-values are those of statsmodels', () => {
  for (const [first, second, p] of golden.mcnemar) {
    expect(error(mcnemar(first, second), p), `${first}, ${second}`).toBeLessThan(1e-10)
    expect(mcnemar(second, first)).toBe(mcnemar(first, second))
  }
})

test('without any difference, p is 1', () => {
  expect(mcnemar(0, 0)).toBe(1)
  expect(mcnemar(8, 8)).toBe(1)
})
