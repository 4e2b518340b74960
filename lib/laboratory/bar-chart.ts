/** Bar charts as SVG: groups of bars that are made of named parts, with a mark on each for what it is compared with. */
import { escaped, FAINT, INK, round, widthOf } from './svg.js'

export interface Bar {
  name: string
  /** Their names are keys of the chart's colors. */
  parts: readonly { name: string; value: number }[]
  /** The label of the bar; the parts add up to it. */
  total: number
  mark?: number
}

export interface BarChart {
  title: string
  subtitle: string
  /** Explains bars and marks. */
  caption: string
  /** Formats a value. */
  format: (value: number) => string
  /** The name of the marks, in the legend and beside each value. */
  mark: string
  /** Color of each part by name; the legend keeps this order and leaves out what no bar has. */
  colors: Readonly<Record<string, string>>
  groups: readonly { name: string; bars: readonly Bar[] }[]
}

const [WIDTH, MARGIN, TOP] = [860, 24, 96]
const [BAR, GAP, HEAD] = [18, 8, 30]
/** The legend's row, swatch with the space after it, and space between two entries, in pixels. */
const [ROW, SWATCH, BETWEEN] = [20, 18, 20]

/** The chart as an SVG document. Each group has a scale of its own, since models differ by orders of magnitude. */
export function barChart(chart: BarChart): string {
  const bars = chart.groups.flatMap((group) => group.bars)
  const label = ({ total, mark }: Bar) =>
    chart.format(total) + (mark === undefined ? '' : `, ${chart.mark} ${chart.format(mark)}`)
  const left = MARGIN + 8 + Math.max(...bars.map(({ name }) => widthOf(name)))
  const right = MARGIN + 8 + Math.max(...bars.map((bar) => widthOf(label(bar))))
  let y = TOP
  const drawn = chart.groups.flatMap((group) => {
    const most = Math.max(...group.bars.flatMap(({ total, mark = 0 }) => [total, mark]))
    const scale = (value: number) => ((WIDTH - left - right) * value) / most
    const head = text(MARGIN, y + 18, group.name, `font-weight="600" fill="${INK}"`)
    y += HEAD
    const lines = group.bars.flatMap((bar) => {
      let x = left
      const parts = bar.parts.map(({ name, value }) => {
        const width = scale(value)
        x += width
        return `<rect x="${round(x - width)}" y="${y}" width="${round(width)}" height="${BAR}" fill="${chart.colors[name]}"><title>${escaped(`${name}: ${chart.format(value)}`)}</title></rect>`
      })
      const end = left + scale(Math.max(bar.total, bar.mark ?? 0))
      const mark =
        bar.mark === undefined
          ? []
          : [
              `<path d="M${round(left + scale(bar.mark))} ${y - 3}V${y + BAR + 3}" stroke="${INK}" stroke-width="2"><title>${escaped(`${chart.mark}: ${chart.format(bar.mark)}`)}</title></path>`,
            ]
      const line = [
        text(left - 8, y + 13, bar.name, 'text-anchor="end"'),
        ...parts,
        ...mark,
        text(end + 8, y + 13, label(bar), `fill="${INK}"`),
      ]
      y += BAR + GAP
      return line
    })
    y += GAP
    return [head, ...lines]
  })
  const { drawn: legend, bottom } = legendOf(chart, bars, y + 16)
  const height = bottom + 12
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" rx="8" fill="#ffffff"/>`,
    text(MARGIN, 32, chart.title, `font-size="17" font-weight="600" fill="${INK}"`),
    text(MARGIN, 52, chart.subtitle),
    text(MARGIN, 72, chart.caption),
    ...drawn,
    ...legend,
    '</svg>',
  ].join('\n')}\n`
}

/** A swatch and a name for each part, in rows as wide as the chart, and the mark last. */
function legendOf(chart: BarChart, bars: readonly Bar[], top: number): { drawn: string[]; bottom: number } {
  const used = new Set(bars.flatMap(({ parts }) => parts.map(({ name }) => name)))
  const names = Object.keys(chart.colors).filter((name) => used.has(name))
  const marked = bars.some(({ mark }) => mark !== undefined)
  let [x, y] = [MARGIN, top]
  const drawn = [...names, ...(marked ? [chart.mark] : [])].map((name, index) => {
    const width = SWATCH + widthOf(name)
    if (x > MARGIN && x + width > WIDTH - MARGIN) [x, y] = [MARGIN, y + ROW]
    const symbol =
      index < names.length
        ? `<rect x="${round(x)}" y="${y}" width="12" height="12" fill="${chart.colors[name]}"/>`
        : `<path d="M${round(x + 6)} ${y - 1}v14" stroke="${INK}" stroke-width="2"/>`
    const entry = symbol + text(x + SWATCH, y + 10, name)
    x += width + BETWEEN
    return entry
  })
  return { drawn, bottom: y + ROW }
}

function text(x: number, y: number, words: string, rest = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" ${rest}>${escaped(words)}</text>`
}
