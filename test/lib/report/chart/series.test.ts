import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  extent,
  quantile,
  smooth,
  thin,
  usualHalfLife,
  type Value,
} from '../../../../lib/report/chart/series.js'

const golden = JSON.parse(readFileSync('test/parity/numbers/report.json', 'utf8')) as {
  ewm: { half_life: number; values: Value[]; mean: Value[] }[]
}

describe('smooth', () => {
  it('equals pandas’ ewm(adjust=True), missing values included', () => {
    expect(golden.ewm.length).toBeGreaterThan(3)
    for (const { half_life, values, mean } of golden.ewm) {
      const own = smooth([...values.keys()], values, half_life)
      for (const [index, value] of mean.entries())
        if (value === null) expect(own[index]).toBeNull()
        else expect(own[index]).toBeCloseTo(value, 10)
    }
  })

  it('weights by distance in x, not by number of points', () => {
    const [, , third] = smooth([0, 10, 11], [4, 0, 0], 1)
    expect(third).toBeCloseTo((4 * 0.5 ** 11) / (0.5 ** 11 + 0.5 + 1), 12)
  })

  it('changes nothing without a half-life, and stays finite beside NaN', () => {
    expect(smooth([1, 2], [3, null], 0)).toEqual([3, null])
    expect(smooth([1, 2, 3], [NaN, 2, NaN], 1)).toEqual([null, 2, 2])
  })

  it('is off for short runs', () => {
    expect([1, 39, 40, 10_000].map(usualHalfLife)).toEqual([0, 0, 3, 67])
  })
})

describe('thin', () => {
  const xs = Array.from({ length: 10_000 }, (_, index) => index)

  it('keeps first, least, greatest and last of each column', () => {
    const ys: Value[] = xs.map((x) => Math.sin(x / 50))
    ys[4321] = 99
    ys[4322] = -99
    const kept = thin(xs, ys, [0, 9999], 100)
    expect(kept.length).toBeLessThanOrEqual(400)
    expect(kept).toEqual([...kept].sort((a, b) => a - b))
    for (const index of [0, 4321, 4322, 9999]) expect(kept).toContain(index)
    for (let column = 0; column < 100; column++) {
      const inside = xs.filter((x) => Math.ceil(((x + 1e-9) / 9999) * 100) - 1 === column)
      const least = Math.min(...inside.map((x) => ys[x] as number))
      expect(Math.min(...kept.filter((x) => inside.includes(x)).map((x) => ys[x] as number))).toBe(least)
    }
  })

  it('keeps a gap, which breaks the line', () => {
    const ys: Value[] = xs.map((x) => (x > 5000 && x < 5200 ? null : 1))
    expect(thin(xs, ys, [0, 9999], 100).some((index) => ys[index] === null)).toBe(true)
  })

  it('keeps all of a short series and nothing outside of its ends', () => {
    expect(thin([1, 2, 3, 4], [1, null, 3, 4], [2, 3], 100)).toEqual([1, 2])
    expect(thin([], [], [0, 1], 100)).toEqual([])
  })
})

it('quantiles and extents leave out what is missing', () => {
  expect(quantile([null, 5, 1, NaN, 3], 0.5)).toBe(3)
  expect(quantile([], 0.5)).toBeNaN()
  expect(extent([null, 2, NaN, -1])).toEqual([-1, 2])
  expect(extent([null])).toBeNull()
})
