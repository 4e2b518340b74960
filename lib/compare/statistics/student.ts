/** Student's t distribution, for any positive degrees of freedom. */

/** P(T > t). */
export function studentTail(t: number, df: number): number {
  if (Number.isNaN(t)) return Number.NaN
  if (t < 0) return 1 - studentTail(-t, df)
  const square = t * t
  if (square === Number.POSITIVE_INFINITY) return 0
  // Near t = 0, the fraction of the middle converges; beyond it, that of the tail.
  if (square < 1) return 0.5 * (1 - incompleteBeta(0.5, df / 2, square / (df + square), df / (df + square)))
  return 0.5 * incompleteBeta(df / 2, 0.5, df / (df + square), square / (df + square))
}

/** The t that is exceeded with probability 1 - `probability`. */
export function studentQuantile(probability: number, df: number): number {
  if (probability === 0.5) return 0
  if (probability < 0.5) return -studentQuantile(1 - probability, df)
  const tail = 1 - probability
  if (tail === 0) return Number.POSITIVE_INFINITY
  let low = 0
  let high = 1
  while (studentTail(high, df) > tail) {
    low = high
    high *= 2
  }
  // Newton's method on the logarithm of the tail, kept between bounds that close in.
  let t = (low + high) / 2
  for (let round = 0; round < 200; round++) {
    const here = studentTail(t, df)
    if (here > tail) low = t
    else high = t
    const step = (here / density(t, df)) * Math.log(here / tail)
    const next = t + step > low && t + step < high ? t + step : (low + high) / 2
    if (Math.abs(next - t) <= 1e-15 * t) return next
    t = next
  }
  return t
}

function density(t: number, df: number): number {
  return (halfStep(df / 2) / Math.sqrt(df * Math.PI)) * Math.exp((-(df + 1) / 2) * Math.log1p((t * t) / df))
}

/**
 * I_x(a, b), where one of a and b is 1/2; `y` is 1 - x without its rounding. By Lentz's method on the continued fraction
 * of DLMF 8.17.22.
 */
function incompleteBeta(a: number, b: number, x: number, y: number): number {
  if (x === 0) return 0
  if (y === 0) return 1
  const other = a === 0.5 ? b : a
  const front = (x ** a * y ** b * halfStep(other)) / (Math.sqrt(Math.PI) * a)
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(b, a, y, x)
  let c = 1
  let d = 1 / (1 - ((a + b) * x) / (a + 1))
  let fraction = d
  for (let m = 1; m < 100_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / (1 + even * d)
    c = 1 + even / c
    fraction *= c * d
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / (1 + odd * d)
    c = 1 + odd / c
    fraction *= c * d
    if (Math.abs(c * d - 1) < 1e-16) break
  }
  return front * fraction
}

/** Gamma(a + 1/2) / Gamma(a), by its series for large a, which loses no digits as a difference of logarithms would. */
function halfStep(a: number): number {
  let shift = 1
  let large = a
  for (; large < 20; large++) shift *= large / (large + 0.5)
  const s = 1 / large
  const series =
    s * (-1 / 8 + s * s * (1 / 192 + s * s * (-1 / 640 + s * s * (17 / 14336 - (31 / 18432) * s * s))))
  return shift * Math.sqrt(large) * Math.exp(series)
}
