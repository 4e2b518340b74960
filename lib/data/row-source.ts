/** Rows from a program rather than a file, and whether they can be read again. */
import { ConfigError } from '../core/errors.js'

/** Rows as objects: an array or another iterable, or a function that returns a new iterable for every pass. */
export type RowSource =
  | Iterable<unknown>
  | AsyncIterable<unknown>
  | (() => Iterable<unknown> | AsyncIterable<unknown>)

export function isRowSource(value: unknown): value is RowSource {
  if (typeof value === 'function') return true
  return (
    typeof value === 'object' && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)
  )
}

/** One pass over the rows. */
export function rowsOf(source: RowSource): Iterable<unknown> | AsyncIterable<unknown> {
  const rows = typeof source === 'function' ? source() : source
  if (isRowSource(rows) && typeof rows !== 'function') return rows
  throw new ConfigError('the function given to dataset() must return something to iterate over')
}

/** Generators and streams can be read once; arrays and functions any number of times. */
export function canIterateAgain(source: RowSource): boolean {
  if (typeof source === 'function') return true
  if ('pipe' in source || 'getReader' in source) return false
  const iterator =
    Symbol.asyncIterator in source
      ? source[Symbol.asyncIterator]()
      : (source as Iterable<unknown>)[Symbol.iterator]()
  return (iterator as unknown) !== source
}
