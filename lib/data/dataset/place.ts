/** Position of a row of data, for error messages. */

import { DataError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import { isWholeFloat } from '../../tokenizer/python-values.js'

/**
 * Position of a row, from 1. Line-based files count lines; JSON arrays, Parquet, and rows from a program count
 * rows.
 */
export interface RowPlace {
  path: string
  line: number
  /** Unit of `line`, if not lines. */
  unit?: 'row'
  /** A key of the row that is not used, and the one that was probably meant. */
  misspelled?: { key: string; meant: string } | undefined
  /** Group of the row, if the data is read with `groupBy`. */
  group?: string
  /** JSON of the columns beside those of its format, if rows are read as prompts; empty without any. */
  item?: string
}

/** A row as read, before its format is known. */
export interface RawRow {
  value: unknown
  place: RowPlace
  /** The table that the row is from. Its columns are in their order, which an object's keys lose for whole numbers. */
  table?: { delimiter: string; columns: readonly string[] }
}

/** Largest row accepted as an example, in bytes. */
export const LARGEST_ROW = 64 << 20

/** `line 7` or `row 7`. */
export function placeName({ line, unit = 'line' }: Pick<RowPlace, 'line'> & { unit?: string }): string {
  return `${unit} ${line}`
}

/** An error about one row. */
export function rowError(place: RowPlace, message: string, cause?: unknown): DataError {
  const { path, line, unit = 'line' } = place
  return new DataError(
    `${path}, ${placeName(place)}: ${message}`,
    { path, [unit]: line },
    cause === undefined ? {} : { cause },
  )
}

/** A part of a file that is not UTF-8; its message has no advice yet. */
export class NotUtf8 extends DataError {
  /** @param part such as `the line` */
  constructor(place: RowPlace, part: string, cause?: unknown) {
    const { message, details } = rowError(place, `${part} is not UTF-8 text`)
    super(message, details, { cause })
  }
}

/** Describes a value for a message. */
export function describe(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && !isWholeFloat(value)) return 'an object'
  return typeof value === 'string' ? `the string ${quote(value)}` : String(value)
}
