/**
 * Values of tool calls and tool schemas as Python reads them from JSON. Most are plain values of JavaScript, whose
 * integers are Python's integers. The others, which JavaScript would change:
 *
 * - a float without a fraction, such as 1.0, is a Number object, because the number 1 is an integer,
 * - an integer beyond 2^53 is a bigint,
 * - a mapping with keys that look like integers is a Map, because an object would put them first.
 *
 * All of them can be sent to another process.
 */

/** The value of a float. */
export function floatValue(value: number): unknown {
  return Number.isInteger(value) ? Object(value) : value
}

/** True for a float without a fraction. */
export function isWholeFloat(value: unknown): value is { valueOf(): number } {
  return value instanceof Number
}

/** The value of a mapping with these keys. */
export function mappingValue(entries: readonly (readonly [string, unknown])[]): object {
  return entries.some(([key]) => INDEX.test(key)) ? new Map(entries) : Object.fromEntries(entries)
}

/** Keys that come first in an object, sorted. */
const INDEX = /^(?:0|[1-9]\d{0,9})$/

/** The values of a list or mapping. Other values have none. */
export function valuesOf(value: unknown): unknown[] {
  if (value instanceof Map) return [...value.values()]
  return typeof value === 'object' && value !== null ? Object.values(value) : []
}

/** The keys and values of a mapping in their order. Other values have none. */
export function entriesOf(value: unknown): [string, unknown][] {
  if (value instanceof Map) return [...value]
  return typeof value === 'object' && value !== null ? Object.entries(value) : []
}

/** A tuple of Python; an array that is none is a list. */
export class Tuple extends Array<unknown> {}
