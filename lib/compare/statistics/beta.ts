/** The incomplete beta function, on which the t and F distributions are built. */

/**
 * I_x(a, b), where a or b is a multiple of 1/2. `y` is 1 - x, passed separately to avoid rounding error. Uses Lentz's
 * method on the continued fraction of DLMF 8.17.22.
 */
export function incompleteBeta(a: number, b: number, x: number, y: number): number {
  if (x === 0) return 0
  if (y === 0) return 1
  const front = x ** a * y ** b * (reciprocalBeta(a, b) / a)
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

/** Gamma(a + b) / (Gamma(a) Gamma(b)), in steps of 1/2 from Gamma(1/2). */
function reciprocalBeta(a: number, b: number): number {
  const [small, other] = Number.isInteger(2 * a) && (a <= b || !Number.isInteger(2 * b)) ? [a, b] : [b, a]
  let value = halfStep(other) / Math.sqrt(Math.PI)
  for (let step = 1; step < 2 * small; step++) value *= halfStep(other + step / 2) / halfStep(step / 2)
  return value
}

/** Gamma(a + 1/2) / Gamma(a). For large a it uses a series, since a difference of logarithms would lose digits. */
export function halfStep(a: number): number {
  let shift = 1
  let large = a
  for (; large < 20; large++) shift *= large / (large + 0.5)
  const s = 1 / large
  const series =
    s * (-1 / 8 + s * s * (1 / 192 + s * s * (-1 / 640 + s * s * (17 / 14336 - (31 / 18432) * s * s))))
  return shift * Math.sqrt(large) * Math.exp(series)
}
