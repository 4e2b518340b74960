import { expect, test } from 'vitest'
import { barChart } from '../../../lib/cli/inspect/lengths.js'

test('the longest bar reaches the edge of a narrow terminal, and is no longer on a wide one', () => {
  const bars = [
    { from: 20, to: 39, rows: 5 },
    { from: 100, to: 119, rows: 1000 },
  ]
  const widths = (columns: number) =>
    barChart(bars, columns)
      .split('\n')
      .map((line) => line.length)
  expect(Math.max(...widths(40))).toBe(40)
  expect(Math.max(...widths(80))).toBe('100 to 119  1,000  '.length + 40)
  expect(widths(40)[0]).toBe('100 to 119  1,000  #'.length)
})
