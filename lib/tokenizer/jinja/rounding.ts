/** Rounding and integers in texts as in Python, which rounds the decimal number that a float is. */
import { floatValue } from '../python-values.js'
import { isInteger, type Value } from './values.js'

/** More digits than a float has. */
const MOST_DIGITS = 22

/** Like `round(number, digits)`: halves go to even digits, and integers stay integers. */
export function rounded(number: number | bigint, digits: number, isFloat: boolean): Value {
  if (!isFloat) return digits >= 0 ? number : toTens(BigInt(number), -digits)
  const float = Number(number)
  if (!Number.isFinite(float) || digits > MOST_DIGITS) return floatValue(float)
  return floatValue(digits >= 0 ? toDecimals(float, digits) : toTensOfFloat(float, -digits))
}

/** Rounds the digits of the whole number that a float is, which `toFixed` writes exactly. */
function toDecimals(float: number, digits: number): number {
  const all = Math.abs(float).toFixed(Math.min(100, digits + 60))
  const cut = all.slice(0, all.length - (Math.min(100, digits + 60) - digits))
  const kept = digits === 0 ? cut.replace('.', '') : cut
  const isHalf = /^50*$/.test(all.slice(cut.length))
  const odd = Number(kept.at(-1)) % 2 === 1
  const size = isHalf && !odd ? Number(kept) : Number(Math.abs(float).toFixed(digits))
  return Math.sign(float) === -1 || Object.is(float, -0) ? -size : size
}

function toTensOfFloat(float: number, tens: number): number {
  const whole = BigInt(Math.trunc(Math.abs(float)))
  // Twice the number, and one more for a fraction, tells a half from what is above it.
  const size =
    Number(nearest(2n * whole + (float % 1 === 0 ? 0n : 1n), 2n * 10n ** BigInt(tens))) * 10 ** tens
  return float < 0 || Object.is(float, -0) ? -size : size
}

function toTens(number: bigint, tens: number): number | bigint {
  const unit = 10n ** BigInt(Math.min(tens, 1 << 10))
  const size = nearest(number < 0n ? -number : number, unit) * unit
  return small(number < 0n ? -size : size)
}

/** `number / unit`, with halves to the even side. */
function nearest(number: bigint, unit: bigint): bigint {
  const [whole, rest] = [number / unit, number % unit]
  return 2n * rest > unit || (2n * rest === unit && whole % 2n === 1n) ? whole + 1n : whole
}

const small = (number: bigint) => (Number.isSafeInteger(Number(number)) ? Number(number) : number)

const PREFIXES: Readonly<Record<string, number>> = { '0x': 16, '0o': 8, '0b': 2 }
const INTEGER = /^([-+]?)(0[xob])?_?([0-9a-z]+(?:_[0-9a-z]+)*)$/i

/** Like `int(text, base)`; undefined if the text is no integer in the base. */
export function integerIn(text: string, base: number): number | bigint | undefined {
  const [, sign, given, digits = ''] = INTEGER.exec(text) ?? []
  const own = given === undefined ? undefined : PREFIXES[given.toLowerCase()]
  const radix = base === 0 ? (own ?? 10) : base
  // In base 16, 0b1 is a number with the digit b.
  const before = own === undefined || own === radix ? '' : given
  const plain = `${before}${digits}`.replaceAll('_', '').toLowerCase()
  if (plain === '' || radix < 2 || radix > 36) return undefined
  if (base === 0 && own === undefined && /^0+[1-9]/.test(plain)) return undefined
  let value = 0n
  for (const char of plain) {
    const digit = Number.parseInt(char, 36)
    if (digit >= radix) return undefined
    value = value * BigInt(radix) + BigInt(digit)
  }
  return small(sign === '-' ? -value : value)
}

/** Like `float(text)`; undefined if the text is no number. */
export function floatIn(text: string): number | undefined {
  const plain = text.replace(/(?<=\d)_(?=\d)/g, '')
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain)) return Number(plain)
  const [, sign, word] = /^([-+]?)(inf|infinity|nan)$/i.exec(plain) ?? []
  if (word === undefined) return undefined
  const value = word.toLowerCase() === 'nan' ? Number.NaN : Number.POSITIVE_INFINITY
  return sign === '-' ? -value : value
}

/** True for a value that Python holds as a float. */
export const isFloat = (value: Value): boolean => typeof value !== 'boolean' && !isInteger(value)
