import { expect, test } from 'vitest'
import { wilson } from '../../../../lib/compare/statistics/index.js'
import { error, golden } from './golden.js'

test('intervals are those of statsmodels', () => {
  for (const [hits, count, interval] of golden.wilson)
    for (const [end, value] of wilson(hits, count).entries())
      expect(error(value, interval[end] as number), `${hits} of ${count}`).toBeLessThan(1e-12)
})

test('of no items nothing is known', () => {
  expect(wilson(0, 0)).toEqual([0, 1])
})
