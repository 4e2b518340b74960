/** A line chart with labels at line ends, reference levels, and an optional log scale. */
import { type Box, freest, type Point } from './free-place.js'
import { placeOfLabel, ticksOfX, ticksOfY, xAxis, xDomainOf, yAxisOf } from './line-axes.js'
import type { Frame, Level, Line, LineChart, Moment, Plot } from './line-types.js'
import { drawMark } from './mark.js'
import { formatTick, isNumber, pixels } from './numbers.js'
import { scaleOf } from './scale.js'
import { thin, type Value } from './series.js'
import { boldWidthOf, END, element, line, type Placed, spread, svg, text, widthOf } from './svg.js'

const GAP_OF_LABELS = 15
const FAR = 40

export function lineChart(chart: LineChart): Plot {
  const { width, height, xFormat = formatTick, yFormat = formatTick } = chart
  const xDomain = chart.xDomain ?? xDomainOf(chart.lines)
  const { scale: yScale, domain: yDomain } = yAxisOf(chart, xDomain)
  const yTicks = ticksOfY(chart, yScale, yDomain)
  const beside = (chart.levels ?? []).filter(({ at }) => at === 'beside')
  const names = [...chart.lines.map(({ name }) => name), ...beside.map(({ name }) => name)].flatMap(
    (name) => name ?? [],
  )
  const left = chart.left ?? Math.max(42, 14 + Math.max(0, ...yTicks.map((tick) => widthOf(yFormat(tick)))))
  const labelRoom = names.length > 0 ? 24 + Math.max(...names.map(boldWidthOf)) : 10
  const right = width - (chart.right ?? Math.min(labelRoom, width * 0.4))
  const x = scaleOf('linear', xDomain, [left, right])
  const xTicks = ticksOfX(chart, xDomain, xFormat, right - left)
  const xLabel = placeOfLabel(chart, xTicks, x, { left, right })
  const [top, bottom] = [chart.yLabel ? 26 : 10, height - (xLabel?.below ? 42 : 24)]
  const free = scaleOf(yScale, yDomain, [bottom, top])
  const y = Object.assign((value: number) => Math.max(top, Math.min(bottom, free(value))), {
    invert: free.invert,
  })
  const shown = (value: Value | undefined): value is number =>
    isNumber(value) && (yScale === 'linear' || value > 0)
  const frame = { x, y, left, right, top, bottom, shown }
  const paths = [
    ...chart.lines.flatMap((one) => pathsOf(one, frame, xDomain)),
    ...(chart.levels ?? []).map(({ value }): Point[] => [
      [left, y(value)],
      [right, y(value)],
    ]),
    ...(chart.moments ?? []).map(({ x: value }): Point[] => [
      [x(value), top],
      [x(value), bottom],
    ]),
  ]

  const drawn = [
    ...(chart.yLabel ? [text(0, 12, chart.yLabel)] : []),
    ...yTicks.flatMap((tick) => [
      line(left, free(tick), right, free(tick), 'grid'),
      text(left - 8, free(tick) + 4, yFormat(tick), END),
    ]),
    ...xAxis(chart, frame, xDomain, xTicks),
    ...(chart.xLabel && xLabel
      ? [text(xLabel.x, bottom + (xLabel.below ? 35 : 17), chart.xLabel, xLabel.anchor)]
      : []),
    ...levels(chart.levels ?? [], frame, yDomain, paths),
    ...moments(chart.moments ?? [], frame, xDomain, paths),
    ...chart.lines.map((one) => drawLine(one, frame, xDomain)),
    ...endLabels(chart.lines, frame, xDomain, paths),
    '<g class="at"></g>',
  ]
  return { svg: svg(width, height, chart, drawn.join('')), x, y, width, height, left, right, top, bottom }
}

/** Height of a line of text, and steps by which a label moves along its line to find a free place. */
const [TEXT, STEPS_ALONG] = [12, 12]

/** The box of a label, with the place of its text. */
const labelBox = (x: number, y: number, width: number): Box & { x: number; y: number } => ({
  ...{ x, y, left: x, right: x + width, top: y - TEXT + 2, bottom: y + 3 },
})

function levels(
  all: readonly Level[],
  { y, left, right, top, bottom }: Frame,
  [low, high]: readonly [number, number],
  paths: readonly (readonly Point[])[],
): string[] {
  return all
    .filter(({ value }) => value >= low && value <= high)
    .flatMap(({ value, name, at = 'right' }) => {
      const rule = line(left, y(value), right, y(value), 'rule')
      if (name === undefined) return [rule]
      if (at === 'beside') return [rule, text(right + 8, y(value) + 4, name)]
      const width = widthOf(name)
      const room = Math.max(0, right - left - width - 6)
      const boxes = Array.from({ length: STEPS_ALONG + 1 }, (_, step) => {
        const along = (room * step) / STEPS_ALONG
        return at === 'left' ? left + 4 + along : right - 2 - width - along
      }).flatMap((x) => [labelBox(x, y(value) - 5, width), labelBox(x, y(value) + TEXT + 2, width)])
      const inside = boxes.filter((box) => box.top >= top - 2 && box.bottom <= bottom)
      const place = freest(inside, paths) ?? labelBox(right - 2 - width, y(value) - 5, width)
      return [rule, text(place.x, place.y, name, { class: 'halo' })]
    })
}

