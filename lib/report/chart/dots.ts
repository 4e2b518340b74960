/** Dots with whiskers: a row per entry, with its mean, interval, and individual values on a shared scale. */
import { drawMark, type Mark } from './mark.js'
import { isNumber } from './numbers.js'
import type { Scale } from './scale.js'
import { extent, type Value } from './series.js'
import { element, hint, line } from './svg.js'

export interface DotRow {
  name: string
  mark: Mark
  mean: Value
  interval?: readonly [number, number] | null
  /** Small marks below the mean, one per seed. */
  seeds?: readonly Value[]
}

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
