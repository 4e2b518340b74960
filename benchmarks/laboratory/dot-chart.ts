/** A chart of dots with whiskers, a row per entry. */
import {
  boldWidthOf,
  type Described,
  type DotRow,
  dotDomain,
  dotRow,
  END,
  formatTick,
  line,
  MIDDLE,
  type ScaleType,
  scaleOf,
  svg,
  text,
  ticksOf,
} from '../../lib/report/chart/index.js'

interface DotChart extends Described {
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
