import { describe, expect, it } from 'vitest'
import {
  formatNumber,
  formatSeconds,
  formatShare,
  formatSize,
  formatTick,
} from '../../../../lib/report/chart/numbers.js'
import { linearTicks, scaleOf, sizeTicks, ticksOf } from '../../../../lib/report/chart/scale.js'

describe('scales', () => {
  it.each(['linear', 'log'] as const)('invert what they map, %s', (type) => {
    const scale = scaleOf(type, [0.5, 80], [40, 240])
    expect([scale(0.5), scale(80)]).toEqual([40, 240])
    expect(scale.invert(scale(7))).toBeCloseTo(7, 10)
  })

  it('take a domain of one value', () => {
    expect(scaleOf('linear', [3, 3], [0, 10])(3)).toBe(0)
  })
})

describe('ticks', () => {
  it('are round', () => {
    expect(linearTicks([0, 7.3], 4)).toEqual([0, 2, 4, 6])
    expect(linearTicks([0.1, 0.35], 3)).toEqual([0.1, 0.2, 0.3])
    expect(ticksOf('log', [0.15, 9], 6)).toEqual([0.2, 0.5, 1, 2, 5])
    expect(ticksOf('log', [0.27, 1.4], 5)).toEqual([0.3, 0.5, 0.7, 1])
    expect(ticksOf('log', [1e-6, 900], 4)).toEqual([1e-6, 1e-4, 0.01, 1, 100])
    expect(sizeTicks(170 * 2 ** 20, 3)).toEqual([0, 50, 100, 150].map((mib) => mib * 2 ** 20))
  })

  it('exist for empty domains', () => {
    expect(linearTicks([2, 2], 4)).toEqual([2])
    expect(sizeTicks(0, 4)).toEqual([0])
  })
})

it('writes numbers for people', () => {
  expect([0, 1.23456, 12345.6, 291840, -0.5, 0.00012, null, NaN].map((value) => formatNumber(value))).toEqual(
    ['0', '1.23', '12,346', '291,840', '−0.500', '1.2e−4', '–', '–'],
  )
  expect([0, 25000, 1.5e6, 0.0005, 2e-5, -3].map(formatTick)).toEqual([
    '0',
    '25k',
    '1.5M',
    '0.0005',
    '2e−5',
    '−3',
  ])
  expect([0, 999, 28.4 * 2 ** 20, 3 * 2 ** 30].map(formatSize)).toEqual([
    '0 B',
    '999 B',
    '28.4 MiB',
    '3.00 GiB',
  ])
  expect([9.34, 42, 185, 7500].map(formatSeconds)).toEqual(['9.3 s', '42 s', '3 min 5 s', '2 h 5 min'])
  expect([0, 1, 0.5, 0.031, 0.996].map(formatShare)).toEqual(['0%', '100%', '50%', '3.1%', '99.6%'])
})
