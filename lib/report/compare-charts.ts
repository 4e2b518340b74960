/** The charts of a compare by name, as functions of the available width. */
import {
  dotDomain,
  dotRow,
  extent,
  formatNumber,
  formatShare,
  formatSize,
  formatTick,
  isNumber,
  itemCode,
  type Line,
  line,
  linearTicks,
  lineChart,
  MIDDLE,
  type Scale,
  scaleOf,
  scatter,
  svg,
  text,
} from './chart/index.js'
import type { ComparedEntry, ComparePageData } from './compare-data.js'

export interface CompareChart {
  /** Initial width, before any script runs. */
  width: number
  draw: (width: number) => string
}

const ROW = 30
const SMALL = { width: 205, height: 122 }

export function valueFormat({ metric }: ComparePageData): (value: number | null) => string {
  return (value) => (metric.isShare ? formatShare(value) : formatNumber(value))
}

export function compareCharts(data: ComparePageData): Record<string, CompareChart> {
  const { entries, metric } = data
  const format = valueFormat(data)
  const charts: Record<string, CompareChart> = {}
  const lora = entries.find(({ name }) => name === 'lora')?.mean ?? undefined
  const rows = entries.map((entry) => ({
    name: entry.label,
    mark: entry.mark,
    mean: entry.mean,
    interval: entry.interval,
    seeds: entry.cells.map(({ value }) => value),
  }))
  const domain = dotDomain(rows, lora)
  const axis = (width: number) => {
    const x = scaleOf('linear', domain, [8, width - 8])
    return { x, ticks: linearTicks(domain, width < 260 ? 2 : 4) }
  }
  const grid = ({ x, ticks }: { x: Scale; ticks: number[] }) =>
    [
      ...ticks.map((tick) => line(x(tick), -4, x(tick), ROW + 4, 'grid')),
      ...(lora === undefined ? [] : [line(x(lora), -4, x(lora), ROW + 4, 'rule')]),
    ].join('')
  charts.axis = {
    width: 300,
    draw: (width) => {
      const { x, ticks } = axis(width)
      return svg(
        width,
        18,
        { title: 'Scale' },
        ticks.map((tick) => text(x(tick), 13, format(tick), MIDDLE)).join(''),
      )
    },
  }
  for (const [index, row] of rows.entries())
    charts[`dots-${index}`] = {
      width: 300,
      draw: (width) => {
        const scale = axis(width)
        const range = row.interval ? `, interval ${row.interval.map(format).join(' to ')}` : ''
        const title = `${row.name}: mean ${format(row.mean)}${range}`
        return svg(width, ROW, { title }, grid(scale) + dotRow(row, scale.x, ROW / 2 - 2))
      },
    }
  const points = (of: (entry: ComparedEntry) => number) =>
    entries.flatMap((entry) =>
      isNumber(entry.mean) && of(entry) > 0
        ? [
            {
              ...{ name: entry.label, mark: entry.mark, x: of(entry), y: entry.mean },
              ...(entry.interval ? { low: entry.interval[0], high: entry.interval[1] } : {}),
            },
          ]
        : [],
    )
  const cost = (title: string, of: (entry: ComparedEntry) => number, xFormat: (value: number) => string) => ({
    width: 443,
    draw: (width: number) => {
      const values = entries.map(of).filter((value) => value > 0)
      const [low, high] = extent(values) ?? [1, 1]
      const xScale = high > 6 * low ? 'log' : 'linear'
      const { higherIsBetter } = metric
      return scatter({
        ...{ title, width, height: Math.max(260, Math.min(340, width * 0.75)), higherIsBetter },
        ...{ xScale, xFormat, yFormat: format, points: points(of) },
      })
    },
  })
  charts.parameters = cost('Quality against trained parameters', ({ parameters }) => parameters, formatTick)
  charts.memory = cost('Quality against planned memory', ({ plannedBytes }) => plannedBytes, formatSize)
  return { ...charts, ...curveCharts(data), ...rateCharts(data), ...itemCharts(data) }
}

