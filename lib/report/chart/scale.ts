/** Scales from values to pixels, and their tick positions. */

export type ScaleType = 'linear' | 'log'

/** Maps a value to pixels. */
export interface Scale {
  (value: number): number
  /** Maps pixels back to a value. */
  invert(pixels: number): number
}

/** @param range pixels of the two ends of the domain */
export function scaleOf(
  type: ScaleType,
  [low, high]: readonly [number, number],
  [from, to]: readonly [number, number],
): Scale {
  const log = type === 'log'
  const [begin, end] = log ? [Math.log(low), Math.log(high)] : [low, high]
  const slope = end === begin ? 0 : (to - from) / (end - begin)
  const scale = (value: number) => from + ((log ? Math.log(value) : value) - begin) * slope
  const invert = (at: number) => {
    const value = slope === 0 ? begin : begin + (at - from) / slope
    return log ? Math.exp(value) : value
  }
  return Object.assign(scale, { invert })
}

/** Ticks of a scale, approximately `count`. */
export function ticksOf(type: ScaleType, domain: readonly [number, number], count: number): number[] {
  return type === 'log' ? logTicks(domain, count) : linearTicks(domain, count)
}

/** Round values: multiples of 1, 2, 2.5, or 5 times a power of ten. */
export function linearTicks([low, high]: readonly [number, number], count: number): number[] {
  const rough = (high - low) / Math.max(1, count)
  if (!(rough > 0)) return [low]
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 2.5, 5].find((m) => m * power >= rough * 0.999) ?? 10)
  const ticks: number[] = []
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    ticks.push(Number((i * step).toPrecision(12)))
  return ticks
}

/** 1, 2, and 5 times powers of ten; only the powers if there would be too many ticks, more factors if too few. */
function logTicks([low, high]: readonly [number, number], count: number): number[] {
  if (high < 4 * low)
    return linearTicks([low, high], Math.min(count, 5)).filter((tick) => tick >= low && tick <= high)
  const usual = multiplesOfPowers([1, 2, 5], low, high)
  const powers = multiplesOfPowers([1], low, high)
  const enough = usual.length > 2 ? usual : multiplesOfPowers([1, 1.5, 2, 3, 5, 7], low, high)
  const kept = usual.length > count && powers.length > 1 ? powers : enough
  const every = Math.ceil(kept.length / Math.max(2, count + 1))
  return kept.filter((_, index) => index % every === 0)
}

function multiplesOfPowers(factors: readonly number[], low: number, high: number): number[] {
  const exponents = Array.from(
    { length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 },
    (_, index) => Math.floor(Math.log10(low)) + index,
  )
  return exponents
    .flatMap((exponent) => factors.map((factor) => Number((factor * 10 ** exponent).toPrecision(3))))
    .filter((tick) => tick >= low * 0.999 && tick <= high * 1.001)
}

/** Multiples of 1, 2, or 5 times a power of 1024, so that sizes are round. */
export function sizeTicks(most: number, count: number): number[] {
  if (!(most > 0)) return [0]
  const rough = most / Math.max(1, count)
  const unit = 1024 ** Math.max(0, Math.floor(Math.log(rough) / Math.log(1024)))
  const step = unit * ([1, 2, 5, 10, 20, 50, 100, 200, 500].find((m) => m * unit >= rough * 0.75) ?? 1024)
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step)
}
