/**
 * Exponentials and logarithms that are bit-identical in every JavaScript engine, unlike those of `Math`, within two
 * units in the last place and about as fast. Use them for large sums; portable-math.ts has correctly rounded versions.
 */

/** ln 2 as a multiple of 2^-41, so that products with exponents are exact, and the remainder. */
const LN_2_HIGH = Math.LN2 + 3072 - 3072
const LN_2_LOW = Math.LN2 - LN_2_HIGH + 2.3190468138462996e-17

const view = new DataView(new ArrayBuffer(8))

/** e^x. */
export function exp(x: number): number {
  if (!(x < 710)) return x * Infinity // infinity or NaN
  if (x < -746) return 0
  const power = Math.round(x / Math.LN2)
  return scaled(1 + expm1OfRest(x - power * LN_2_HIGH - power * LN_2_LOW), power)
}

/** e^x - 1, accurate for small x. */
export function expm1(x: number): number {
  if (!(x < 40)) return exp(x)
  if (x < -40) return -1
  const power = Math.round(x / Math.LN2)
  const rest = expm1OfRest(x - power * LN_2_HIGH - power * LN_2_LOW)
  return power === 0 ? rest : scaled(rest, power) + (scaled(1, power) - 1)
}

/** The natural logarithm of x. */
export function log(x: number): number {
  if (!(x > 0) || x === Infinity) return x === 0 ? -Infinity : x > 0 ? x : Number.NaN
  const subnormal = x < 2.2250738585072014e-308
  view.setFloat64(0, subnormal ? x * 18014398509481984 : x) // 2^54
  const bits = view.getUint32(0)
  // Normalizes the mantissa to between about sqrt(1/2) and sqrt(2).
  const above = (bits & 0xfffff) >= 0x6a09e ? 1 : 0
  view.setUint32(0, (bits & 0xfffff) | ((1023 - above) << 20))
  const power = (bits >>> 20) - 1023 + above - (subnormal ? 54 : 0)
  const rest = view.getFloat64(0) - 1
  return power * LN_2_HIGH + (power * LN_2_LOW + log1pOfRest(rest))
}

/** ln(1 + x), accurate for small x. */
export function log1p(x: number): number {
  if (x > -0.29 && x < 0.41) return log1pOfRest(x)
  const sum = 1 + x
  if (!(sum > 0) || sum === Infinity) return log(sum)
  // The rounding error of the sum.
  const lost = x > 1 ? 1 - (sum - x) : x - (sum - 1)
  return log(sum) + lost / sum
}

/** e^r - 1 by its Taylor series, for |r| at most half of ln 2. */
function expm1OfRest(r: number): number {
  let sum = 2 / 1307674368000 // divided by 15!, 14!, …, 3!
  sum = sum * r + 2 / 87178291200
  sum = sum * r + 2 / 6227020800
  sum = sum * r + 2 / 479001600
  sum = sum * r + 2 / 39916800
  sum = sum * r + 2 / 3628800
  sum = sum * r + 2 / 362880
  sum = sum * r + 2 / 40320
  sum = sum * r + 2 / 5040
  sum = sum * r + 2 / 720
  sum = sum * r + 2 / 120
  sum = sum * r + 2 / 24
  sum = sum * r + 2 / 6
  return r + 0.5 * r * r * (1 + sum * r)
}

/** log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2): 2 artanh(s), where 2 s = f - s f. */
function log1pOfRest(f: number): number {
  const s = f / (2 + f)
  const square = s * s
  let sum = 2 / 23
  sum = sum * square + 2 / 21
  sum = sum * square + 2 / 19
  sum = sum * square + 2 / 17
  sum = sum * square + 2 / 15
  sum = sum * square + 2 / 13
  sum = sum * square + 2 / 11
  sum = sum * square + 2 / 9
  sum = sum * square + 2 / 7
  sum = sum * square + 2 / 5
  sum = sum * square + 2 / 3
  return f - s * (f - sum * square)
}

/** x 2^power with a single rounding, for x close to 1. */
function scaled(x: number, power: number): number {
  if (power > 1023) return x * 2 * powerOfTwo(power - 1)
  if (power < -1022) return x * powerOfTwo(power + 60) * powerOfTwo(-60)
  return x * powerOfTwo(power)
}

function powerOfTwo(power: number): number {
  view.setUint32(0, (power + 1023) << 20)
  view.setUint32(4, 0)
  return view.getFloat64(0)
}
