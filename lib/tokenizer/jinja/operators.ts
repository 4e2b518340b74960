/** Operators of templates, with Python's arithmetic. */
import { floatValue, Tuple } from '../python-values.js'
import { formatPercent } from './format.js'
import {
  contains,
  defined,
  isEqual,
  isInteger,
  isTrue,
  numberOf,
  order,
  textOf,
  typeName,
  type Value,
} from './values.js'

/** Longest list or text of a repetition; none needs more, and memory must not run out before the time does. */
const LONGEST = 1 << 20
/** Largest exponent. */
const LARGEST_POWER = 1 << 12

type Operator = (a: Value, b: Value) => Value

export const OPERATORS: Readonly<Record<string, Operator>> = {
  '==': isEqual,
  '!=': (a, b) => !isEqual(a, b),
  '<': (a, b) => order(a, b) < 0,
  '<=': (a, b) => order(a, b) <= 0,
  '>': (a, b) => order(a, b) > 0,
  '>=': (a, b) => order(a, b) >= 0,
  in: (a, b) => contains(b, a),
  'not in': (a, b) => !contains(b, a),
  '~': (a, b) => textOf(a) + textOf(b),
  '+': add,
  '-': (a, b) => arithmetic('-', a, b),
  '*': multiply,
  '/': (a, b) => floatValue(Number(operand('/', a, b)) / divisor(operand('/', b, a))),
  '//': (a, b) => arithmetic('//', a, b),
  '%': (a, b) => (typeof a === 'string' ? formatPercent(a, b) : arithmetic('%', a, b)),
  '**': (a, b) => arithmetic('**', a, b),
}

export const UNARY: Readonly<Record<string, (value: Value) => Value>> = {
  not: (value) => !isTrue(value),
  '-': (value) => arithmetic('-', typeof numberOf(value) === 'bigint' ? 0n : 0, value),
  '+': (value) => arithmetic('+', 0, value),
}

function add(a: Value, b: Value): Value {
  if (typeof a === 'string' && typeof b === 'string') return a + b
  if (a instanceof Tuple && b instanceof Tuple) return Tuple.from([...a, ...b])
  if (isList(a) && isList(b)) return [...a, ...b]
  return arithmetic('+', a, b)
}

const isList = (value: Value): value is Value[] => Array.isArray(value) && typeName(value) === 'list'

function multiply(a: Value, b: Value): Value {
  const [many, count] = typeof a === 'string' || Array.isArray(a) ? [a, b] : [b, a]
  const repeats = typeof many === 'string' || many instanceof Tuple || isList(many)
  if (!isWhole(count) || !repeats) return arithmetic('*', a, b)
  const times = Math.max(0, Number(count))
  if (many.length * times > LONGEST) throw new Error(`a repetition is longer than ${LONGEST}`)
  if (typeof many === 'string') return many.repeat(times)
  const all = Array.from({ length: times }, () => [...many]).flat()
  return many instanceof Tuple ? Tuple.from(all) : all
}

/** The number of one operand of a symbol. */
function operand(symbol: string, value: Value, other: Value): number | bigint {
  const number = numberOf(value)
  if (number !== undefined && numberOf(other) !== undefined) return number
  throw new Error(
    `"${symbol}" does not take values of types ${typeName(defined(value))} and ${typeName(defined(other))}`,
  )
}

function divisor(number: number | bigint): number {
  if (Number(number) === 0) throw new Error('it divides by zero')
  return Number(number)
}

const isWhole = (value: Value) => isInteger(value) || typeof value === 'boolean'

function arithmetic(symbol: string, a: Value, b: Value): Value {
  const [x, y] = [operand(symbol, a, b), operand(symbol, b, a)]
  if (symbol === '//' || symbol === '%') divisor(y)
  if (symbol === '**' && !(Math.abs(Number(y)) <= LARGEST_POWER)) throw new Error('an exponent is too large')
  const whole = isWhole(a) && isWhole(b) && !(symbol === '**' && y < 0)
  return whole
    ? integer(INTEGERS[symbol]?.(BigInt(x), BigInt(y)))
    : float(FLOATS[symbol]?.(Number(x), Number(y)))
}

const float = (value = Number.NaN) => floatValue(value)

/** Integers beyond 2^53 stay exact. */
function integer(value = 0n): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}

/** The remainder has the sign of the divisor. */
const INTEGERS: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => (a - (((a % b) + b) % b)) / b,
  '%': (a, b) => ((a % b) + b) % b,
  '**': (a, b) => a ** b,
}

/** JavaScript and Python round other powers differently. */
function power(a: number, b: number): number {
  if (!Number.isInteger(a) || !Number.isInteger(b))
    throw new Error('a power of or by a fraction is not supported')
  return a ** b
}

const FLOATS: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => Math.floor(a / b),
  '%': (a, b) => a - Math.floor(a / b) * b,
  '**': power,
}
