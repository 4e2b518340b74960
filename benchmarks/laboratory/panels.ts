/** Charts next to and below each other, all with the same total width. */

import { FIGURE_WIDTH } from '../../lib/bench/pictures.js'
import type { Mark } from '../../lib/report/chart/index.js'
import { drawMark, svg, text, widthOf } from '../../lib/report/chart/index.js'

const GAP = 24

/** Width of each chart when `columns` are next to each other. */
export function columnWidth(columns: number): number {
  return (FIGURE_WIDTH - GAP * (columns - 1)) / columns
}

/** Charts in rows of `columns`, each at its own width. */
export function panels(charts: readonly string[], columns: number, title: string, gap = GAP): string {
  const sized = charts.map((chart) => {
    const [, , width = 0, height = 0] = (/viewBox="([^"]*)"/.exec(chart)?.[1] ?? '').split(' ').map(Number)
    return { chart, width, height }
  })
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(0, ...sized.filter((_, i) => i % columns === column).map(({ width }) => width)),
  )
  let [top, drawn, bottom] = [0, '', 0]
  for (const [i, { chart, width, height }] of sized.entries()) {
    if (i > 0 && i % columns === 0) top = bottom + gap
    const left = widths.slice(0, i % columns).reduce((sum, one) => sum + one + gap, 0)
    drawn += chart.replace('<svg ', `<svg x="${left}" y="${top}" width="${width}" height="${height}" `)
    bottom = Math.max(bottom, top + height)
  }
  const width = widths.reduce((sum, one) => sum + one + gap, -gap)
  return svg(width, bottom, { title }, drawn)
}

/** A chart with a line of text above it. */
export function captioned(chart: string, words: string): string {
  const [, width = FIGURE_WIDTH] = /viewBox="0 0 ([\d.]+)/.exec(chart) ?? []
  const caption = svg(Number(width), 18, { title: words }, text(0, 13, words, { class: 'label' }))
  return panels([caption, chart], 1, words, 4)
}

/** Marks with their names, in rows. */
export function legend(entries: readonly { name: string; mark: Mark }[]): string {
  let [x, y] = [6, 10]
  const drawn = entries.map(({ name, mark }) => {
    const room = 34 + widthOf(name)
    if (x > 6 && x + room > FIGURE_WIDTH + 20) [x, y] = [6, y + 20]
    const at = x
    x += room
    return drawMark(at, y, mark) + text(at + 10, y + 4, name)
  })
  return svg(FIGURE_WIDTH, y + 10, { title: entries.map(({ name }) => name).join(', ') }, drawn.join(''))
}
