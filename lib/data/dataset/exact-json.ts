/**
 * Parses JSON of tool calls and tool schemas as Python does (see python-values.ts), because templates show their
 * values to the model as they are. Everything else is parsed as usual.
 */
import { floatValue, mappingValue } from '../../tokenizer/python-values.js'
import { endOfString, parseJson } from './json.js'

/** Keys of values that templates write as JSON or Python. */
export const TEMPLATE_KEYS: readonly string[] = ['tools', 'arguments']

/** An array or object that has not ended. */
interface Open {
  /** Undefined for an array. */
  keys: string[] | undefined
  values: unknown[]
  exact: boolean
}

const [QUOTE, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x22, 0x5b, 0x5d, 0x7b, 0x7d]
const SCALAR = /[\w.+-]+/y

/**
 * Like `parseJson`, with exact values under some keys.
 * @param under undefined if all values should be exact
 */
export function parseExactJson(text: string, under?: readonly string[]): unknown {
  const value = parseJson(text)
  return under === undefined || under.some((key) => text.includes(`"${key}"`)) ? read(text, under) : value
}

/** @param text valid JSON */
function read(text: string, under: readonly string[] | undefined): unknown {
  const outer: Open[] = []
  let open: Open = { keys: undefined, values: [], exact: under === undefined }
  const isExact = () => open.exact || (under?.includes(open.keys?.at(-1) as string) ?? false)
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      const end = endOfString(text, at)
      const string = JSON.parse(text.slice(at, end + 1)) as string
      const isKey = open.keys?.length === open.values.length
      if (isKey) open.keys?.push(string)
      else open.values.push(string)
      at = end
    } else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      const inner = { keys: code === OPEN_OBJECT ? [] : undefined, values: [], exact: isExact() }
      outer.push(open)
      open = inner
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) {
      const value = closed(open)
      open = outer.pop() as Open
      open.values.push(value)
    } else {
      SCALAR.lastIndex = at
      const scalar = SCALAR.exec(text)?.[0]
      if (scalar === undefined) continue
      open.values.push(isExact() ? exactScalar(scalar) : JSON.parse(scalar))
      at += scalar.length - 1
    }
  }
  return open.values[0]
}

function closed({ keys, values, exact }: Open): unknown {
  if (keys === undefined) return values
  const entries = keys.map((key, place) => [key, values[place]] as const)
  return exact ? mappingValue(entries) : Object.fromEntries(entries)
}

function exactScalar(text: string): unknown {
  const value = JSON.parse(text) as unknown
  if (typeof value !== 'number') return value
  if (/[.eE]/.test(text)) return floatValue(value)
  return Number.isSafeInteger(value) ? value : BigInt(text)
}
