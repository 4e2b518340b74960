import { expect, it } from 'vitest'
import { pack, unpack } from '../../../../lib/report/chart/pack.js'

it('keeps every value to within half a unit, and missing values missing', () => {
  const values = Array.from({ length: 2000 }, (_, i) =>
    i % 97 === 5 ? null : 7 * Math.exp(-i / 300) + Math.sin(i * 1.7),
  )
  const packed = pack(values, 50_000)
  if (typeof packed === 'number') throw new Error('a column of values')
  const back = unpack(JSON.parse(JSON.stringify(packed)))
  expect(back).toHaveLength(values.length)
  for (const [index, value] of values.entries())
    if (value === null) expect(back[index]).toBeNull()
    else expect(Math.abs((back[index] as number) - value)).toBeLessThanOrEqual(packed.unit / 2 + 1e-12)
})

it('writes the numbers from 1 as their count', () => {
  expect(pack([1, 2, 3], 10)).toBe(3)
  expect(unpack(3)).toEqual([1, 2, 3])
})

it('takes columns of nothing, of zeros and of NaN', () => {
  expect(unpack(pack([], 10))).toEqual([])
  expect(unpack(pack([0, 0], 10))).toEqual([0, 0])
  expect(unpack(pack([NaN, null], 10))).toEqual([null, null])
})
