/** The axes of a line chart: domains, ticks, and the label of the x axis. */
import type { Frame, Line, LineChart } from './line-types.js'
import { isNumber, pixels } from './numbers.js'
import { type Scale, type ScaleType, sizeTicks, ticksOf } from './scale.js'
import { extent } from './series.js'
import { END, element, hint, line, MIDDLE, text, widthOf } from './svg.js'

export function xDomainOf(lines: readonly Line[]): readonly [number, number] {
  return extent(lines.flatMap(({ x }) => [x[0] ?? null, x.at(-1) ?? null])) ?? [0, 1]
}

export function yAxisOf(
  { lines, levels = [], yDomain, yScale = 'linear', fromZero }: LineChart,
  [low, high]: readonly [number, number],
): { scale: ScaleType; domain: readonly [number, number] } {
  const inside = lines.flatMap(({ x, y, low: lows = [], high: highs = [] }) =>
    [y, lows, highs].flatMap((values) =>
      values.filter((_, index) => (x[index] as number) >= low && (x[index] as number) <= high),
    ),
  )
  const values = [...inside, ...levels.map(({ value }) => value)].filter(isNumber)
  if (yScale === 'log') {
    const positive = (yDomain?.[0] ?? 0) > 0 ? yDomain : extent(values.filter((value) => value > 0))
    if (positive) {
      const margin = yDomain === positive ? 1 : 1.08
      const [least, most] = positive
      return {
        scale: 'log',
        domain: least === most ? [least / 2, most * 2] : [least / margin, most * margin],
      }
    }
  }
  if (yDomain && yDomain[1] > yDomain[0]) return { scale: 'linear', domain: yDomain }
  const [least, most] = extent(values) ?? [0, 1]
  const start = fromZero ? Math.min(0, least) : least
  const margin = start === most ? Math.abs(most) * 0.1 || 1 : (most - start) * 0.05
  return { scale: 'linear', domain: [fromZero && start === 0 ? 0 : start - margin, most + margin] }
}

export function ticksOfY(chart: LineChart, scale: ScaleType, domain: readonly [number, number]): number[] {
  const count = chart.yTicks ?? Math.max(2, Math.round(chart.height / 62))
  if (chart.sizes) return sizeTicks(domain[1], count).filter((tick) => tick >= domain[0])
  return ticksOf(scale, domain, scale === 'log' ? Math.max(count, 3) : count)
}

interface XTick {
  x: number
  name: string
}

export function ticksOfX(
  { places, width }: LineChart,
  domain: readonly [number, number],
  format: (value: number) => string,
  room: number,
): readonly XTick[] {
  const count = Math.max(2, Math.round(room / (width < 420 ? 74 : 96)))
  return places ?? ticksOf('linear', domain, count).map((tick) => ({ x: tick, name: format(tick) }))
}

/** Position of the x-axis label: in the row of the ticks if it fits, else below them. */
export function placeOfLabel(
  { xLabel, width }: LineChart,
  ticks: readonly XTick[],
  x: Scale,
  { left, right }: { left: number; right: number },
): { x: number; anchor: typeof END | typeof MIDDLE | undefined; below: boolean } | undefined {
  if (!xLabel) return undefined
  const last = ticks.at(-1)
  const end = last === undefined ? left : x(last.x) + widthOf(last.name) / 2
  if (end + 8 + widthOf(xLabel) < right) return { x: right, anchor: END, below: false }
  if (right + 14 + widthOf(xLabel) < width)
    return { x: Math.max(right, end) + 12, anchor: undefined, below: false }
  return { x: (left + right) / 2, anchor: MIDDLE, below: true }
}

export function xAxis(
  { stops = [] }: LineChart,
  { x, left, right, bottom }: Frame,
  domain: readonly [number, number],
  ticks: readonly XTick[],
): string[] {
  const drawn = [line(left, bottom, right, bottom, 'axis')]
  for (const { x: value, name } of ticks) {
    drawn.push(line(x(value), bottom, x(value), bottom + 4, 'axis'))
    drawn.push(text(x(value), bottom + 17, name, MIDDLE))
  }
  for (const stop of stops)
    if (stop.x >= domain[0] && stop.x <= domain[1])
      drawn.push(
        element('path', { class: 'axis', d: `M${pixels(x(stop.x))} ${pixels(bottom)}v-7` }, hint(stop.name)),
      )
  return drawn
}
