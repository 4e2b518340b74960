/** SVG elements for charts. Styles are in `chartStyle`, so that pages need no inline styles. */
import { pixels } from './numbers.js'
import { chartStyle, LIGHT } from './palette.js'

export interface Described {
  title: string
  /** The numbers in a sentence, for screen readers. */
  description?: string
}

export function escaped(words: string | number): string {
  return String(words)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

export type Attributes = Readonly<Record<string, string | number | undefined>>

/** `content` is SVG; numeric attributes are rounded to a tenth of a pixel. */
export function element(name: string, attributes: Attributes, content = ''): string {
  const told = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? pixels(value) : escaped(value ?? '')}"`)
    .join('')
  return content === '' ? `<${name}${told}/>` : `<${name}${told}>${content}</${name}>`
}

export function text(x: number, y: number, words: string, attributes: Attributes = {}): string {
  return element('text', { x, y, ...attributes }, escaped(words))
}

/** Anchors of text. */
export const END = { 'text-anchor': 'end' } as const
export const MIDDLE = { 'text-anchor': 'middle' } as const

/** A tooltip for an element. */
export function hint(words: string): string {
  return `<title>${escaped(words)}</title>`
}

export function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return element('line', { class: kind, x1, y1, x2, y2 })
}

/** Estimated text width in pixels at 12 px; generous, since readers' fonts differ. */
export function widthOf(words: string): number {
  return 6.9 * words.length
}

/** Estimated width of bold text, as used for labels. */
export function boldWidthOf(words: string): number {
  return 7.7 * words.length
}

/** A chart. In a page it fills the available width and uses the page's styles. */
export function svg(
  width: number,
  height: number,
  { title, description }: Described,
  content: string,
): string {
  const label = description ? `${title}. ${description}` : title
  const size = `${pixels(width)} ${pixels(height)}`
  return `<svg class="chart" viewBox="0 0 ${size}" role="img" aria-label="${escaped(label)}">${content}</svg>`
}

export interface Labels {
  title: string
  /** Lines under the title. */
  lines?: readonly string[]
}

const [MARGIN, LINE] = [24, 20]

/** A chart as a standalone document with title, background, and styles. */
export function svgDocument(chart: string, { title, lines = [] }: Labels, palette = LIGHT): string {
  const [, , width = 0, height = 0] = (/viewBox="([^"]*)"/.exec(chart)?.[1] ?? '').split(' ').map(Number)
  const top = MARGIN + 26 + LINE * lines.length
  const [fullWidth, fullHeight] = [pixels(width + 2 * MARGIN), pixels(top + height + MARGIN)]
  const nested = chart.replace(
    '<svg ',
    `<svg x="${MARGIN}" y="${top}" width="${width}" height="${height}" overflow="visible" `,
  )
  const size = `width="${fullWidth}" height="${fullHeight}" viewBox="0 0 ${fullWidth} ${fullHeight}"`
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" class="chart" ${size} role="img" aria-label="${escaped(title)}" font-family="system-ui, sans-serif">`,
    `<title>${escaped(title)}</title>`,
    `<style>${chartStyle(palette)}</style>`,
    element('rect', { class: 'ground', width: fullWidth, height: fullHeight, rx: 8 }),
    text(MARGIN, MARGIN + 10, title, { class: 'title' }),
    ...lines.map((words, index) => text(MARGIN, MARGIN + 32 + LINE * index, words)),
    nested,
    '</svg>',
  ].join('\n')}\n`
}

/** A label that can be moved to avoid overlaps. */
export interface Placed {
  y: number
}

/** Moves labels at least `gap` apart, keeping their order, between `low` and `high`. */
export function spread<L extends Placed>(labels: readonly L[], gap: number, low: number, high: number): L[] {
  const sorted = labels.map((label) => ({ ...label })).sort((a, b) => a.y - b.y)
  for (let round = 0; round < 60; round++) {
    let moved = false
    for (const [index, label] of sorted.entries()) {
      const above = sorted[index - 1]
      const missing = above === undefined ? 0 : gap - (label.y - above.y)
      if (above !== undefined && missing > 0.05) {
        label.y += missing / 2
        above.y -= missing / 2
        moved = true
      }
    }
    for (const label of sorted) label.y = Math.min(high, Math.max(low, label.y))
    if (!moved) break
  }
  return sorted
}
