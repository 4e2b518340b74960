/** Line charts as SVG: series of points with a spread, over a few named places of the x axis. */
import { COLORS, escaped, FAINT, INK, round } from './svg.js'

export interface Series {
  name: string
  /** By place of the x axis; null where there is no point. */
  points: readonly ({ mean: number; low: number; high: number } | null)[]
}

export interface LineChart {
  title: string
  subtitle: string
  xLabel: string
  yLabel: string
  /** Places of the x axis, from left to right. */
  ticks: readonly string[]
  /** Ends of the y axis. */
  range: readonly [number, number]
  /** A level to compare with, and what it is. */
  level?: { value: number; name: string }
  series: readonly Series[]
}

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [760, 420, 64, 70, 200, 56]

/** The chart as an SVG document. */
export function lineChart(chart: LineChart): string {
  const [low, high] = chart.range
  const x = (index: number) =>
    LEFT + ((WIDTH - LEFT - RIGHT) * (index + 0.5)) / Math.max(1, chart.ticks.length)
  const y = (value: number) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value - low)) / (high - low)
  const text = (at: [number, number], words: string, rest = '') =>
    `<text x="${round(at[0])}" y="${round(at[1])}" ${rest}>${escaped(words)}</text>`
  const line = (from: [number, number], to: [number, number], rest: string) =>
    `<line x1="${round(from[0])}" y1="${round(from[1])}" x2="${round(to[0])}" y2="${round(to[1])}" ${rest}/>`
  const grid = [0, 1, 2, 3, 4].flatMap((step) => {
    const value = low + ((high - low) * step) / 4
    return [
      line([LEFT, y(value)], [WIDTH - RIGHT, y(value)], 'stroke="#d0d7de"'),
      text([LEFT - 8, y(value) + 4], value.toFixed(2), 'text-anchor="end"'),
    ]
  })
  const level = chart.level
    ? [
        line(
          [LEFT, y(chart.level.value)],
          [WIDTH - RIGHT, y(chart.level.value)],
          `stroke="${FAINT}" stroke-dasharray="4 4"`,
        ),
        text([WIDTH - RIGHT + 8, y(chart.level.value) + 4], chart.level.name),
      ]
    : []
  const drawn = chart.series.flatMap(({ name, points }, index) => {
    const color = COLORS[index % COLORS.length] as string
    // Beside each other, so that spreads do not cover one another.
    const aside = (index - (chart.series.length - 1) / 2) * 7
    const places = points.flatMap((point, place) => (point ? [{ ...point, at: x(place) + aside }] : []))
    const path = places
      .map(({ at, mean }, i) => `${i === 0 ? 'M' : 'L'}${round(at)} ${round(y(mean))}`)
      .join(' ')
    const legend = TOP + 14 + 22 * index
    return [
      `<path d="${path}" fill="none" stroke="${color}" stroke-width="2"/>`,
      ...places.flatMap((point) => [
        line([point.at, y(point.low)], [point.at, y(point.high)], `stroke="${color}" stroke-width="1.5"`),
        `<circle cx="${round(point.at)}" cy="${round(y(point.mean))}" r="3.5" fill="${color}"/>`,
      ]),
      line(
        [WIDTH - RIGHT + 12, legend - 4],
        [WIDTH - RIGHT + 34, legend - 4],
        `stroke="${color}" stroke-width="3"`,
      ),
      text([WIDTH - RIGHT + 42, legend], name, `fill="${INK}"`),
    ]
  })
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" rx="8" fill="#ffffff"/>`,
    text([24, 32], chart.title, `font-size="17" font-weight="600" fill="${INK}"`),
    text([24, 52], chart.subtitle),
    ...grid,
    ...chart.ticks.map((tick, index) => text([x(index), HEIGHT - BOTTOM + 20], tick, 'text-anchor="middle"')),
    text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14], chart.xLabel, 'text-anchor="middle"'),
    text(
      [18, (TOP + HEIGHT - BOTTOM) / 2],
      chart.yLabel,
      `text-anchor="middle" transform="rotate(-90 18 ${(TOP + HEIGHT - BOTTOM) / 2})"`,
    ),
    ...level,
    ...drawn,
    '</svg>',
  ].join('\n')}\n`
}
