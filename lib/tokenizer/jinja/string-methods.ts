/** Methods of Python's texts. White space and the ends of lines are Python's, which has others than JavaScript. */
import { PYTHON_SPACE as SPACE } from '../python-space.js'
import { Tuple } from '../python-values.js'
import { capitalize, casefold } from './letter-case.js'
import { type Arguments, asInteger, asText, itemsOf, take, type Value } from './values.js'

const WORDS = new RegExp(`[^${SPACE}]+`, 'g')
const ALL_SPACE = new RegExp(`^[${SPACE}]+$`)
/** A character of two UTF-16 units. */
const PAIR = /^[\ud800-\udbff][\udc00-\udfff]$/
const IS_SPACE = new RegExp(`[${SPACE}]`)
const LINE_ENDS = '\\n\\v\\f\\r\\x1c-\\x1e\\x85\\u2028\\u2029'
const LINES = new RegExp(`[^${LINE_ENDS}]*(?:\\r\\n|[${LINE_ENDS}])|[^${LINE_ENDS}]+$`, 'g')
const LINE_END = new RegExp(`[${LINE_ENDS}]+$`)

/** The text without characters at its ends: those of `characters`, or white space if it is null. */
export function strip(text: string, characters: Value, ends: 'both' | 'left' | 'right' = 'both'): string {
  const listed = characters === null ? undefined : new Set(asText(characters, 'strip()'))
  const drops = (char: string) => (listed ? listed.has(char) : IS_SPACE.test(char))
  let [start, end] = [0, text.length]
  while (ends !== 'right' && start < end) {
    const char = String.fromCodePoint(text.codePointAt(start) as number)
    if (!drops(char)) break
    start += char.length
  }
  while (ends !== 'left' && end > start) {
    const pair = end - start > 1 && PAIR.test(text.slice(end - 2, end))
    const char = text.slice(pair ? end - 2 : end - 1, end)
    if (!drops(char)) break
    end -= char.length
  }
  return text.slice(start, end)
}

export const splitLines = (text: string, keepEnds = false): string[] =>
  (text.match(LINES) ?? []).map((line) => (keepEnds ? line : line.replace(LINE_END, '')))

/** @param count how many are replaced, all if negative */
export function replaced(text: string, old: string, by: string, count: number): string {
  const parts = old === '' ? ['', ...text, ''] : text.split(old)
  const most = count < 0 ? parts.length : count
  return parts.map((part, index) => (index === 0 ? part : (index <= most ? by : old) + part)).join('')
}

function split(text: string, args: Arguments): string[] {
  const [separator, most] = take(args, 'split()', ['sep', null], ['maxsplit', -1])
  const limit = asInteger(most, 'split()')
  const count = limit < 0 ? Number.POSITIVE_INFINITY : limit
  if (separator !== null) {
    const parts = pieces(text, separator)
    return parts.length <= count + 1
      ? parts
      : [...parts.slice(0, count), parts.slice(count).join(String(separator))]
  }
  const words = [...text.matchAll(WORDS)]
  if (words.length <= count) return words.map(([word]) => word)
  const rest = text.slice(words[count]?.index)
  return [...words.slice(0, count).map(([word]) => word), rest]
}

function splitFromEnd(text: string, args: Arguments): string[] {
  const [separator, most] = take(args, 'rsplit()', ['sep', null], ['maxsplit', -1])
  const count = asInteger(most, 'rsplit()')
  if (count < 0) return split(text, { positional: [separator], named: new Map() })
  if (separator === null) {
    const mirrored = [...text].reverse().join('')
    const parts = split(mirrored, { positional: [null, count], named: new Map() })
    return parts.map((part) => [...part].reverse().join('')).reverse()
  }
  const parts = pieces(text, separator)
  const at = Math.max(0, parts.length - count)
  return at <= 1 ? parts : [parts.slice(0, at).join(String(separator)), ...parts.slice(at)]
}

function pieces(text: string, separator: Value): string[] {
  if (separator === '') throw new Error('split() has an empty separator')
  return text.split(asText(separator, 'split()'))
}

/** True if one of the texts, of which a tuple may have several, fits. */
function anyText(args: Arguments, name: string, fits: (text: string) => boolean): boolean {
  const [given] = take(args, name, ['prefix'])
  return (given instanceof Tuple ? [...given] : [given]).some((one) => fits(asText(one, name)))
}

