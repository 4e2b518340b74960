/** Finds labels of a picture that lie on each other, on a line of another element, or partly outside. */
import { type Box, type Point, passes } from '../lib/report/chart/free-place.js'

interface Label extends Box {
  words: string
}

interface Frame {
  x: number
  y: number
  size: number
  width: number
  height: number
}

/** Widths of letters in ems, as in wide fonts. */
const [REGULAR, BOLD] = [0.58, 0.65]
/** Type of lines that labels may cross. */
const GRID = /\b(grid|ground)\b/

/**
 * @param svg an SVG document as the package's scripts write them: elements without transforms, but nested `svg`
 * @returns a sentence for each overlap
 */
export function overlapsIn(svg: string): string[] {
  const { labels, strokes, frame } = partsOf(svg)
  return labels.flatMap((label, i) => [
    ...labels
      .slice(i + 1)
      .filter((other) => meet(label, other))
      .map((other) => `"${label.words}" overlaps "${other.words}"`),
    ...strokes
      .filter((path) => passes(path, label))
      .map((path) => `"${label.words}" is crossed at ${path.join('; ')}`),
    ...(label.left < 0 || label.top < 0 || label.right > frame.width || label.bottom > frame.height
      ? [`"${label.words}" leaves the picture`]
      : []),
  ])
}

function meet(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}

function partsOf(svg: string) {
  const labels: Label[] = []
  const strokes: Point[][] = []
  const frames: Frame[] = [{ x: 0, y: 0, size: 12, width: 0, height: 0 }]
  let whole: Frame | undefined
  for (const [, closing, name, rest = '', words = ''] of svg.matchAll(/<(\/?)([a-z]+)([^>]*)>([^<]*)/g)) {
    const frame = frames.at(-1) as Frame
    const attributes = Object.fromEntries(
      [...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
    )
    const of = (key: string) => Number(attributes[key] ?? 0)
    if (name === 'svg') {
      if (closing) frames.pop()
      else
        frames.push({
          ...{ x: frame.x + of('x'), y: frame.y + of('y') },
          ...{
            size: Number(attributes['font-size'] ?? frame.size),
            width: of('width'),
            height: of('height'),
          },
        })
      whole ??= frames.at(-1)
    } else if (name === 'text' && !closing) labels.push(labelOf(unescaped(words), attributes, frame))
    else if (!GRID.test(attributes.class ?? '') && isStroked(name, attributes))
      strokes.push(
        ...pathsOf(name, attributes, of).map((path) =>
          path.map(([x, y]): Point => [x + frame.x, y + frame.y]),
        ),
      )
  }
  return { labels, strokes, frame: whole as Frame }
}

type Attributes = Record<string, string>

function labelOf(words: string, attributes: Attributes, frame: Frame): Label {
  const isTitle = /\btitle\b/.test(attributes.class ?? '')
  const isBold = isTitle || attributes['font-weight'] === '600' || /\blabel\b/.test(attributes.class ?? '')
  const size = isTitle ? 17 : Number(attributes['font-size'] ?? frame.size)
  const width = [...words].length * size * (isBold ? BOLD : REGULAR)
  const anchor = attributes['text-anchor']
  const left =
    frame.x + Number(attributes.x) - (anchor === 'middle' ? width / 2 : anchor === 'end' ? width : 0)
  const base = frame.y + Number(attributes.y)
  return { words, left, right: left + width, top: base - 0.75 * size, bottom: base + 0.2 * size }
}

/** In charts, whose styles are by class, only lines count: cells and bars may have labels inside. */
function isStroked(name: string | undefined, attributes: Attributes): boolean {
  if (attributes.class === undefined) return attributes.stroke !== undefined
  return name === 'line' || (name === 'path' && !/\bfl\b/.test(attributes.class))
}

function pathsOf(name: string | undefined, attributes: Attributes, of: (key: string) => number): Point[][] {
  if (name === 'line')
    return [
      [
        [of('x1'), of('y1')],
        [of('x2'), of('y2')],
      ],
    ]
  if (name === 'path') return pointsOf(attributes.d ?? '')
  if (name !== 'rect') return []
  const [left, top, right, bottom] = [of('x'), of('y'), of('x') + of('width'), of('y') + of('height')]
  return [
    [
      [left, top],
      [right, top],
      [right, bottom],
      [left, bottom],
      [left, top],
    ],
  ]
}

/** The points of a path of straight segments. */
function pointsOf(d: string): Point[][] {
  const paths: Point[][] = []
  let [x, y] = [0, 0]
  for (const [, kind = '', rest = ''] of d.matchAll(/([a-zA-Z])([^a-zA-Z]*)/g)) {
    const [first = 0, second = 0] = rest.trim().split(/[ ,]+/).map(Number)
    if (kind === 'M' || kind === 'L') [x, y] = [first, second]
    else if (kind === 'H') x = first
    else if (kind === 'V') y = first
    else if (kind === 'h') x += first
    else if (kind === 'v') y += first
    else if (kind === 'Z') [x, y] = paths.at(-1)?.[0] ?? [x, y]
    else throw new Error(`a path has ${kind}, which is not measured: ${d}`)
    if (kind === 'M') paths.push([])
    paths.at(-1)?.push([x, y])
  }
  return paths
}

function unescaped(words: string): string {
  return words
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
}
