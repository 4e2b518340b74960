/**
 * JSON that is read and written again, with numbers as they were written: JavaScript has one type for `1` and `1.0`, but
 * Python programs refuse one where they expect the other, and integers above 2^53 would be rounded.
 */
import { JsonScanner } from './json-scanner.js'

/** A number of a JSON text, with its spelling. */
export class WrittenNumber {
  constructor(readonly text: string) {}
}

/** A number that Python reads as a float. */
export function writtenFloat(value: number): WrittenNumber {
  return new WrittenNumber(Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value))
}

/**
 * Like `JSON.parse`, with a `WrittenNumber` for each number.
 * @param depth largest depth of nested objects and arrays
 * @throws JsonSyntaxError when the text is not JSON, or nested more deeply
 */
export function parseWritten(text: string, depth: number): unknown {
  const scanner = new JsonScanner(text)
  const value = scanner.value(depth, (digits) => new WrittenNumber(digits))
  scanner.end()
  return value
}

/** Like `JSON.stringify` with an indentation of two spaces, with each `WrittenNumber` in its spelling. */
export function writtenText(value: unknown, indent = ''): string {
  if (value instanceof WrittenNumber) return value.text
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const inner = `${indent}  `
  const list = Array.isArray(value)
  const members = list
    ? value.map((one) => writtenText(one ?? null, inner))
    : Object.entries(value)
        .filter(([, one]) => one !== undefined)
        .map(([key, one]) => `${JSON.stringify(key)}: ${writtenText(one, inner)}`)
  const [open, close] = list ? '[]' : '{}'
  if (members.length === 0) return `${open}${close}`
  return `${open}\n${inner}${members.join(`,\n${inner}`)}\n${indent}${close}`
}
