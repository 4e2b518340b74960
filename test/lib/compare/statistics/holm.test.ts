import { expect, test } from 'vitest'
import { holm } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('adjusted p-values are those of statsmodels, in the order given', () => {
  for (const [p, adjusted] of golden.holm)
    for (const [index, value] of holm(p).entries())
      expect(error(value, adjusted[index] as number), `${p}`).toBeLessThan(1e-12)
})

test('a family of none has none', () => {
  expect(holm([])).toEqual([])
})