/** Mean curve over the seeds of an entry. */
function meanCurve({ cells }: ComparedEntry): Line {
  const steps = [...new Set(cells.flatMap(({ curve }) => curve.map(([step]) => step)))].sort((a, b) => a - b)
  const y = steps.map((step) => {
    const values = cells.map(({ curve }) => curve.find(([at]) => at === step)?.[1]).filter(isNumber)
    return values.length > 0 ? values.reduce((sum, value) => sum + value, 0) / values.length : null
  })
  return { x: steps, y, stroke: 'ghost' }
}

function curveCharts({ entries }: ComparePageData): Record<string, CompareChart> {
  const all = entries.flatMap(({ cells }) => cells.flatMap(({ curve }) => curve))
  const losses = all.map(([, loss]) => loss).filter((loss) => isNumber(loss) && loss > 0)
  const ends = extent(losses)
  if (ends === null) return {}
  const yDomain = [ends[0] * 0.95, ends[1] * 1.05] as const
  const xDomain = [0, Math.max(1, ...all.map(([step]) => step))] as const
  const means = entries.map(meanCurve)
  return Object.fromEntries(
    entries.map((entry, index) => [
      `curve-${index}`,
      {
        width: SMALL.width,
        draw: (width: number) =>
          lineChart({
            ...{ title: `Validation loss of ${entry.label}`, width, height: SMALL.height },
            ...{ xDomain, yDomain, yScale: 'log', left: 36, right: 8, yTicks: 3 },
            lines: [
              ...means.filter((_, other) => other !== index),
              ...entry.cells.map(
                ({ curve }): Line => ({
                  x: curve.map(([step]) => step),
                  y: curve.map(([, loss]) => loss),
                  ...{ hue: entry.mark.hue, stroke: 'thin' },
                }),
              ),
            ],
          }).svg,
      },
    ]),
  )
}

function rateCharts({ entries }: ComparePageData): Record<string, CompareChart> {
  const all = entries.flatMap(({ searches }) => searches.flat())
  const losses = extent(all.map(({ loss }) => loss).filter((loss) => isNumber(loss) && loss > 0))
  const ends = extent(all.map(({ rate }) => Math.log10(rate)))
  if (losses === null || ends === null) return {}
  const yDomain = [losses[0] * 0.93, Math.min(losses[1], losses[0] * 20) * 1.08] as const
  const xDomain = [ends[0] - 0.2, ends[1] + 0.2] as const
  const powers = Array.from({ length: 12 }, (_, index) => index - 10).filter(
    (at) => at >= ends[0] && at <= ends[1],
  )
  const every = Math.max(1, Math.ceil(powers.length / 3))
  const places = powers
    .filter((_, index) => index % every === 0)
    .map((at) => ({ x: at, name: formatTick(10 ** at) }))
  return Object.fromEntries(
    entries.map((entry, index) => {
      const { hue } = entry.mark
      return [
        `rate-${index}`,
        {
          width: SMALL.width,
          draw: (width: number) =>
            lineChart({
              ...{
                title: `Validation loss of ${entry.label} by learning rate`,
                width,
                height: SMALL.height,
              },
              ...{ xDomain, yDomain, yScale: 'log', places, left: 36, right: 8, yTicks: 3 },
              lines: [
                ...entry.searches.map((rates) => ({
                  x: rates.map(({ rate }) => Math.log10(rate)),
                  y: rates.map(({ loss }) => loss),
                  ...{ hue, stroke: 'thin' as const, dots: 'filled' as const },
                })),
                ...entry.searches.flatMap((rates, seed) => {
                  const chosen = rates.find(({ rate }) => rate === entry.chosen[seed])
                  return chosen
                    ? [
                        {
                          x: [Math.log10(chosen.rate)],
                          y: [chosen.loss],
                          ...{ hue, stroke: 'none' as const, dots: 'open' as const },
                        },
                      ]
                    : []
                }),
              ],
            }).svg,
        },
      ] as const
    }),
  )
}

function itemCharts({ entries }: ComparePageData): Record<string, CompareChart> {
  const rows = entries.filter(({ shares }) => shares.length > 0)
  if (rows.length === 0) return {}
  return {
    items: {
      width: 918,
      draw: (width) =>
        itemCode({
          ...{ title: 'Items that each entry answers', width },
          rows: rows.map((entry) => ({ name: entry.label, shares: entry.shares })),
        }),
    },
  }
}
