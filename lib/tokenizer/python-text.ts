/** Values as Python writes them: as JSON, as text, and as literals. */
import { entriesOf, isWholeFloat, Tuple } from './python-values.js'

export interface JsonStyle {
  /** Other words for `true`, `false`, and `null`. */
  words?: Readonly<Record<string, string>>
  /** Text before each entry, once per level; each entry then has a line of its own. */
  indent?: string
  separators?: readonly [item: string, key: string]
  ensureAscii?: boolean
  sortKeys?: boolean
}

/** Like `json.dumps` with `ensure_ascii=False` by default: with spaces after commas and colons. */
export function pythonJson(value: unknown, style: JsonStyle = {}): string {
  return json(value, style, '\n')
}

/** @param line the line feed and indentation of the line that the value begins on */
function json(value: unknown, style: JsonStyle, line: string): string {
  const { indent, words = {}, separators = [indent === undefined ? ', ' : ',', ': '] } = style
  const string = (text: string) => jsonString(text, style.ensureAscii ?? false)
  if (typeof value === 'string') return string(value)
  if (value === undefined || value === null || typeof value === 'boolean') {
    const word = String(value ?? null)
    return words[word] ?? word
  }
  if (isNumber(value)) return numberText(value, String)
  if (typeof value !== 'object') throw new Error(`a ${typeof value} cannot be written as JSON`)
  const inner = line + (indent ?? '')
  const within = ([open, close]: string, parts: readonly string[]) => {
    if (parts.length === 0 || indent === undefined) return `${open}${parts.join(separators[0])}${close}`
    return `${open}${inner}${parts.join(separators[0] + inner)}${line}${close}`
  }
  if (Array.isArray(value))
    return within(
      '[]',
      value.map((entry) => json(entry, style, inner)),
    )
  const entries = entriesOf(value)
  if (style.sortKeys) entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return within(
    '{}',
    entries.map(([key, entry]) => `${string(key)}${separators[1]}${json(entry, style, inner)}`),
  )
}

function jsonString(text: string, ensureAscii: boolean): string {
  const written = JSON.stringify(text)
  return ensureAscii ? written.replace(/[\x7f-\uffff]/g, unicodeEscape) : written
}

const unicodeEscape = (char: string) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`

/** For literals of Python with strings in double quotes. */
export const PYTHON_WORDS = { true: 'True', false: 'False', null: 'None' }

/** Like `str`; undefined, which Jinja writes as nothing, is empty. */
export function pythonText(value: unknown, own?: OwnLiteral): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : pythonLiteral(value, own)
}

/** Literal of a value that data do not have; undefined for others. */
export type OwnLiteral = (value: unknown) => string | undefined

/** Like `repr`: `True`, `None`, and strings in single quotes. */
export function pythonLiteral(value: unknown, own?: OwnLiteral): string {
  const literal = (inner: unknown) => pythonLiteral(inner, own)
  const special = own?.(value)
  if (special !== undefined) return special
  if (value === null || value === undefined) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'string') return quoted(value)
  if (isNumber(value)) return numberText(value, unboundedText)
  if (Array.isArray(value)) {
    const items = Array.from(value, literal).join(', ')
    if (value instanceof Tuple) return value.length === 1 ? `(${items},)` : `(${items})`
    return `[${items}]`
  }
  if (typeof value !== 'object') return String(value)
  const entries = entriesOf(value).map(([key, entry]) => `${literal(key)}: ${literal(entry)}`)
  return `{${entries.join(', ')}}`
}

type PythonNumber = number | bigint | { valueOf(): number }

function isNumber(value: unknown): value is PythonNumber {
  return typeof value === 'number' || typeof value === 'bigint' || isWholeFloat(value)
}

/** @param unbounded writes infinities and NaN */
function numberText(value: PythonNumber, unbounded: (value: number) => string): string {
  if (typeof value === 'bigint' || Number.isInteger(value)) return String(value)
  const float = Number(value)
  return Number.isFinite(float) ? floatText(float) : unbounded(float)
}

const unboundedText = (value: number) =>
  String(value)
    .replace(/Infinity/, 'inf')
    .toLowerCase()

/** Like `repr` of a float, which has an exponent below 1e-4 and from 1e16 on. */
function floatText(value: number): string {
  const [digits, exponent] = value.toExponential().split('e') as [string, string]
  const power = Number(exponent)
  if (power < -4 || power >= 16)
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`
  const text = Object.is(value, -0) ? '-0' : String(value)
  return text.includes('.') ? text : `${text}.0`
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** In single quotes, or in double quotes if only single ones occur in the text. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const escaped = text.replace(/[\\\p{Cc}\xa0\xad]/gu, (char) => {
    const code = char.charCodeAt(0)
    return ESCAPES[char] ?? `\\x${code.toString(16).padStart(2, '0')}`
  })
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote
}
