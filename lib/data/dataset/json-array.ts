/**
 * Reads a JSON array of examples element by element: the document may be larger than memory, but an element may
 * not. Only the end of each element is found here; parseExactJson parses it.
 */
import { escapeControls } from '../../core/quote.js'
import { type Bytes, withoutMark } from './bytes.js'
import { parseExactJson, TEMPLATE_KEYS } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { LARGEST_ROW, NotUtf8, type RawRow, type RowPlace, rowError } from './place.js'

const [TAB, LINE_FEED, RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20]
const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c]
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d]

type State = 'before' | 'element' | 'first' | 'inside' | 'after' | 'end'

/** @param exact keys whose values are parsed exactly */
export async function* readJsonArray(
  bytes: Bytes,
  path: string,
  exact = TEMPLATE_KEYS,
): AsyncGenerator<RawRow, void, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let state = 'before' as State
  let [row, line, firstLine] = [0, 1, 1]
  let [depth, inString, escaped] = [0, false, false]
  let parts: Uint8Array[] = []
  let length = 0
  const place = (): RowPlace => ({ path, line: Math.max(row, 1), unit: 'row' })
  const unexpected = (byte: number, expected: string) =>
    rowError(
      place(),
      `expected ${expected} at line ${line} of the JSON array, found ${JSON.stringify(String.fromCharCode(byte))}`,
    )
  const parse = (): RawRow => {
    const text = Buffer.concat(parts)
    parts = []
    length = 0
    let value: unknown
    try {
      value = parseExactJson(decoder.decode(text), exact)
    } catch (cause) {
      const at = firstLine === line ? `line ${line}` : `lines ${firstLine} to ${line}`
      if (cause instanceof RepeatedKey) throw rowError(place(), `${at}: ${cause.message}`, cause)
      const part = `the element (${at})`
      if (!(cause instanceof SyntaxError)) throw new NotUtf8(place(), part, cause)
      throw rowError(place(), `${part} is not valid JSON: ${escapeControls(cause.message)}`, cause)
    }
    return { value, place: place() }
  }
  for await (const chunk of withoutMark(bytes, path)) {
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number
      if (state === 'inside') {
        let ended = false
        if (inString) {
          if (escaped) escaped = false
          else if (byte === BACKSLASH) escaped = true
          else if (byte === QUOTE) {
            inString = false
            ended = depth === 0
          }
        } else if (byte === QUOTE) inString = true
        else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth++
        else if (depth > 0) {
          if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) ended = --depth === 0
        } else if (byte === COMMA || byte === CLOSE_ARRAY || isSpace(byte)) {
          // A bare word or number ends before the next delimiter.
          parts.push(chunk.subarray(start, i))
          yield parse()
          state = 'after'
        }
        if (ended) {
          parts.push(chunk.subarray(start, i + 1))
          yield parse()
          state = 'after'
          continue
        }
        if (state === 'inside') {
          if (byte === LINE_FEED) line++
          continue
        }
      }
      if (byte === LINE_FEED) line++
      if (isSpace(byte)) continue
      if (state === 'before') {
        if (byte !== OPEN_ARRAY) throw unexpected(byte, '"["')
        state = 'first'
      } else if (state === 'first' && byte === CLOSE_ARRAY) state = 'end'
      else if (state === 'first' || state === 'element') {
        row++
        if (byte === COMMA || byte === CLOSE_ARRAY) throw unexpected(byte, 'an object')
        state = 'inside'
        start = i
        firstLine = line
        depth = 0
        inString = byte === QUOTE
        escaped = false
        if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth = 1
      } else if (state === 'after') {
        if (byte === COMMA) state = 'element'
        else if (byte === CLOSE_ARRAY) state = 'end'
        else throw unexpected(byte, '"," or "]"')
      } else throw unexpected(byte, 'nothing after the "]"')
    }
    if (state === 'inside') {
      parts.push(chunk.subarray(start))
      length += chunk.length - start
      if (length > LARGEST_ROW)
        throw rowError(place(), `the element is larger than ${LARGEST_ROW} bytes; is a bracket missing?`)
    }
  }
  if ((state as State) !== 'end')
    throw rowError(
      place(),
      `the JSON array ends too early, at line ${line}: its "]" is missing; the file may be truncated`,
    )
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === LINE_FEED || byte === RETURN || byte === TAB
}
