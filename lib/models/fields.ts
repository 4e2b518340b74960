/** Reads numbers, flags and names out of a config.json that came from outside, with one clear error per bad field. */
import { FileFormatError } from '../errors.js'

/** A reader over one config; `null` and absent fields take the fallback. */
export interface FieldReader {
  /** A positive integer. */
  size(key: string, fallback?: number): number
  /** A finite number above zero. */
  number(key: string, fallback?: number): number
  flag(key: string, fallback: boolean): boolean
  text(key: string, fallback: string): string
}

export function fieldReader(config: Record<string, unknown>, where = 'config.json'): FieldReader {
  const wrong = (key: string, expected: string): never => {
    const value = config[key]
    const shown = value === undefined ? 'missing' : JSON.stringify(value)
    throw new FileFormatError(`${where}: ${key} is ${shown}, expected ${expected}.`, { key, value })
  }
  const pick = (key: string, fallback: unknown): unknown => config[key] ?? fallback
  return {
    size(key, fallback) {
      const value = pick(key, fallback)
      // 2^31 - 1 bounds every dimension, so products of two stay exact in a double.
      if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 2 ** 31) return value
      return wrong(key, 'a positive integer')
    },
    number(key, fallback) {
      const value = pick(key, fallback)
      if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value
      return wrong(key, 'a number above zero')
    },
    flag(key, fallback) {
      const value = pick(key, fallback)
      return typeof value === 'boolean' ? value : wrong(key, 'true or false')
    },
    text(key, fallback) {
      const value = pick(key, fallback)
      return typeof value === 'string' ? value : wrong(key, 'a string')
    },
  }
}
