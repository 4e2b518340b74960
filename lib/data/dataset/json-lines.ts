/** JSON Lines: one JSON object per line. Blank lines, a byte order mark and CRLF are tolerated. */
import { escapeControls, quote } from '../../core/quote.js'
import { type Bytes, withoutMark } from './bytes.js'
import { parseExactJson, TEMPLATE_KEYS } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { LARGEST_ROW, NotUtf8, type RawRow, type RowPlace, rowError } from './place.js'

/** @param exact keys whose values are parsed exactly */
export async function* readJsonLines(
  bytes: Bytes,
  path: string,
  exact = TEMPLATE_KEYS,
): AsyncGenerator<RawRow, void, void> {
  for await (const { text, line } of readLines(bytes, path)) {
    const place = { path, line }
    yield { value: parseLine(text, place, exact), place }
  }
}

/** Plain lines, each a separate text. */
export async function* readPlainLines(bytes: Bytes, path: string): AsyncGenerator<RawRow, void, void> {
  for await (const { text, line } of readLines(bytes, path)) yield { value: { text }, place: { path, line } }
}

/** Lines that are not blank, trimmed. */
async function* readLines(
  bytes: Bytes,
  path: string,
): AsyncGenerator<{ text: string; line: number }, void, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let line = 0
  const decode = (found: Uint8Array) => {
    line++
    try {
      return { text: decoder.decode(found).trim(), line }
    } catch (cause) {
      throw new NotUtf8({ path, line }, 'the line', cause)
    }
  }
  let parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of withoutMark(bytes, path)) {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end))
      const row = decode(parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts))
      parts = []
      length = 0
      start = end + 1
      if (row.text !== '') yield row
    }
    parts.push(chunk.subarray(start))
    length += chunk.length - start
    if (length > LARGEST_ROW) {
      throw rowError(
        { path, line: line + 1 },
        `the line is longer than ${LARGEST_ROW} bytes; expected one example per line`,
      )
    }
  }
  const row = decode(Buffer.concat(parts))
  if (row.text !== '') yield row
}

function parseLine(text: string, place: RowPlace, exact: readonly string[]): unknown {
  try {
    return parseExactJson(text, exact)
  } catch (cause) {
    if (cause instanceof RepeatedKey) throw rowError(place, cause.message, cause)
    const hint = /^[[{]\s*$/.test(text)
      ? '; a JSON document spread over several lines is not JSON Lines: put each example on one line, e.g. with jq -c, or all of them into one array'
      : /^["{[]/.test(text)
        ? ''
        : `; it begins with ${quote(text.slice(0, 20))}`
    throw rowError(
      place,
      `the line is not valid JSON: ${escapeControls((cause as Error).message)}${hint}`,
      cause,
    )
  }
}
