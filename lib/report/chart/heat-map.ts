/** A heat map: darker cells are larger values (lighter cells in dark mode). Numbers are shown where they fit. */
import { formatTick, isNumber } from './numbers.js'
import { HEAT_STEPS } from './palette.js'
import { type ScaleType, scaleOf } from './scale.js'
import type { Value } from './series.js'
import { type Described, END, element, hint, MIDDLE, svg, text, widthOf } from './svg.js'

export interface HeatMap extends Described {
  width: number
  rows: readonly string[]
  columns: readonly string[]
  /** By row and column; missing values give empty cells. */
  values: readonly (readonly Value[])[]
  /** Numbers that the cells show. Default: the values, which always choose the colors. */
  shown?: readonly (readonly Value[])[]
  /** Ends of the color scale. Default: from 0 to the largest value. */
  domain?: readonly [number, number]
  /** Type of color scale; a log scale needs a positive domain. */
  scale?: ScaleType
  format?: (value: number) => string
}

const TOP = 22

export function heatMap(chart: HeatMap): string {
  const { width, rows, columns, values, format = formatTick, scale = 'linear' } = chart
  const present = values.flat().filter(isNumber)
  const [low, high] = chart.domain ?? [0, present.reduce((most, value) => Math.max(most, value), 0)]
  const shareOf = scaleOf(scale, [low, high], [0, 1])
  const left = 14 + Math.max(0, ...rows.map(widthOf))
  const cell = (width - left) / Math.max(1, columns.length)
  const height = Math.min(30, Math.max(14, 440 / Math.max(1, rows.length)))
  const roomFor = (words: string) => widthOf(words) <= cell - 4
  const shown = chart.shown ?? values
  const written =
    height >= 14 &&
    shown
      .flat()
      .filter(isNumber)
      .every((value) => roomFor(format(value)))
  // If not all names fit, show every n-th.
  const every = Math.ceil(Math.max(1, ...columns.map((name) => widthOf(name) / Math.max(1, cell - 2))))
  const drawn = columns.flatMap((name, j) =>
    j % every === 0 ? [text(left + cell * (j + 0.5), 13, name, MIDDLE)] : [],
  )
  for (const [i, name] of rows.entries()) {
    const middle = TOP + height * (i + 0.5) + 4
    drawn.push(text(left - 10, middle, name, END))
    for (const [j, column] of columns.entries()) {
      const value = values[i]?.[j]
      if (!isNumber(value)) continue
      const share = shareOf(value)
      const words = format(shown[i]?.[j] ?? value)
      const step = Math.round(Math.min(1, Math.max(0, share)) * HEAT_STEPS)
      const box = {
        x: left + cell * j + 1,
        y: TOP + height * i + 1,
        width: cell - 2,
        height: height - 2,
        rx: 2,
      }
      drawn.push(element('rect', { class: `h${step}`, ...box }, hint(`${name} ${column}: ${words}`)))
      if (written) drawn.push(text(left + cell * (j + 0.5), middle, words, { class: `t${step}`, ...MIDDLE }))
    }
  }
  return svg(width, TOP + height * rows.length + 4, chart, drawn.join(''))
}