function moments(
  all: readonly Moment[],
  { x, left, right, top, bottom }: Frame,
  [low, high]: readonly [number, number],
  paths: readonly (readonly Point[])[],
): string[] {
  return all
    .filter(({ x: value }) => value >= low && value <= high)
    .flatMap(({ x: value, name }) => {
      const at = x(value)
      const width = widthOf(name)
      const boxes = Array.from(
        { length: STEPS_ALONG + 1 },
        (_, step) => top + TEXT + ((bottom - top - TEXT - 6) * step) / STEPS_ALONG,
      ).flatMap((y) => [labelBox(at + 6, y, width), labelBox(at - 6 - width, y, width)])
      const inside = boxes.filter((box) => box.left >= left && box.right <= right)
      const place = freest(inside, paths) ?? labelBox(Math.max(left, at - 6 - width), top + TEXT, width)
      return [line(at, top, at, bottom, 'rule'), text(place.x, place.y, name, { class: 'halo' })]
    })
}

/** The points of a line as it is drawn, in runs without gaps. */
function pathsOf(
  one: Line,
  { x, y, left, right, shown }: Frame,
  domain: readonly [number, number],
): Point[][] {
  const kept = thin(one.x, one.y, domain, columnsOf(one, right - left))
  return runsOf(kept, (index) => shown(one.y[index])).map((run) =>
    run.map((index): Point => [x(one.x[index] as number), y(one.y[index] as number)]),
  )
}

/** Columns of pixels to thin a line to. */
function columnsOf({ stroke }: Line, width: number): number {
  return Math.max(60, Math.round(width / (stroke === 'raw' ? 2 : 3)))
}

function drawLine(
  one: Line,
  { x, y, left, right, bottom, shown }: Frame,
  domain: readonly [number, number],
): string {
  const { stroke = 'line', hue, dots } = one
  const kept = thin(one.x, one.y, domain, columnsOf(one, right - left))
  const hued = hue === undefined ? '' : `k${hue} `
  const at = (index: number) => [x(one.x[index] as number), y(one.y[index] as number)] as const
  const runs = runsOf(kept, (index) => shown(one.y[index]))
  const paths = runs.map((run) => run.map((index) => at(index).map(pixels).join(' ')))
  const drawn: string[] = []
  if (one.area)
    for (const [i, points] of paths.entries()) {
      const run = runs[i] as number[]
      const [first, last] = [run[0], run.at(-1)].map((index) => pixels(at(index as number)[0]))
      const floor = pixels(Math.min(bottom, y(0)))
      const d = `M${points.join('L')}L${last} ${floor}L${first} ${floor}Z`
      drawn.push(element('path', { class: `${hued}fl area`, d }))
    }
  if (stroke !== 'none' && paths.length > 0) {
    // An isolated point is drawn as a zero-length line, made visible by round caps.
    const d = paths.map((points) => `M${points.join('L')}${points.length === 1 ? 'h0' : ''}`).join('')
    const kind = stroke === 'thin' || stroke === 'dash' ? `line ${stroke}` : stroke
    drawn.push(element('path', { class: stroke === 'ghost' ? kind : `${hued}st ${kind}`, d }))
  }
  for (const index of kept) {
    const [low, high] = [one.low?.[index], one.high?.[index]]
    if (shown(low) && shown(high)) {
      const center = x(one.x[index] as number)
      drawn.push(line(center, y(low), center, y(high), `${hued}st`))
    }
    if (dots && shown(one.y[index])) drawn.push(drawMark(...at(index), { hue: hue ?? 6, shape: dots }, 3.6))
  }
  return drawn.join('')
}

/** Groups of consecutive indices without gaps. */
function runsOf(indices: readonly number[], there: (index: number) => boolean): number[][] {
  const runs: number[][] = []
  let open = false
  for (const index of indices) {
    if (!there(index)) open = false
    else if (open) runs.at(-1)?.push(index)
    else {
      runs.push([index])
      open = true
    }
  }
  return runs
}

interface EndLabel extends Placed {
  from: readonly [number, number]
  name: string
  hue: number | undefined
}

/** Labels at the ends of lines, with leader lines if they had to be moved. */
function endLabels(
  lines: readonly Line[],
  { x, y, right, top, bottom, shown }: Frame,
  [low, high]: readonly [number, number],
  paths: readonly (readonly Point[])[],
): string[] {
  const ends = lines.flatMap(({ x: xs, y: ys, name, hue }): EndLabel[] => {
    const index = ys.findLastIndex(
      (value, i) => shown(value) && (xs[i] as number) >= low && (xs[i] as number) <= high,
    )
    if (name === undefined || index < 0) return []
    const from = [x(xs[index] as number), y(ys[index] as number)] as const
    return [{ y: from[1], from, name, hue }]
  })
  return spread(ends, GAP_OF_LABELS, top + 4, bottom - 2).flatMap(({ y: level, from, name, hue }) => {
    // If a line ends far from the edge, a leader line up to the edge would look like a forecast.
    const isFar = right - from[0] > FAR
    const edge = isFar ? from[0] : right
    const at = isFar ? freeLevel(edge + 20, level, boldWidthOf(name), { top, bottom }, paths) : level
    const [start, end] = [pixels(from[0] + 2), pixels(from[1])]
    const d = `M${start} ${end}L${pixels(edge + 5)} ${end}L${pixels(edge + 11)} ${pixels(at)}H${pixels(edge + 16)}`
    const lead = element('path', { class: hue === undefined ? 'ghost' : `k${hue} st lead`, d })
    return [lead, text(edge + 20, at + 4, name, { class: 'label halo' })]
  })
}

/** The level nearest to `level` at which a label that begins at `x` lies on no line. */
function freeLevel(
  x: number,
  level: number,
  width: number,
  { top, bottom }: Pick<Frame, 'top' | 'bottom'>,
  paths: readonly (readonly Point[])[],
): number {
  const boxes = [0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6]
    .map((lines) => level + lines * GAP_OF_LABELS)
    .filter((y) => y >= top + 4 && y <= bottom - 2)
    .map((y) => ({ ...labelBox(x, y + 4, width), level: y }))
  return freest(boxes, paths)?.level ?? level
}
