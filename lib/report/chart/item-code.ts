/**
 * A bar code of items: one row per entry, one column per item, shaded by the fraction of seeds that answer it
 * correctly.
 */
import { formatShare, isNumber } from './numbers.js'
import { HEAT_STEPS } from './palette.js'
import type { Value } from './series.js'
import { type Described, END, element, hint, svg, text, widthOf } from './svg.js'

export interface ItemCode extends Described {
  width: number
  /** `shares` has one value from 0 to 1 per item, in the same order for all rows. */
  rows: readonly { name: string; shares: readonly Value[] }[]
}

const [ROW, BAR] = [24, 20]

/** Item indices from the easiest to the hardest, by the mean over rows. */
export function byDifficulty(rows: readonly { shares: readonly Value[] }[]): number[] {
  const items = Math.max(0, ...rows.map(({ shares }) => shares.length))
  const sums = Array.from({ length: items }, (_, item) =>
    rows.reduce((sum, { shares }) => sum + (shares[item] ?? 0), 0),
  )
  return [...sums.keys()].sort((a, b) => (sums[b] as number) - (sums[a] as number) || a - b)
}

/** Adjacent items of the same shade share one rectangle, to keep the SVG small for thousands of items. */
export function itemCode(chart: ItemCode): string {
  const { width, rows } = chart
  const order = byDifficulty(rows)
  const left = 14 + Math.max(0, ...rows.map(({ name }) => widthOf(name)))
  const column = (width - left) / Math.max(1, order.length)
  const drawn: string[] = []
  for (const [index, { name, shares }] of rows.entries()) {
    const y = ROW * index
    drawn.push(text(left - 10, y + BAR / 2 + 4, name, END))
    const steps = order.map((item) => {
      const share = shares[item]
      return isNumber(share) ? Math.round(Math.min(1, Math.max(0, share)) * HEAT_STEPS) : null
    })
    for (let begin = 0; begin < steps.length; ) {
      let end = begin + 1
      while (end < steps.length && steps[end] === steps[begin]) end++
      const step = steps[begin]
      if (isNumber(step)) {
        const box = { x: left + column * begin, y, width: Math.max(0.4, column * (end - begin)), height: BAR }
        const words = `${name}: ${end - begin} items at ${formatShare(step / HEAT_STEPS)}`
        drawn.push(element('rect', { class: `h${step}`, ...box }, hint(words)))
      }
      begin = end
    }
  }
  return svg(width, ROW * rows.length, chart, drawn.join(''))
}
