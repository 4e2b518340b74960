/** Renames the columns of a dataset to the names that a format expects. */
import { quote } from '../../core/quote.js'
import { FORMS, type FormColumn } from '../forms/index.js'
import { type RowPlace, rowError } from './place.js'
import { type Json, keysOf } from './value.js'

/** Columns that formats read. */
export const FORM_COLUMNS = [
  ...new Set(FORMS.flatMap(({ columns, optional }) => Object.keys({ ...columns, ...optional }))),
] as readonly FormColumn[]
/** Names that can be mapped. `role` and `content` are inside messages. */
export type ColumnName = FormColumn | 'role' | 'content'
export const COLUMN_NAMES: readonly ColumnName[] = [...FORM_COLUMNS, 'role', 'content']

/** The content of a column in words, for the documentation. */
export function columnMeaning(name: ColumnName): string {
  if (name === 'role' || name === 'content') return `Within each message: the ${name}.`
  const meanings = new Map<string, string[]>()
  for (const form of FORMS) {
    const meaning = { ...form.columns, ...form.optional }[name]
    if (meaning !== undefined) meanings.set(meaning, [...(meanings.get(meaning) ?? []), `\`${form.name}\``])
  }
  return Array.from(meanings, ([meaning, forms]) => `${LIST.format(forms)}: ${meaning}.`).join(' ')
}

const LIST = new Intl.ListFormat('en-US')

/** Maps an expected column name to its name in the data; dots select nested values. */
export type Columns = Readonly<Partial<Record<ColumnName, string>>>

/** Columns that may be missing from a row. */
const OPTIONAL: ReadonlySet<string> = new Set(FORMS.flatMap(({ optional = {} }) => Object.keys(optional)))

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
