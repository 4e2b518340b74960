/** Stacked bars with named parts, in groups that each have their own scale, with an optional reference mark per bar. */
import { formatSize } from './numbers.js'
import { boldWidthOf, type Described, END, element, hint, line, svg, text, widthOf } from './svg.js'

export interface Part {
  name: string
  value: number
  /** Index into the palette's nine `parts`. */
  color: number
}

export interface Bar {
  name: string
  parts: readonly Part[]
  mark?: number
}

export interface BarChart extends Described {
  width: number
  /** Groups may differ by orders of magnitude, so each has its own scale. A single group needs no name. */
  groups: readonly { name?: string; bars: readonly Bar[] }[]
  format?: (value: number) => string
  /** Meaning of the marks, for labels and legend. */
  markName?: string
  /** List the parts in a legend below the bars; otherwise names appear above the first bar if they fit. */
  legend?: boolean
}

const [BAR, GAP, HEAD, ROW, SWATCH] = [26, 6, 28, 20, 18]
/** In charts narrower than this, names go above their bars. */
const NARROW = 520

export function barChart(chart: BarChart): string {
  const { width, groups, format = formatSize, markName = '' } = chart
  const bars = groups.flatMap((group) => group.bars)
  const narrow = width < NARROW
  const label = (bar: Bar) =>
    format(totalOf(bar)) + (bar.mark === undefined ? '' : `, ${markName} ${format(bar.mark)}`)
  const left = narrow ? 0 : 10 + Math.max(0, ...bars.map(({ name }) => widthOf(name)))
  const right = width - (narrow ? 4 : 10 + Math.max(0, ...bars.map((bar) => boldWidthOf(label(bar)))))
  const drawn: string[] = []
  let y = 0
  for (const group of groups) {
    const most = Math.max(...group.bars.flatMap((bar) => [totalOf(bar), bar.mark ?? 0])) || 1
    const scale = (value: number) => ((right - left) * value) / most
    if (group.name !== undefined) {
      drawn.push(text(0, y + 17, group.name, { class: 'label' }))
      y += HEAD
    }
    const first = group.bars[0]
    if (!narrow && !chart.legend && first) {
      drawn.push(...namesAbove(first, left, y + 11, scale))
      y += 17
    }
    for (const bar of group.bars) {
      if (narrow) {
        drawn.push(text(0, y + 13, `${bar.name}: ${label(bar)}`, { class: 'label' }))
        y += ROW
      } else drawn.push(text(left - 10, y + BAR / 2 + 4, bar.name, { class: 'note', ...END }))
      let x = left
      for (const { name, value, color } of bar.parts) {
        if (!(value > 0)) continue
        const box = { x, y, width: Math.max(scale(value), 0.6), height: BAR }
        // A very narrow part would be hidden by its outline.
        const kind = box.width < 3 ? `m${color}` : `m${color} part`
        drawn.push(element('rect', { class: kind, ...box }, hint(`${name}: ${format(value)}`)))
        x += scale(value)
      }
      if (bar.mark !== undefined) {
        const at = left + scale(bar.mark)
        drawn.push(line(at, y - 3, at, y + BAR + 3, 'mark'))
        x = Math.max(x, at)
      }
      if (!narrow) drawn.push(text(x + 8, y + BAR / 2 + 4, label(bar), { class: 'label' }))
      y += BAR + GAP
    }
    y += GAP
  }
  if (chart.legend) {
    const legend = legendOf(bars, width, y + GAP, markName)
    drawn.push(...legend.drawn)
    y = legend.bottom
  }
  return svg(width, y, chart, drawn.join(''))
}

function totalOf({ parts }: Bar): number {
  return parts.reduce((sum, { value }) => sum + value, 0)
}

/** Names of the parts that are wide enough for a label. */
function namesAbove({ parts }: Bar, left: number, y: number, scale: (value: number) => number): string[] {
  const drawn: string[] = []
  let [x, end] = [left, -Infinity]
  for (const { name, value } of parts) {
    const room = scale(value)
    if (room >= widthOf(name) && x >= end) {
      drawn.push(text(x + 1, y, name))
      end = x + widthOf(name)
    }
    x += room
  }
  return drawn
}

/** A swatch and a name for each part, in rows, followed by the mark. */
function legendOf(bars: readonly Bar[], width: number, top: number, markName: string) {
  const parts = new Map(bars.flatMap((bar) => bar.parts.map(({ name, color }) => [name, color] as const)))
  const marked = bars.some(({ mark }) => mark !== undefined)
  const drawn: string[] = []
  let [x, y] = [0, top]
  const add = (name: string, swatch: (x: number, y: number) => string) => {
    const room = SWATCH + widthOf(name)
    if (x > 0 && x + room > width) [x, y] = [0, y + ROW]
    drawn.push(swatch(x, y), text(x + SWATCH, y + 10, name))
    x += room + ROW
  }
  for (const [name, color] of [...parts].sort(([, a], [, b]) => a - b))
    add(name, (x, y) => element('rect', { class: `m${color}`, x, y, width: 12, height: 12, rx: 2 }))
  if (marked) add(markName, (x, y) => line(x + 6, y - 1, x + 6, y + 13, 'mark'))
  return { drawn, bottom: y + ROW }
}
