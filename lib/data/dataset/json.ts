/** Parses JSON of datasets. `JSON.parse` silently keeps the last of two equal keys; here they are an error. */

/** A key that appears twice in one object. */
export class RepeatedKey extends Error {
  constructor(readonly key: string) {
    super(`the key ${JSON.stringify(key.slice(0, 80))} appears twice in one object; keep one of the two`)
  }
}

/** @throws SyntaxError when the text is not JSON, RepeatedKey when an object has the same key twice */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text)
  // Counting is several times faster than comparing, and a repeated key makes the counts differ.
  if (keysInText(text) !== keysInValue(value)) {
    const key = repeatedKey(text)
    if (key !== undefined) throw new RepeatedKey(key)
  }
  return value
}

const [QUOTE, BACKSLASH, COLON, SPACE] = [0x22, 0x5c, 0x3a, 0x20]
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d]

/** Counts colons after quotation marks: one per key, plus any inside strings. */
function keysInText(text: string): number {
  let count = 0
  for (let colon = text.indexOf(':'); colon >= 0; colon = text.indexOf(':', colon + 1)) {
    let before = colon - 1
    while (text.charCodeAt(before) <= SPACE) before--
    if (text.charCodeAt(before) === QUOTE) count++
  }
  return count
}

function keysInValue(value: unknown): number {
  let count = 0
  const open = [value]
  while (open.length > 0) {
    const next = open.pop()
    if (typeof next !== 'object' || next === null) continue
    const values = Object.values(next)
    if (!Array.isArray(next)) count += values.length
    for (const inner of values) if (typeof inner === 'object' && inner !== null) open.push(inner)
  }
  return count
}

/** The first key that appears twice in its object, in valid JSON. */
function repeatedKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []
  let keys: Set<string> | undefined
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      open.push(keys)
      keys = code === OPEN_OBJECT ? new Set() : undefined
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) keys = open.pop()
    else if (code === QUOTE) {
      const start = at
      at = endOfString(text, start)
      let next = at + 1
      while (text.charCodeAt(next) <= SPACE) next++
      if (keys === undefined || text.charCodeAt(next) !== COLON) continue
      const key = JSON.parse(text.slice(start, at + 1)) as string
      if (keys.has(key)) return key
      keys.add(key)
    }
  }
  return undefined
}

/** Place of the quotation mark that ends the string. */
export function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
}
