/**
 * Logarithms, powers, and cosines that are bit-identical in every JavaScript engine. The results of `Math` and `**`
 * differ in the last bit between engines and versions, which would make runs differ. These functions use only sums,
 * products, quotients, and square roots, in double-double arithmetic, and are almost always correctly rounded. They are
 * slow: suited to a few hundred values per run, not to tensors.
 */

/** The sum of two doubles, where the first is the sum rounded to double. */
type Pair = readonly [high: number, low: number]

const LN_2: Pair = [Math.LN2, 2.3190468138462996e-17]
const PI: Pair = [Math.PI, 1.2246467991473532e-16]
const ONE: Pair = [1, 0]

/** a + b exactly (Knuth). */
function twoSum(a: number, b: number): Pair {
  const sum = a + b
  const ofB = sum - a
  return [sum, a - (sum - ofB) + (b - ofB)]
}

/** a b exactly (Dekker), barring overflow and underflow. */
function twoProduct(a: number, b: number): Pair {
  const product = a * b
  const [aHigh, aLow] = halves(a)
  const [bHigh, bLow] = halves(b)
  return [product, aHigh * bHigh - product + aHigh * bLow + aLow * bHigh + aLow * bLow]
}

function halves(a: number): Pair {
  const scaled = a * 134217729 // 2^27 + 1
  const high = scaled - (scaled - a)
  return [high, a - high]
}

function add(a: Pair, b: Pair): Pair {
  const [high, low] = twoSum(a[0], b[0])
  return twoSum(high, low + (a[1] + b[1]))
}

function multiply(a: Pair, b: Pair): Pair {
  const [high, low] = twoProduct(a[0], b[0])
  return twoSum(high, low + (a[0] * b[1] + a[1] * b[0]))
}

function divide(a: Pair, b: Pair): Pair {
  const first = a[0] / b[0]
  const [high, low] = multiply(b, [-first, 0])
  const rest = add(a, [high, low])
  return twoSum(first, rest[0] / b[0])
}

/** Logarithm of a positive finite number: 2 artanh((m - 1) / (m + 1)) of its mantissa m, plus ln 2 per power of two. */
function logOf(x: number): Pair {
  let mantissa = x
  let power = 0
  for (; mantissa > 1.4; mantissa /= 2) ++power
  for (; mantissa < 0.7; mantissa *= 2) --power
  const t = divide([mantissa - 1, 0], twoSum(mantissa, 1))
  const square = multiply(t, t)
  let sum: Pair = [0, 0]
  for (let n = 47; n > 0; n -= 2) sum = add(multiply(sum, square), divide(ONE, [n, 0]))
  return add(multiply([power, 0], LN_2), multiply([2, 0], multiply(sum, t)))
}

/** The natural logarithm of a positive finite number. */
export function log(x: number): number {
  return logOf(x)[0]
}

/** x to the power of y, for positive finite x and results that are finite and at least 1e-300. */
export function pow(x: number, y: number): number {
  const logarithm = logOf(x)
  const exponent = multiply(logarithm, [y, 0])
  const power = Math.round(exponent[0] / LN_2[0])
  const r = add(exponent, multiply([-power, 0], LN_2))
  let sum = ONE
  for (let n = 26; n > 0; --n) sum = add(ONE, divide(multiply(r, sum), [n, 0]))
  let value = sum[0]
  for (let n = 0; n < Math.abs(power); ++n) value *= power > 0 ? 2 : 0.5
  return value
}

/** cos(pi x), for x from 0 to 1. */
export function cosPi(x: number): number {
  if (x > 0.5) return -cosPi(1 - x)
  const angle = multiply(PI, [x, 0])
  const [high, low] = multiply(angle, angle)
  let sum = ONE
  for (let n = 28; n > 0; n -= 2) sum = add(ONE, divide(multiply([-high, -low], sum), [n * (n - 1), 0]))
  return sum[0]
}
