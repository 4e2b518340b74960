/** Bar charts as SVG: groups of bars that are made of named parts, with a mark on each for what it is compared with. */
import { COLOURS, escaped, FAINT, INK, round } from './svg.js'

export interface Bar {
  name: string
  parts: readonly { name: string; value: number }[]
  /** What the bar is labelled with; the parts add up to it. */
  total: number
  mark?: number
}

export interface BarChart {
  title: string
  subtitle: string
  /** A value in words. */
  format: (value: number) => string
  /** What the marks are. */
  mark: string
  groups: readonly { name: string; bars: readonly Bar[] }[]
}

const [WIDTH, LEFT, RIGHT, TOP] = [860, 110, 110, 96]
const [BAR, GAP, HEAD] = [18, 8, 30]

/** The chart as an SVG document. Each group has a scale of its own, since models differ by orders of magnitude. */
export function barChart(chart: BarChart): string {
  const names = [
    ...new Set(chart.groups.flatMap(({ bars }) => bars.flatMap(({ parts }) => parts.map((p) => p.name)))),
  ]
  const colour = (name: string) => COLOURS[names.indexOf(name) % COLOURS.length] as string
  const text = (x: number, y: number, words: string, rest = '') =>
    `<text x="${round(x)}" y="${round(y)}" ${rest}>${escaped(words)}</text>`
  let y = TOP
  const drawn = chart.groups.flatMap(({ name, bars }) => {
    const most = Math.max(...bars.flatMap(({ total, mark = 0 }) => [total, mark]))
    const scale = (value: number) => ((WIDTH - LEFT - RIGHT) * value) / most
    const head = text(24, y + 18, name, `font-weight="600" fill="${INK}"`)
    y += HEAD
    const lines = bars.flatMap((bar) => {
      let x = LEFT
      const parts = bar.parts.map(({ name: part, value }) => {
        const width = scale(value)
        x += width
        return `<rect x="${round(x - width)}" y="${y}" width="${round(width)}" height="${BAR}" fill="${colour(part)}"><title>${escaped(`${part}: ${chart.format(value)}`)}</title></rect>`
      })
      const end = LEFT + scale(Math.max(bar.total, bar.mark ?? 0))
      const at = LEFT + scale(bar.mark ?? 0)
      const mark = bar.mark
        ? [
            `<path d="M${round(at)} ${y - 3}V${y + BAR + 3}" stroke="${INK}" stroke-width="2"><title>${escaped(`${chart.mark}: ${chart.format(bar.mark)}`)}</title></path>`,
          ]
        : []
      const line = [
        text(LEFT - 8, y + 13, bar.name, 'text-anchor="end"'),
        ...parts,
        ...mark,
        text(end + 8, y + 13, chart.format(bar.total), `fill="${INK}"`),
      ]
      y += BAR + GAP
      return line
    })
    y += GAP
    return [head, ...lines]
  })
  const legend = names.map((name, index) => {
    const x = 24 + 136 * (index % 6)
    const line = y + 16 + 20 * Math.floor(index / 6)
    return `<rect x="${x}" y="${line}" width="12" height="12" fill="${colour(name)}"/>${text(x + 18, line + 10, name)}`
  })
  const marked = chart.groups.some(({ bars }) => bars.some(({ mark }) => mark))
  const line = y + 16 + 20 * Math.ceil(names.length / 6)
  const height = line + (marked ? 32 : 12)
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" rx="8" fill="#ffffff"/>`,
    text(24, 32, chart.title, `font-size="17" font-weight="600" fill="${INK}"`),
    text(24, 52, chart.subtitle),
    text(24, 72, 'Bars: planned, by category. Every model has a scale of its own.'),
    ...drawn,
    ...legend,
    ...(marked
      ? [`<path d="M30 ${line}v14" stroke="${INK}" stroke-width="2"/>`, text(42, line + 11, chart.mark)]
      : []),
    '</svg>',
  ].join('\n')}\n`
}
