/** Statistics of row lengths: quantiles, and a histogram with a few bars. */
import { formatCount, table } from '../format.js'

/** Statistics of row lengths, in tokens. */
export interface Lengths {
  total: number
  min: number
  median: number
  mean: number
  /** The 95th percentile. */
  p95: number
  max: number
}

/** Number of rows with `from` to `to` tokens, inclusive. */
export interface LengthBar {
  from: number
  to: number
  rows: number
}

const MOST_BARS = 10
const BAR_WIDTH = 40

/** @param lengths at least one, in any order */
export function lengthsOf(lengths: Uint32Array): Lengths {
  const sorted = lengths.slice().sort()
  const total = sorted.reduce((sum, length) => sum + length, 0)
  /** The smallest length that is at least as long as this share of the rows. */
  const atShare = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] as number
  return {
    total,
    min: sorted[0] as number,
    median: atShare(0.5),
    mean: total / sorted.length,
    p95: atShare(0.95),
    max: sorted.at(-1) as number,
  }
}

/** Bars of equal, round width for the shortest 95 % of rows; the last bar extends to the longest row. */
export function lengthBars(lengths: Uint32Array, { min, p95, max }: Lengths): LengthBar[] {
  const width = roundUp((p95 - min + 1) / MOST_BARS)
  const first = Math.floor(min / width)
  const count = Math.floor(p95 / width) - first + 1
  const bars = Array.from({ length: count }, (_, i) => ({
    from: (first + i) * width,
    to: (first + i + 1) * width - 1,
    rows: 0,
  }))
  const last = bars[count - 1] as LengthBar
  if (max > last.to) bars.push({ from: last.to + 1, to: max, rows: 0 })
  for (const length of lengths)
    (bars[Math.min(bars.length - 1, Math.floor(length / width) - first)] as LengthBar).rows++
  return bars
}

/** Rounds up to 1, 2 or 5 times a power of ten. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)))
  return ([1, 2, 5].find((factor) => factor * power >= value) ?? 10) * power
}

/** @param columns width of the terminal */
export function barChart(bars: readonly LengthBar[], columns: number): string {
  const named = bars.map(({ from, to, rows }) => [
    from === to ? String(from) : `${from} to ${to}`,
    formatCount(rows),
  ])
  const [line = ''] = table(named, [0, 1]).split('\n')
  const width = Math.max(1, Math.min(BAR_WIDTH, columns - line.length - 2))
  const most = Math.max(...bars.map(({ rows }) => rows))
  return table(
    bars.map(({ rows }, i) => [...(named[i] as string[]), '#'.repeat(Math.ceil((width * rows) / most))]),
    [0, 1],
  )
}
