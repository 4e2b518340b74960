/**
 * Marks of series: seven hues combined with filled circle, open circle, and square. A name has the same mark in every
 * chart.
 */
import { HUES } from './palette.js'
import { element } from './svg.js'

export type Shape = 'filled' | 'open' | 'square'

export interface Mark {
  hue: number
  shape: Shape
}

const SHAPES: readonly Shape[] = ['filled', 'open', 'square']

/** The mark of the n-th series, counted from 0. */
export function markOf(index: number): Mark {
  return { hue: index % HUES, shape: SHAPES[Math.floor(index / HUES) % SHAPES.length] as Shape }
}

/** @param content tooltip element */
export function drawMark(x: number, y: number, { hue, shape }: Mark, radius = 4.2, content = ''): string {
  if (shape === 'square') {
    const side = radius * 1.8
    const at = { x: x - side / 2, y: y - side / 2, width: side, height: side }
    return element('rect', { class: `k${hue} fl dot`, ...at }, content)
  }
  const kind = shape === 'open' ? `k${hue} st open` : `k${hue} fl dot`
  return element('circle', { class: kind, cx: x, cy: y, r: radius }, content)
}
