/** Detects the form of a row from its keys, and reads rows in a form. */
import { nearest } from '../../core/nearest.js'
import { escapeControls, quote } from '../../core/quote.js'
import type { Form, Reading } from '../forms/form.js'
import { ALL_FORMS, type DatasetFormat, FORMS, recognized } from '../forms/index.js'
import type { DatasetRow } from '../rows.js'
import type { Columns } from './columns.js'
import { parsedText, readMessages, readTools } from './messages.js'
import { describe, type RowPlace, rowError } from './place.js'
import { isObject, type Json, keysOf, meant } from './value.js'

const DETECTED = FORMS.filter(({ ofTask }) => ofTask === undefined)
/** Keys that decide on a form. */
const REQUIRED = DETECTED.flatMap(({ columns }) => Object.keys(columns))
const CHAT_COLUMNS = FORMS.flatMap(({ chat }) => chat?.column ?? [])

/** @throws {DataError} when the form cannot be detected from the keys of the row */
export function detectFormat(value: Json, place: RowPlace): DatasetFormat {
  for (const form of ALL_FORMS) {
    const advice = form.ofTask?.advice?.(value)
    if (advice !== undefined) throw rowError(place, advice)
    if (form.ofTask === undefined && recognized(value, [form])) return form.name
  }
  throw rowError(
    place,
    `the format of the dataset cannot be detected from the ${keysOf(value)}; expected ${DETECTED.map(
      ({ expected }) => expected,
    ).join(' or ')}${meant(value, REQUIRED) || `.${advice(value)}`}`,
  )
}

/** Finds keys that are not used because they are misspelled, each once. */
export class Misspellings {
  readonly #seen = new Set<string>()

  /** The first such key of a row, and the one that was probably meant. */
  of(value: Json, { optional = {} }: Form): RowPlace['misspelled'] {
    const known = Object.keys(optional)
    if (known.length === 0) return undefined
    for (const key of Object.keys(value)) {
      if (this.#seen.has(key)) continue
      this.#seen.add(key)
      const meant = known.includes(key) ? undefined : nearest(key, known, 2)
      if (meant !== undefined && !(meant in value)) return { key, meant }
    }
    return undefined
  }
}

/** JSON of what a row has beside its prompt, its answer, and its tools; empty if there is nothing. */
export function itemOf(value: Json, { columns }: Form): string {
  const own = Object.entries(value).filter(([key]) => !(key in columns) && key !== 'tools')
  return own.length === 0 ? '' : JSON.stringify(Object.fromEntries(own), plainJson)
}

/** Values that tables and exact JSON have, as JSON has them. */
function plainJson(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  return value instanceof Map ? Object.fromEntries(value) : value
}

/** Advice for rows that may be wrapped in an object, or use other column names. */
function advice(value: Json): string {
  const wrapper = Object.keys(value).find(
    (key) => Array.isArray(value[key]) && isObject((value[key] as unknown[])[0]),
  )
  if (wrapper !== undefined && Object.keys(value).length <= 3)
    return ` If the rows are under ${quote(wrapper)}, take them out, e.g. with jq -c '.${wrapper}[]'`
  const [first, second] = Object.keys(value)
  return first === undefined
    ? ''
    : ` To map columns with other names, set columns, e.g. columns: {prompt: ${escapeControls(first)}, completion: ${escapeControls(second ?? '…')}}`
}
/**
 * Reads a row in the given form.
 * @param columns names of `role` and `content` inside messages
 * @param isFile true for the text of a whole file
 * @throws {DataError} when the row does not match the form
 */
export function readRow(
  value: Json,
  form: Form,
  columns: Columns,
  place: RowPlace,
  isFile = false,
): DatasetRow {
  const reading: Reading = {
    ...{ place, isFile, chatColumns: CHAT_COLUMNS },
    wrong: (key) => rowError(place, whyWrong(value, form, key)),
    messages: (list, key) => readMessages(list, key, columns, place),
    tools: (row) => readTools(row, place),
    parsed: (given, key) => parsedText(given, key, place),
    as: (other, row) => readRow(row, other, columns, place),
  }
  return form.read(value, reading)
}

function whyWrong(value: Json, { expected }: Form, key: string): string {
  if (key in value) return `expected ${expected}, but ${quote(key)} is ${describe(value[key])}`
  const advice = ALL_FORMS.flatMap(({ ofTask }) => (ofTask?.namesAnswers && ofTask.advice?.(value)) || [])[0]
  return advice ?? `expected ${expected}, but there are only ${keysOf(value)}${meant(value, [key])}`
}
