/** Pieces of a drawing of a strategy: signs, matrices, boxes with words, and arrows between them. */

export const COLORS = {
  trained: { fill: '#ffe7cc', stroke: '#bc4c00', text: '#7a3300' },
  frozen: { fill: '#eaeef2', stroke: '#6e7781', text: '#424a53' },
  measured: { fill: '#ddf0ff', stroke: '#0969da', text: '#0a3069' },
  updated: { fill: '#dcf3e6', stroke: '#1a7f4b', text: '#0e5530' },
}
export const INK = '#1f2328'
export const FAINT = '#59636e'

const GAP = 12
/** Font size of shapes and notes. */
export const SMALL = 11

export const round = (value) => Number(value.toFixed(1))
export const escaped = (words) => String(words).replaceAll('&', '&amp;').replaceAll('<', '&lt;')
/** Side of a rectangle for as many rows or columns: their square root, so that a rank can be seen beside a width. */
const side = (count) => Math.max(10, 3.6 * Math.sqrt(count))
export const text = (x, y, words, rest = '') =>
  `<text x="${round(x)}" y="${round(y)}" ${rest}>${escaped(words)}</text>`

/** Estimated width of text; generous, since readers' fonts differ. */
export const widthOf = (words, size = 13) => words.length * size * 0.58

/**
 * A piece of the formula: its width, its height around its middle, what is below that, and how it is drawn with its
 * left edge at x and its middle at y.
 */
export const sign = (words, size = 20) => ({
  width: words.length * size * 0.56 + 4,
  height: size,
  draw: (x, y) => [text(x + 2, y + size * 0.34, words, `font-size="${size}" fill="${INK}"`)],
})

/**
 * @param options.note a line below the shape
 * @param options.diagonal draw a vector as a diagonal matrix
 * @param options.color default: whether the factor trains
 * @param options.first `rows` or `cols`: only the first of them are in use, in a step
 */
export function matrix(label, factor, { shared = 0, note = '', diagonal = false, first, color } = {}) {
  const { fill, stroke, text: ink } = COLORS[color ?? (factor.trained ? 'trained' : 'frozen')]
  const count = factor.rows * factor.cols
  const [rows, cols] = diagonal ? [count, count] : [factor.rows, factor.cols]
  const [width, height] = [side(cols), side(rows)]
  const shape = diagonal ? `[${count}]` : `[${rows}, ${cols}]`
  const wide = Math.max(width, widthOf(label), widthOf(shape, SMALL), widthOf(note, SMALL))
  return {
    width: wide,
    height: height + 44,
    below: note ? 14 : 0,
    draw: (x, y) => {
      const [left, top] = [x + (wide - width) / 2, y - height / 2]
      const box = (dx, dy) =>
        `<rect x="${round(left + dx)}" y="${round(top + dy)}" width="${round(width)}" height="${round(height)}" rx="2" fill="${fill}" stroke="${stroke}" stroke-width="1.5"/>`
      const middle = x + wide / 2
      return [
        ...(shared > 1 ? [box(6, -6), box(3, -3)] : []),
        ...(diagonal
          ? [
              box(0, 0)
                .replace(/fill="[^"]+"/, 'fill="#ffffff"')
                .replace(/stroke-width="1.5"/, 'stroke-width="1" stroke-dasharray="3 3"'),
              `<line x1="${round(left)}" y1="${round(top)}" x2="${round(left + width)}" y2="${round(top + height)}" stroke="${stroke}" stroke-width="5"/>`,
            ]
          : [box(0, 0)]),
        ...(first === undefined ? [] : [unused(left, top, width, height, first, stroke)]),
        text(
          middle,
          top - (shared > 1 ? 14 : 8),
          label,
          `text-anchor="middle" font-weight="600" fill="${ink}"`,
        ),
        text(middle, top + height + 15, shape, `text-anchor="middle" font-size="${SMALL}" fill="${FAINT}"`),
        ...(note
          ? [text(middle, top + height + 29, note, `text-anchor="middle" font-size="${SMALL}" fill="${ink}"`)]
          : []),
      ]
    },
  }
}

/** Covers the second half of the rows or columns of a matrix. */
function unused(left, top, width, height, first, stroke) {
  const [w, h] = first === 'rows' ? [width, height / 2] : [width / 2, height]
  return `<rect x="${round(left + width - w)}" y="${round(top + height - h)}" width="${round(w)}" height="${round(h)}" fill="#ffffff" stroke="${stroke}" stroke-dasharray="3 3"/>`
}

/** Pieces from left to right. A block is drawn with its left edge at x and its upper edge at y. */
export function rowOf(pieces) {
  const height = Math.max(...pieces.map((piece) => piece.height))
  const below = Math.max(...pieces.map((piece) => piece.below ?? 0))
  return {
    width: pieces.reduce((sum, piece) => sum + piece.width + GAP, -GAP),
    height: height + below,
    draw: (x, y) => {
      let left = x
      return pieces.flatMap((piece) => {
        const drawn = piece.draw(left, y + height / 2)
        left += piece.width + GAP
        return drawn
      })
    },
  }
}

/** Lines of text as a block. */
export const linesOf = (lines, size = 12) => ({
  width: Math.max(...lines.map((words) => widthOf(words, size))),
  height: lines.length * (size + 6),
  draw: (x, y) => lines.map((words, i) => text(x, y + size + i * (size + 6), words, `font-size="${size}"`)),
})

/** A box with lines of text, the first of which is its name, around the middle y. */
export function box(x, y, width, [name, ...lines], color) {
  const { fill, stroke, text: ink } = COLORS[color]
  const height = 28 + 15 * lines.length
  const [middle, top] = [x + width / 2, y - height / 2]
  return [
    `<rect x="${round(x)}" y="${round(top)}" width="${width}" height="${height}" rx="3" fill="${fill}" stroke="${stroke}" stroke-width="1.5"/>`,
    text(middle, top + 19, name, `text-anchor="middle" font-size="12" font-weight="600" fill="${ink}"`),
    ...lines.map((words, i) =>
      text(middle, top + 35 + 15 * i, words, `text-anchor="middle" font-size="${SMALL}" fill="${ink}"`),
    ),
  ]
}

/** An arrow along straight segments through the points. */
export function arrow(...points) {
  const [from, [x, y]] = points.slice(-2)
  const [dx, dy] = [x - from[0], y - from[1]].map((part, _, all) => (7 * part) / Math.hypot(...all))
  const pathOf = (list) => `M${list.map((point) => point.map(round).join(' ')).join('L')}`
  const head = [-1, 1].map((half) => [x - dx - (half * dy) / 2, y - dy + (half * dx) / 2])
  return [
    `<path d="${pathOf(points)}" fill="none" stroke="${INK}" stroke-width="1.3"/>`,
    `<path d="${pathOf([[x, y], ...head])}Z" fill="${INK}"/>`,
  ]
}
