/** Values as Python writes them: as JSON, as text, and as literals. */

/**
 * Like `json.dumps` with `ensure_ascii=False`: with spaces after commas and colons.
 * @param words other words for `true`, `false`, and `null`
 */
export function pythonJson(value: unknown, words: Readonly<Record<string, string>> = {}): string {
  if (Array.isArray(value)) return `[${value.map((entry) => pythonJson(entry, words)).join(', ')}]`
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value !== 'object' || value === null) return words[String(value)] ?? JSON.stringify(value)
  const entries = Object.entries(value).map(
    ([key, entry]) => `${JSON.stringify(key)}: ${pythonJson(entry, words)}`,
  )
  return `{${entries.join(', ')}}`
}

/** For literals of Python with strings in double quotes. */
export const PYTHON_WORDS = { true: 'True', false: 'False', null: 'None' }

/** Like `str`; undefined, which Jinja writes as nothing, is empty. */
export function pythonText(value: unknown): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : pythonLiteral(value)
}

/** Like `repr`: `True`, `None`, and strings in single quotes. */
function pythonLiteral(value: unknown): string {
  if (value === null || value === undefined) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'string') return quoted(value)
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(', ')}]`
  if (!(value instanceof Map)) return String(value)
  const entries = [...value].map(([key, entry]) => `${quoted(String(key))}: ${pythonLiteral(entry)}`)
  return `{${entries.join(', ')}}`
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
