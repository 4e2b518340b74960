/** Renames the columns of a dataset to the names that a format expects. */
import { quote } from '../../core/quote.js'
import { isWholeFloat } from '../../tokenizer/python-values.js'
import type { RowPlace } from './place.js'
import { rowError } from './place.js'

/** Columns that formats read. */
export const FORM_COLUMNS = [
  'messages',
  'conversations',
  'prompt',
  'completion',
  'chosen',
  'rejected',
  'label',
  'text',
  'instruction',
  'input',
  'output',
  'history',
  'system',
  'tools',
] as const
/** Names that can be mapped. `role` and `content` are inside messages. */
export const COLUMN_NAMES = [...FORM_COLUMNS, 'role', 'content'] as const
export type ColumnName = (typeof COLUMN_NAMES)[number]

/** Maps an expected column name to its name in the data; dots select nested values. */
export type Columns = Readonly<Partial<Record<ColumnName, string>>>

/** Columns that may be missing from a row. */
const OPTIONAL = new Set<ColumnName>(['input', 'history', 'system', 'tools'])

export type Json = Record<string, unknown>

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isWholeFloat(value)
}

export function keysOf(value: Json): string {
  const keys = Object.keys(value)
  return keys.length === 0 ? 'empty object' : `keys ${keys.slice(0, 10).map(quote).join(', ')}`
}

/** Mapped columns that are not inside messages. */
export function rowColumns(columns: Columns): [name: ColumnName, source: string][] {
  return Object.entries(columns).filter(([name]) => name !== 'role' && name !== 'content') as [
    ColumnName,
    string,
  ][]
}

/**
 * The row with columns under their expected names; mapped columns lose their original names.
 * @throws {DataError} when the data has no such column
 */
export function mapColumns(value: Json, columns: Columns, place: RowPlace): Json {
  const mapped = rowColumns(columns)
  if (mapped.length === 0) return value
  const rest = { ...value }
  for (const [, source] of mapped) delete rest[source]
  const found = mapped.flatMap(([name, source]) => {
    const inner = lookUp(value, source)
    if (inner !== undefined) return [[name, inner] as const]
    if (OPTIONAL.has(name)) return []
    throw rowError(place, `there is no column ${quote(source)} (columns.${name}), only ${keysOf(value)}`)
  })
  return { ...rest, ...Object.fromEntries(found) }
}

/** The value of a column, by its full name or by a dotted path. */
export function lookUp(value: Json, source: string): unknown {
  if (Object.hasOwn(value, source)) return value[source]
  let inner: unknown = value
  for (const step of source.split('.')) {
    if (typeof inner !== 'object' || inner === null || !Object.hasOwn(inner, step)) return undefined
    inner = (inner as Json)[step]
  }
  return inner
}
