/** The values of rows before their form is known. */
import { nearest } from '../../core/nearest.js'
import { quote } from '../../core/quote.js'
import { isWholeFloat } from '../../tokenizer/python-values.js'

export type Json = Record<string, unknown>

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isWholeFloat(value)
}

export function keysOf(value: Json): string {
  const keys = Object.keys(value)
  return keys.length === 0 ? 'empty object' : `keys ${keys.slice(0, 10).map(quote).join(', ')}`
}

/** The key that is probably a misspelled one of those that are expected. */
export function meant(value: Json, expected: readonly string[]): string {
  for (const key of expected) {
    if (key in value) continue
    const close = nearest(key, Object.keys(value), 2)
    if (close !== undefined) return `; did you mean ${quote(key)} instead of ${quote(close)}?`
  }
  return ''
}
