/** Operations on series of points: running mean, decimation, quantiles. */
import { isNumber } from './numbers.js'

/** A value that may be missing, represented by null or NaN. */
export type Value = number | null

/**
 * Debiased exponential moving average in which weights halve every `halfLife` of x. Equals pandas' ewm(adjust=True)
 * when points are one apart. Apply it to all points, before decimation. Missing values repeat the mean.
 */
export function smooth(xs: readonly number[], ys: readonly Value[], halfLife: number): Value[] {
  if (!(halfLife > 0)) return ys.slice()
  let [sum, weight, before] = [0, 0, xs[0] ?? 0]
  return ys.map((y, index) => {
    const x = xs[index] as number
    const kept = 0.5 ** ((x - before) / halfLife)
    before = x
    sum *= kept
    weight *= kept
    if (isNumber(y)) {
      sum += y
      weight += 1
    }
    return weight > 0 ? sum / weight : null
  })
}

/**
 * Default half-life in steps, which preserves the trend of a run with this many steps; 0 if there are too few to
 * smooth.
 */
export function usualHalfLife(steps: number): number {
  return steps < 40 ? 0 : Math.max(3, Math.round(steps / 150))
}

/**
 * Decimates a line: indices of the first, smallest, largest, and last point in each of `columns` pixel columns between
 * two ends of x, so the line looks the same as one through all points. Returns all indices if there are few points;
 * keeps missing values that break the line.
 */
export function thin(
  xs: readonly number[],
  ys: readonly Value[],
  [low, high]: readonly [number, number],
  columns: number,
): number[] {
  let [begin, end] = [0, xs.length]
  while (begin < end && (xs[begin] as number) < low) begin++
  while (end > begin && (xs[end - 1] as number) > high) end--
  if (end - begin <= columns * 4) return Array.from({ length: end - begin }, (_, index) => begin + index)
  const kept: number[] = []
  let index = begin
  for (let column = 0; column < columns && index < end; column++) {
    const right = column === columns - 1 ? Infinity : low + ((column + 1) / columns) * (high - low)
    let [first, last, least, most, gap] = [-1, -1, -1, -1, -1]
    for (; index < end && (xs[index] as number) <= right; index++) {
      const y = ys[index]
      if (!isNumber(y)) {
        gap = index
        continue
      }
      if (first < 0) first = index
      last = index
      if (least < 0 || y < (ys[least] as number)) least = index
      if (most < 0 || y > (ys[most] as number)) most = index
    }
    const found = [first, least, most, last, gap].filter((i) => i >= 0)
    kept.push(...[...new Set(found)].sort((a, b) => a - b))
  }
  return kept
}

/** Quantile of the finite values; NaN without any. */
export function quantile(values: readonly Value[], share: number): number {
  const sorted = values.filter(isNumber).sort((a, b) => a - b)
  const index = Math.round(share * (sorted.length - 1))
  return sorted[Math.min(sorted.length - 1, Math.max(0, index))] ?? NaN
}

/** Smallest and largest finite value; null without any. */
export function extent(values: readonly Value[]): [number, number] | null {
  let [low, high] = [Infinity, -Infinity]
  for (const value of values)
    if (isNumber(value)) {
      if (value < low) low = value
      if (value > high) high = value
    }
  return low <= high ? [low, high] : null
}
