import { describe, expect, it } from 'vitest'
import { dotChart } from '../../../../benchmarks/laboratory/dot-chart.js'
import * as charts from '../../../../lib/report/chart/index.js'

const { barChart, heatMap, itemCode, lineChart, markOf, scatter, svgDocument } = charts
const golden = (name: string) => `golden/${name}.svg`
const MIB = 2 ** 20

const numbers = [1, 2, 3, 4, 5]
const small = {
  lines: () =>
    lineChart({
      ...{ title: 'Loss', description: 'From 7 to 1', width: 320, height: 160, xLabel: 'step' },
      lines: [
        { x: numbers, y: [7, 4, null, 2, 1], hue: 0, name: 'training', stroke: 'raw' },
        {
          x: [1, 5],
          y: [6, 2],
          hue: 1,
          name: 'held out',
          stroke: 'thin',
          dots: 'filled',
          low: [5, 1],
          high: [7, 3],
        },
      ],
      levels: [{ value: 3, name: 'before' }],
      stops: [{ x: 4, name: 'checkpoint at 4' }],
    }).svg,
  bars: () =>
    barChart({
      ...{ title: 'Memory', width: 600, markName: 'measured', legend: true },
      groups: [
        {
          name: '7B',
          bars: [
            {
              name: 'lora',
              parts: [
                { name: 'weights', value: 10 * MIB, color: 0 },
                { name: 'adapters', value: 5 * MIB, color: 3 },
              ],
              mark: 14 * MIB,
            },
          ],
        },
      ],
    }),
  'bars-phone': () =>
    barChart({
      ...{ title: 'Memory', width: 300 },
      groups: [{ bars: [{ name: 'planned', parts: [{ name: 'weights', value: MIB, color: 0 }] }] }],
    }),
  'heat-map': () =>
    heatMap({
      ...{ title: 'Ranks', width: 300, rows: ['layer 0', 'layer 1'], columns: ['q', 'v'] },
      values: [
        [0, 8],
        [null, 4],
      ],
    }),
  dots: () =>
    dotChart({
      ...{ title: 'Exact match', width: 360, level: { value: 0.7, name: 'LoRA' } },
      rows: [
        { name: 'lora', mark: markOf(0), mean: 0.7, interval: [0.6, 0.8], seeds: [0.65, 0.75] },
        { name: 'dora', mark: markOf(8), mean: null },
      ],
    }),
  scatter: () =>
    scatter({
      ...{ title: 'Quality and cost', width: 360, height: 200, xScale: 'log', higherIsBetter: true },
      points: [
        { name: 'lora', mark: markOf(0), x: 1e5, y: 0.7, low: 0.6, high: 0.8 },
        { name: 'vera', mark: markOf(7), x: 1e4, y: 0.4 },
        { name: 'full', mark: markOf(14), x: 3e6, y: 0.6 },
      ],
      ...{ xLabel: 'parameters', yLabel: 'exact match' },
    }),
  items: () =>
    itemCode({ title: 'Items', width: 300, rows: [{ name: 'lora', shares: [0, 1, 1, 0.5, null] }] }),
}

describe('charts', () => {
  it.each(Object.entries(small))('draw %s as before', async (name, draw) => {
    await expect(svgDocument(draw(), { title: 'A chart', lines: ['Two words'] })).toMatchFileSnapshot(
      golden(name),
    )
  })

  it('have no style attributes, and escape names', () => {
    const title = '<script>"&'
    const all = [
      ...Object.values(small).map((draw) => draw()),
      lineChart({ title, width: 300, height: 100, lines: [{ x: [1], y: [1], name: title, hue: 0 }] }).svg,
      heatMap({ title, width: 300, rows: [title], columns: [title], values: [[1]] }),
      barChart({ title, width: 300, groups: [{ name: title, bars: [{ name: title, parts: [] }] }] }),
    ]
    for (const chart of all) {
      expect(chart).not.toMatch(/ style=|<script/)
      expect(chart).toMatch(/^<svg class="chart" [^>]*role="img"/)
    }
  })

  const awkward: Record<string, charts.Value[]> = {
    nothing: [],
    'one point': [3],
    'two points': [3, 1],
    'one NaN': [NaN],
    'no number': [null, null],
    zeros: [0, 0, 0],
    'a zero': [0, 1, 10],
    'negative values': [-3, -1],
    'one spike': [1, 1, 1e30, 1],
    infinity: [1, Infinity, 2],
    'a point between gaps': [1, null, 2, null, 3],
  }
  it.each(Object.entries(awkward))('take %s', (_, y) => {
    const x = y.map((_value, index) => index + 1)
    for (const yScale of ['linear', 'log'] as const) {
      const size = { title: 'Any', width: 300, height: 120, yScale }
      const drawn = lineChart({ ...size, lines: [{ x, y, hue: 0, name: 'any', dots: 'open', area: true }] })
      expect(drawn.svg).not.toMatch(/NaN|Infinity|undefined/)
    }
    const [rows, columns] = [['a'], x.map(String)]
    expect(heatMap({ title: 'Any', width: 300, rows, columns, values: [y] })).not.toMatch(
      /NaN|Infinity|undefined/,
    )
  })

  it('draw a point between gaps, which is a line without length', () => {
    const { svg } = lineChart({
      title: 'Any',
      width: 300,
      height: 120,
      lines: [{ x: [1, 2, 3], y: [1, null, 3], hue: 0 }],
    })
    expect(svg.match(/h0/g)).toHaveLength(2)
  })

  it('stay small with 10,000 points', () => {
    const x = Array.from({ length: 10_000 }, (_, index) => index + 1)
    const { svg } = lineChart({
      title: 'Any',
      width: 918,
      height: 330,
      lines: [{ x, y: x.map((v) => Math.sin(v)), hue: 0 }],
    })
    expect(svg.length).toBeLessThan(30_000)
  })

  it('keep labels apart that end at one value', () => {
    const lines = ['a', 'b', 'c'].map((name, hue) => ({ x: [1, 2], y: [1, 2], name, hue }))
    const { svg } = lineChart({ title: 'Any', width: 300, height: 200, lines })
    const ys = [...svg.matchAll(/class="label halo">/g)].length
    const at = [...svg.matchAll(/y="([\d.]+)" class="label halo"/g)].map(([, y]) => Number(y))
    expect(ys).toBe(3)
    for (const [i, y] of at.entries()) if (i > 0) expect(y - (at[i - 1] as number)).toBeGreaterThanOrEqual(14)
  })

  it('find the points that nothing beats', () => {
    const points = [
      { x: 1, y: 5 },
      { x: 2, y: 4 },
      { x: 2, y: 9 },
      { x: 3, y: 9 },
      { x: 4, y: 10 },
    ]
    expect(charts.paretoPoints(points, true)).toEqual([points[0], points[2], points[4]])
    expect(charts.paretoPoints(points, false)).toEqual([points[0], points[1]])
  })

  it('sort items from the easiest', () => {
    expect(charts.byDifficulty([{ shares: [0, 1, 0.5] }, { shares: [0, 1, 1] }])).toEqual([1, 2, 0])
  })
})
