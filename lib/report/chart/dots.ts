/** Dot-and-whisker chart: one row per entry, with its mean, interval, and individual values on a shared scale. */
import { drawMark, type Mark } from './mark.js'
import { formatTick, isNumber } from './numbers.js'
import { type Scale, type ScaleType, scaleOf, ticksOf } from './scale.js'
import { extent, type Value } from './series.js'
import { boldWidthOf, type Described, END, element, hint, line, MIDDLE, svg, text } from './svg.js'

export interface DotRow {
  name: string
  mark: Mark
  mean: Value
  interval?: readonly [number, number] | null
  /** Small marks below the mean, one per seed. */
  seeds?: readonly Value[]
}

export interface DotChart extends Described {
  width: number
  rows: readonly DotRow[]
  domain?: readonly [number, number]
  scale?: ScaleType
  /** A dotted reference line through all rows. */
  level?: { value: number; name: string }
  format?: (value: number) => string
  xLabel?: string
}

const ROW = 34

/** A domain that contains all values of the rows, with a small margin. */
export function dotDomain(rows: readonly DotRow[], level?: number): [number, number] {
  const values = rows.flatMap(({ mean, interval, seeds = [] }) => [mean, ...(interval ?? []), ...seeds])
  const [low, high] = extent([...values, level ?? null]) ?? [0, 1]
  const margin = (high - low) * 0.03 || Math.abs(high) * 0.1 || 1
  return [low - margin, high + margin]
}

/** One row without its name, for a table cell `height` pixels high. */
export function dotRow({ mark, mean, interval, seeds = [], name }: DotRow, x: Scale, y: number): string {
  const drawn: string[] = []
  if (interval) drawn.push(line(x(interval[0]), y, x(interval[1]), y, `k${mark.hue} st whisker`))
  for (const seed of seeds)
    if (isNumber(seed))
      drawn.push(element('circle', { class: `k${mark.hue} fl seed`, cx: x(seed), cy: y + 9, r: 2 }))
  if (isNumber(mean)) drawn.push(drawMark(x(mean), y, mark, 5, hint(name)))
  return drawn.join('')
}

export function dotChart(chart: DotChart): string {
  const { width, rows, level, format = formatTick, scale = 'linear' } = chart
  const domain = chart.domain ?? dotDomain(rows, level?.value)
  const left = 14 + Math.max(0, ...rows.map(({ name }) => boldWidthOf(name)))
  const x = scaleOf(scale, domain, [left + 8, width - 20])
  const top = level ? 38 : 22
  const bottom = top + ROW * rows.length
  const ticks = ticksOf(scale, domain, Math.max(2, Math.round((width - left) / 90)))
  const drawn = ticks.flatMap((tick) => [
    line(x(tick), top - 6, x(tick), bottom, 'grid'),
    text(x(tick), top - 10, format(tick), MIDDLE),
  ])
  if (chart.xLabel) drawn.push(text(left - 8, top - 10, chart.xLabel, END))
  if (level) {
    drawn.push(line(x(level.value), top - 6, x(level.value), bottom, 'rule'))
    drawn.push(text(x(level.value), 12, level.name, MIDDLE))
  }
  for (const [index, row] of rows.entries()) {
    const y = top + ROW * (index + 0.5)
    drawn.push(text(left - 8, y + 4, row.name, { class: 'label', ...END }), dotRow(row, x, y))
  }
  return svg(width, bottom + 6, chart, drawn.join(''))
}
