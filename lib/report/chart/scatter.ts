/** A scatter plot with labels, and a step line through the Pareto-optimal points. */
import { drawMark, type Mark } from './mark.js'
import { formatTick, isNumber, pixels } from './numbers.js'
import { type ScaleType, scaleOf, ticksOf } from './scale.js'
import { extent } from './series.js'
import { boldWidthOf, type Described, END, element, hint, line, MIDDLE, svg, text, widthOf } from './svg.js'

export interface ScatterPoint {
  name: string
  mark: Mark
  x: number
  y: number
  /** Interval of y. */
  low?: number
  high?: number
}

export interface Scatter extends Described {
  width: number
  height: number
  points: readonly ScatterPoint[]
  xScale?: ScaleType
  /** Whether a greater y is better; a smaller x always is. */
  higherIsBetter: boolean
  xFormat?: (value: number) => string
  yFormat?: (value: number) => string
  xLabel?: string
  yLabel?: string
  yDomain?: readonly [number, number]
}

/** The Pareto-optimal points, sorted by x: no other point is at least as far left and better. */
export function paretoPoints<P extends { x: number; y: number }>(
  points: readonly P[],
  higherIsBetter: boolean,
): P[] {
  const sign = higherIsBetter ? 1 : -1
  const sorted = [...points].sort((a, b) => a.x - b.x || sign * (b.y - a.y))
  let best = -Infinity
  return sorted.filter(({ y }) => {
    if (sign * y <= best) return false
    best = sign * y
    return true
  })
}

export function scatter(chart: Scatter): string {
  const { width, height, higherIsBetter, xFormat = formatTick, yFormat = formatTick } = chart
  const points = chart.points.filter(
    ({ x, y }) => isNumber(x) && isNumber(y) && (chart.xScale !== 'log' || x > 0),
  )
  const xScale = chart.xScale ?? 'linear'
  const [least, most] = extent(points.map(({ x }) => x)) ?? [1, 2]
  const xDomain: [number, number] =
    xScale === 'log'
      ? [least / 1.25, most * 1.25]
      : [least - (most - least || 1) * 0.06, most + (most - least || 1) * 0.06]
  const yDomain =
    chart.yDomain ?? widened(extent(points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y])))
  const yTicks = ticksOf('linear', yDomain, Math.max(2, Math.round(height / 62)))
  const left = Math.max(42, 14 + Math.max(0, ...yTicks.map((tick) => widthOf(yFormat(tick)))))
  const [right, top, bottom] = [width - 12, chart.yLabel ? 26 : 10, height - (chart.xLabel ? 42 : 24)]
  const x = scaleOf(xScale, xDomain, [left, right])
  const scaled = scaleOf('linear', yDomain, [bottom, top])
  const y = (value: number) => Math.max(top, Math.min(bottom, scaled(value)))
  const drawn = yTicks.flatMap((tick) => [
    line(left, y(tick), right, y(tick), 'grid'),
    text(left - 8, y(tick) + 4, yFormat(tick), END),
  ])
  drawn.push(line(left, bottom, right, bottom, 'axis'))
  for (const tick of ticksOf(xScale, xDomain, Math.max(2, Math.round((right - left) / 90)))) {
    drawn.push(line(x(tick), bottom, x(tick), bottom + 4, 'axis'))
    drawn.push(text(x(tick), bottom + 17, xFormat(tick), MIDDLE))
  }
  if (chart.xLabel) drawn.push(text((left + right) / 2, height - 4, chart.xLabel, MIDDLE))
  if (chart.yLabel) drawn.push(text(0, 12, chart.yLabel))
  /** What labels must not lie on. */
  const boxes: Box[] = []
  const front = paretoPoints(points, higherIsBetter)
  const first = front[0]
  if (first) {
    const steps = front.slice(1).map((point) => `H${pixels(x(point.x))}V${pixels(y(point.y))}`)
    const d = `M${pixels(x(first.x))} ${pixels(y(first.y))}${steps.join('')}H${pixels(right)}`
    drawn.push(element('path', { class: 'pareto', d }))
    for (const [index, point] of front.entries()) {
      const next = front[index + 1]
      const [at, to] = [x(point.x), next ? x(next.x) : right]
      const [level, above] = [y(point.y), y(next?.y ?? point.y)]
      boxes.push(
        [at, level - 1, to, level + 1],
        [to - 1, Math.min(level, above), to + 1, Math.max(level, above)],
      )
    }
  }
  for (const { x: at, low, high, mark } of points)
    if (isNumber(low) && isNumber(high)) {
      drawn.push(line(x(at), y(low), x(at), y(high), `k${mark.hue} st thin`))
      boxes.push([x(at) - 1, y(high), x(at) + 1, y(low)])
    }
  boxes.push(...points.map((point) => around(x(point.x), y(point.y), 6, 6)))
  for (const point of points) {
    drawn.push(drawMark(x(point.x), y(point.y), point.mark, 5, hint(point.name)))
    const label = placeFor(point.name, x(point.x), y(point.y), boxes, { left, right, top, bottom })
    // If there is no free position, the name appears only in the tooltip.
    if (label.overlaps) continue
    boxes.push(label.box)
    drawn.push(text(label.x, label.y + 4, point.name, { class: 'label', ...(label.end ? END : {}) }))
  }
  return svg(width, height, chart, drawn.join(''))
}

type Box = readonly [left: number, top: number, right: number, bottom: number]

function around(x: number, y: number, dx: number, dy: number): Box {
  return [x - dx, y - dy, x + dx, y + dy]
}

/** Penalty of an overlap, in pixels of label displacement. */
const OVERLAP = 100

/** The position next to a point, left or right and as close as possible, that overlaps the fewest boxes. */
function placeFor(
  name: string,
  x: number,
  y: number,
  boxes: readonly Box[],
  { left, right, top, bottom }: { left: number; right: number; top: number; bottom: number },
) {
  const room = boldWidthOf(name)
  let best: { x: number; y: number; end: boolean; box: Box; cost: number } | undefined
  for (const shift of [0, -9, 9, -13, 13, -26, 26, -39, 39])
    for (const end of [false, true]) {
      const [from, to] = end ? [x - 9 - room, x - 9] : [x + 9, x + 9 + room]
      const box: Box = [from, y + shift - 7, to, y + shift + 7]
      const outside = from < left || to > right || box[1] < top - 8 || box[3] > bottom ? 1000 : 0
      const cost =
        outside +
        OVERLAP * boxes.filter((other) => overlap(box, other)).length +
        Math.abs(shift) +
        (end ? 1 : 0)
      if (best === undefined || cost < best.cost)
        best = { x: end ? x - 9 : x + 9, y: y + shift, end, box, cost }
    }
  const found = best as NonNullable<typeof best>
  return { ...found, overlaps: found.cost >= OVERLAP }
}

function overlap(a: Box, b: Box): boolean {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

function widened(domain: [number, number] | null): [number, number] {
  const [low, high] = domain ?? [0, 1]
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1
  return [low - margin, high + margin]
}