function placeOf(text: string, args: Arguments, last: boolean): number {
  const [part] = take(args, 'find()', ['sub'])
  const sought = asText(part, 'find()')
  const at = last ? text.lastIndexOf(sought) : text.indexOf(sought)
  return at < 0 ? -1 : [...text.slice(0, at)].length
}

function partition(text: string, args: Arguments, last: boolean): Value {
  const [given] = take(args, 'partition()', ['sep'])
  const separator = asText(given, 'partition()')
  const at = last ? text.lastIndexOf(separator) : text.indexOf(separator)
  if (at < 0) return Tuple.from(last ? ['', '', text] : [text, '', ''])
  return Tuple.from([text.slice(0, at), separator, text.slice(at + separator.length)])
}

function padded(text: string, args: Arguments, name: string, left: boolean): string {
  const [width, fill] = take(args, name, ['width'], ['fillchar', ' '])
  const missing = Math.min(1 << 16, asInteger(width, name) - [...text].length)
  const padding = asText(fill, name).repeat(Math.max(0, missing))
  return left ? padding + text : text + padding
}

const isCased = (text: string) => text.toLowerCase() !== text.toUpperCase()

export const STRING_METHODS: Readonly<Record<string, (text: string, args: Arguments) => Value>> = {
  upper: (text) => text.toUpperCase(),
  lower: (text) => text.toLowerCase(),
  casefold,
  capitalize,
  title: (text) => text.replace(/\p{L}+/gu, capitalize),
  strip: (text, args) => strip(text, take(args, 'strip()', ['chars', null])[0]),
  lstrip: (text, args) => strip(text, take(args, 'lstrip()', ['chars', null])[0], 'left'),
  rstrip: (text, args) => strip(text, take(args, 'rstrip()', ['chars', null])[0], 'right'),
  split,
  rsplit: splitFromEnd,
  splitlines: (text, args) => splitLines(text, take(args, 'splitlines()', ['keepends', false])[0] === true),
  partition: (text, args) => partition(text, args, false),
  rpartition: (text, args) => partition(text, args, true),
  startswith: (text, args) => anyText(args, 'startswith()', (part) => text.startsWith(part)),
  endswith: (text, args) => anyText(args, 'endswith()', (part) => text.endsWith(part)),
  removeprefix: (text, args) => {
    const prefix = asText(take(args, 'removeprefix()', ['prefix'])[0], 'removeprefix()')
    return text.startsWith(prefix) ? text.slice(prefix.length) : text
  },
  removesuffix: (text, args) => {
    const suffix = asText(take(args, 'removesuffix()', ['suffix'])[0], 'removesuffix()')
    return suffix !== '' && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text
  },
  replace: (text, args) => {
    const [old, by, count] = take(args, 'replace()', ['old'], ['new'], ['count', -1])
    return replaced(text, asText(old, 'replace()'), asText(by, 'replace()'), asInteger(count, 'replace()'))
  },
  join: (text, args) =>
    itemsOf(take(args, 'join()', ['iterable'])[0])
      .map((item) => asText(item, 'join()'))
      .join(text),
  find: (text, args) => placeOf(text, args, false),
  rfind: (text, args) => placeOf(text, args, true),
  index: (text, args) => {
    const at = placeOf(text, args, false)
    if (at < 0) throw new Error('index() does not find the text')
    return at
  },
  count: (text, args) => {
    const part = asText(take(args, 'count()', ['sub'])[0], 'count()')
    return part === '' ? [...text].length + 1 : text.split(part).length - 1
  },
  ljust: (text, args) => padded(text, args, 'ljust()', false),
  rjust: (text, args) => padded(text, args, 'rjust()', true),
  isdigit: (text) => /^\p{Nd}+$/u.test(text),
  isalpha: (text) => /^\p{L}+$/u.test(text),
  isalnum: (text) => /^[\p{L}\p{N}]+$/u.test(text),
  isspace: (text) => ALL_SPACE.test(text),
  islower: (text) => isCased(text) && text === text.toLowerCase(),
  isupper: (text) => isCased(text) && text === text.toUpperCase(),
}
