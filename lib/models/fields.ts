/** Reads typed fields from an untrusted config.json, with one clear error per invalid field. */
import { FileFormatError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { LARGEST_SIZES } from '../formats/model-limits.js'

/** A reader over one config; `null` and absent fields use the fallback. */
export interface FieldReader {
  /** A positive integer, within the key's limit in LARGEST_SIZES if there is one, else below 2^31. */
  size(key: string, fallback?: number): number
  /** Like `size`, but `null` means none; an absent field uses the fallback. */
  optionalSize(key: string, fallback?: number): number | undefined
  /** A nonnegative integer. */
  count(key: string, fallback?: number): number
  /** A finite number above zero. */
  number(key: string, fallback?: number): number
  /** Like `number`, but undefined if absent, `null`, or zero. */
  optionalNumber(key: string): number | undefined
  flag(key: string, fallback: boolean): boolean
  text(key: string, fallback: string): string
  /** A list of strings; undefined if absent. */
  texts(key: string): string[] | undefined
  /** A list of finite numbers; undefined if absent. */
  numbers(key: string): number[] | undefined
}

export function fieldReader(config: Record<string, unknown>, where = 'config.json'): FieldReader {
  const wrong = (key: string, expected: string): never => {
    const value = config[key]
    const shown = value === undefined ? 'missing' : quote(value)
    throw new FileFormatError(`${where}: ${key} is ${shown}, expected ${expected}.`, { key, value })
  }
  const pick = (key: string, fallback: unknown): unknown => config[key] ?? fallback
  // Every dimension must fit a signed 32-bit integer.
  const whole = (value: unknown, least: number, most = 2 ** 31 - 1): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
  const size = (key: string, fallback?: number): number => {
    const value = pick(key, fallback)
    const most = LARGEST_SIZES[key]
    if (whole(value, 1, most)) return value
    return wrong(key, most === undefined ? 'a positive integer' : `an integer from 1 to ${most}`)
  }
  const number = (key: string, fallback?: number): number => {
    const value = pick(key, fallback)
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value
    return wrong(key, 'a number above zero')
  }
  return {
    size,
    optionalSize(key, fallback) {
      const value = config[key] === undefined ? fallback : config[key]
      return value === undefined || value === null ? undefined : size(key, fallback)
    },
    count(key, fallback) {
      const value = pick(key, fallback)
      return whole(value, 0) ? value : wrong(key, 'a whole number from 0')
    },
    number,
    optionalNumber: (key) => ((config[key] ?? 0) === 0 ? undefined : number(key)),
    flag(key, fallback) {
      const value = pick(key, fallback)
      return typeof value === 'boolean' ? value : wrong(key, 'true or false')
    },
    text(key, fallback) {
      const value = pick(key, fallback)
      return typeof value === 'string' ? value : wrong(key, 'a string')
    },
    texts(key) {
      const value = pick(key, undefined)
      if (value === undefined) return undefined
      if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value
      return wrong(key, 'a list of strings')
    },
    numbers(key) {
      const value = pick(key, undefined)
      if (value === undefined) return undefined
      if (Array.isArray(value) && value.every((entry) => Number.isFinite(entry))) return value
      return wrong(key, 'a list of numbers')
    },
  }
}
