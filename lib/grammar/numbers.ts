/**
 * Numbers of JSON in a range as automata over their digits. Numbers with a fraction have at most 15 digits, which tell
 * doubles apart in their order, so that no number is outside of its range once it is read.
 */
import { type Budget, explored, type State } from './automaton.js'

export interface NumberRange {
  integer: boolean
  low?: number | undefined
  high?: number | undefined
  /** True if `low` itself is excluded. */
  above?: boolean
  below?: boolean
  /** A positive integer, of which the number is a multiple. */
  multipleOf?: number | undefined
}

/** Digits of a bound before and after the point, without zeros at the ends. */
interface Bound {
  whole: string
  fraction: string
  /** True if the bound itself is excluded. */
  strict: boolean
}

interface Reading {
  at: 'start' | 'minus' | 'whole' | 'point' | 'fraction' | 'e' | 'sign' | 'exponent'
  negative: boolean
  /** Digits so far: before the point, then after it. */
  digits: number
  zero: boolean
  /** Comparison of the digits so far with those of the least and the greatest magnitude: -1, 0, or 1. */
  least: number
  most: number
  rest: number
  /** False while all digits are zeros. */
  some: boolean
}

const SAFE = Number.MAX_SAFE_INTEGER
const MOST_DIGITS = 15

export function numberStates(given: NumberRange, budget: Budget): State[] {
  const multiple = given.multipleOf ?? 1
  const integer = given.integer || given.multipleOf !== undefined
  const range = { low: given.low, high: given.high }
  if (integer) {
    range.low = Math.max(given.low ?? -SAFE, -SAFE)
    range.high = Math.min(given.high ?? SAFE, SAFE)
  }
  const bounded = range.low !== undefined || range.high !== undefined
  // The magnitudes that numbers of either sign may have; undefined for a sign that none has.
  const sides = [false, true].map((negative) => {
    const least = negative ? negated(range.high) : range.low
    const most = negative ? negated(range.low) : range.high
    const [isOutside, isWithin] = negative ? [given.below, given.above] : [given.above, given.below]
    if (most !== undefined && most < 0) return undefined
    return {
      least:
        least !== undefined && (least > 0 || (least === 0 && isOutside === true))
          ? boundOf(least, isOutside === true && least === (negative ? negated(given.high) : given.low))
          : undefined,
      most:
        most === undefined
          ? undefined
          : boundOf(most, isWithin === true && most === (negative ? negated(given.low) : given.high)),
    }
  })
  const mostDigits = integer ? 16 : bounded ? MOST_DIGITS : 17
  const start: Reading = {
    ...{ at: 'start', negative: false, digits: 0, zero: false, least: 0, most: 0, rest: 0, some: false },
  }
  const resolved = (compared: number, digits: number, bound: Bound | undefined): number =>
    bound === undefined ? 0 : digits === bound.whole.length ? compared : digits < bound.whole.length ? -1 : 1
  /** Comparison with the whole bound once no digit before the point follows. */
  const pointed = (state: Reading): Reading => {
    const side = sides[Number(state.negative)]
    return {
      ...{ ...state, digits: bounded ? state.digits : 0 },
      least: resolved(state.least, state.digits, side?.least),
      most: resolved(state.most, state.digits, side?.most),
    }
  }
  const step = (state: Reading, symbol: string): Reading | undefined => {
    const { at } = state
    if (symbol === '-') {
      if (at === 'start') return { ...state, at: 'minus', negative: true }
      return at === 'e' ? { ...state, at: 'sign' } : undefined
    }
    if (symbol === '+') return at === 'e' ? { ...state, at: 'sign' } : undefined
    if (symbol === '.') return !integer && at === 'whole' ? { ...pointed(state), at: 'point' } : undefined
    if (symbol === 'e' || symbol === 'E') {
      if (integer || bounded || (at !== 'whole' && at !== 'fraction') || !state.some) return undefined
      return { ...start, at: 'e', negative: state.negative, some: true }
    }
    const side = sides[Number(state.negative)]
    if (side === undefined) return undefined
    if (at === 'e' || at === 'sign') return { ...state, at: 'exponent', digits: 1 }
    if (at === 'exponent') return state.digits < 2 ? { ...state, digits: 2 } : undefined
    if (state.zero && at === 'whole') return undefined
    const digits = state.digits + 1
    if (digits > mostDigits) return undefined
    const whole = at === 'start' || at === 'minus' || at === 'whole'
    const index = whole || !bounded ? digits - 1 : undefined
    const compared = (before: number, bound: Bound | undefined): number => {
      if (bound === undefined || before !== 0) return before
      if (whole) {
        const other = bound.whole[index as number]
        return other === undefined ? 0 : Math.sign(symbol.charCodeAt(0) - other.charCodeAt(0))
      }
      const other = bound.fraction[state.rest] ?? '0'
      return Math.sign(symbol.charCodeAt(0) - other.charCodeAt(0))
    }
    const next: Reading = {
      ...{ at: whole ? 'whole' : 'fraction', negative: state.negative, digits },
      zero: whole ? digits === 1 && symbol === '0' : state.zero,
      least: compared(state.least, side.least),
      most: compared(state.most, side.most),
      // Digits before the point: the remainder; after it: their number, as far as bounds have digits there.
      rest: whole
        ? (state.rest * 10 + Number(symbol)) % multiple
        : Math.min(
            state.rest + 1,
            Math.max(side.least?.fraction.length ?? 0, side.most?.fraction.length ?? 0),
          ),
      some: state.some || symbol !== '0',
    }
    return next
  }
  const accepts = (state: Reading): boolean => {
    if (state.at === 'exponent') return true
    if (state.at !== 'whole' && state.at !== 'fraction') return false
    const side = sides[Number(state.negative)]
    if (side === undefined || (state.negative && !state.some)) return false
    const read = state.at === 'whole' ? pointed(state) : state
    if (state.at === 'whole' && read.rest !== 0) return false
    const after = state.at === 'whole' ? 0 : state.rest
    const final = (compared: number, bound: Bound) =>
      compared === 0 && bound.fraction.length > after ? -1 : compared
    if (side.least !== undefined) {
      const least = final(read.least, side.least)
      if (least < 0 || (least === 0 && side.least.strict)) return false
    }
    if (side.most !== undefined) {
      const most = final(read.most, side.most)
      if (most > 0 || (most === 0 && side.most.strict)) return false
    }
    return true
  }
  return explored(start, '-+.eE0123456789', step, accepts, budget)
}

function negated(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value === 0 ? 0 : -value
}

/** The digits of a number, without an exponent. */
function boundOf(value: number, strict: boolean): Bound {
  const [mantissa = '0', power = '0'] = String(value).split('e')
  const [before = '0', after = ''] = mantissa.split('.')
  const digits = before + after
  const point = before.length + Number(power)
  const padded = point <= 0 ? '0'.repeat(1 - point) + digits : digits.padEnd(point, '0')
  const split = point <= 0 ? 1 : point
  const whole = padded.slice(0, split).replace(/^0+(?=\d)/, '')
  return { whole, fraction: padded.slice(split).replace(/0+$/, ''), strict }
}
