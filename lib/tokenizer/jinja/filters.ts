/** Filters of templates, `x | name(...)`, as Jinja and transformers define them. */
import { type JsonStyle, pythonJson } from '../python-text.js'
import { floatValue, Tuple } from '../python-values.js'
import { attributeOf, itemOf } from './attributes.js'
import { formatPercent } from './format.js'
import { capitalize } from './letter-case.js'
import { OPERATORS } from './operators.js'
import { floatIn, integerIn, isFloat, rounded } from './rounding.js'
import { replaced, splitLines, strip } from './string-methods.js'
import { testNamed } from './tests.js'
import {
  type Arguments,
  asInteger,
  asText,
  checkHashable,
  defined,
  Fields,
  isCallable,
  isEqual,
  isInteger,
  isTrue,
  itemsOf,
  lengthOf,
  numberOf,
  order,
  Stream,
  take,
  textOf,
  typeName,
  Undefined,
  type Value,
  View,
  wrongKind,
} from './values.js'

type Filter = (value: Value, args: Arguments) => Value

/** Function that reads a dotted attribute, such as `function.name` or `0.role`. */
function reader(path: Value): (item: Value) => Value {
  if (path === null) return (item) => item
  const parts = isInteger(path) ? [path] : asText(path, 'an attribute').split('.')
  return (item) =>
    parts.reduce<Value>((inner, part) => {
      const key = typeof part === 'string' && /^\d+$/.test(part) ? Number(part) : part
      return itemOf(inner, key, `${String(path)} of an item`)
    }, item)
}

/** Function that reads what `sort`, `min`, `max`, and `unique` compare. */
function sortKey(attribute: Value, caseSensitive: Value): (item: Value) => Value {
  const reads = typeof attribute === 'string' ? attribute.split(',').map(reader) : [reader(attribute)]
  const folded = (key: Value) => (typeof key === 'string' && !isTrue(caseSensitive) ? key.toLowerCase() : key)
  return (item) => {
    const [first, ...more] = reads.map((read) => folded(read(item)))
    return more.length === 0 ? first : [first, ...more]
  }
}

function sorted(items: readonly Value[], key: (item: Value) => Value, reverse: boolean): Value[] {
  const keyed = Array.from(items, (item) => [key(item), item] as const)
  return keyed.sort(([a], [b]) => (reverse ? order(b, a) : order(a, b))).map(([, item]) => item)
}

/** The item whose key is the least, or the greatest. */
function extreme(name: string, sign: number): Filter {
  return (value, args) => {
    const [caseSensitive, attribute] = take(args, name, ['case_sensitive', false], ['attribute', null])
    const key = sortKey(attribute, caseSensitive)
    const items = itemsOf(value)
    if (items.length === 0) return new Undefined(`the ${name} of no items`)
    return items.reduce((best, item) => (order(key(item), key(best)) * sign > 0 ? item : best))
  }
}

const rest = ({ positional, named }: Arguments, from: number): Arguments => ({
  positional: positional.slice(from),
  named,
})

/** `select`, `reject`, and the same by an attribute: items that pass a test, which is truth if none is named. */
function selection(keep: boolean, byAttribute: boolean): Filter {
  return (value, args) => {
    const read = byAttribute ? reader(args.positional[0] ?? null) : reader(null)
    const [name, argument] = args.positional.slice(byAttribute ? 1 : 0)
    const test = name === undefined ? isTrue : testNamed(asText(name, 'a filter by a test'))
    if (!isTrue(value)) return new Stream([])
    return new Stream(itemsOf(value).filter((item) => test(read(item), argument) === keep))
  }
}

const map: Filter = (value, args) => {
  if (!isTrue(value)) return new Stream([])
  const [name] = args.positional
  if (name !== undefined) {
    const filter = filterNamed(asText(name, 'map'))
    return new Stream(itemsOf(value).map((item) => filter(item, rest(args, 1))))
  }
  const [attribute, otherwise] = take(args, 'map', ['attribute'], ['default', null])
  const read = reader(attribute)
  return new Stream(
    itemsOf(value).map((item) => {
      const found = read(item)
      return found instanceof Undefined && otherwise !== null ? otherwise : found
    }),
  )
}

const join: Filter = (value, args) => {
  const [separator, attribute] = take(args, 'join', ['d', ''], ['attribute', null])
  return itemsOf(value).map(reader(attribute)).map(textOf).join(textOf(separator))
}

const indent: Filter = (value, args) => {
  const [width, first, blank] = take(args, 'indent', ['width', 4], ['first', false], ['blank', false])
  const space = typeof width === 'string' ? width : ' '.repeat(Math.min(1 << 10, asInteger(width, 'indent')))
  const lines = splitLines(`${asText(value, 'indent')}\n`)
  const indented = lines.map((line, index) =>
    index > 0 && (line !== '' || isTrue(blank)) ? space + line : line,
  )
  return (isTrue(first) ? space : '') + indented.join('\n')
}

const toInteger: Filter = (value, args) => {
  const [otherwise, base] = take(args, 'int', ['default', 0], ['base', 10])
  const text = typeof value === 'string' ? strip(value, null) : undefined
  const whole = text === undefined ? undefined : integerIn(text, asInteger(base, 'int'))
  if (whole !== undefined) return whole
  const number = text === undefined ? numberOf(defined(value)) : floatIn(text)
  if (typeof number === 'bigint') return number
  return number === undefined || !Number.isFinite(number) ? otherwise : Math.trunc(number)
}

const toFloat: Filter = (value, args) => {
  const [otherwise] = take(args, 'float', ['default', floatValue(0)])
  const number = typeof value === 'string' ? floatIn(strip(value, null)) : numberOf(defined(value))
  return number === undefined ? otherwise : floatValue(Number(number))
}

const round: Filter = (value, args) => {
  const [precision, method] = take(args, 'round', ['precision', 0], ['method', 'common'])
  const digits = asInteger(precision, 'round')
  const number = numberOf(value) ?? wrongKind(value, 'round')
  if (method === 'common') return rounded(number, digits, isFloat(value))
  if (method !== 'ceil' && method !== 'floor') throw new Error('round is by "common", "ceil", or "floor"')
  const scale = 10 ** digits
  // An integer of Python has no negative zero.
  return floatValue((Math[method](Number(number) * scale) + 0) / scale)
}

const absolute: Filter = (value) => {
  const number = numberOf(value) ?? wrongKind(value, 'abs')
  if (isFloat(value)) return floatValue(Math.abs(Number(number)))
  return number < 0 ? -number : number
}

const dictsort: Filter = (value, args) => {
  const parameters = [
    ['case_sensitive', false],
    ['by', 'key'],
    ['reverse', false],
  ] as const
  const [caseSensitive, by, reverse] = take(args, 'dictsort', ...parameters)
  if (by !== 'key' && by !== 'value') throw new Error('dictsort is by "key" or "value"')
  return sorted(entriesIn(value, 'dictsort'), sortKey(by === 'key' ? 0 : 1, caseSensitive), isTrue(reverse))
}

function entriesIn(value: Value, name: string): Value[] {
  return value instanceof Map ? [...value].map((entry) => Tuple.from(entry)) : wrongKind(value, name)
}

const unique: Filter = (value, args) => {
  const key = sortKey(
    ...(take(args, 'unique', ['case_sensitive', false], ['attribute', null]).reverse() as [Value, Value]),
  )
  const seen: Value[] = []
  const hashed = (item: Value) => {
    const own = key(item)
    checkHashable(own)
    return own
  }
  return new Stream(
    itemsOf(value).filter((item) => {
      const own = hashed(item)
      const found = seen.some((other) => isEqual(other, own))
      if (!found) seen.push(own)
      return !found
    }),
  )
}

/** The value as JSON has it. */
function jsonValue(value: Value): unknown {
  const isPlain = !(value instanceof Undefined || value instanceof Stream || value instanceof Fields)
  if (!isPlain || value instanceof View || isCallable(value))
    throw new Error(`a value of type ${typeName(defined(value))} cannot be written as JSON`)
  if (Array.isArray(value)) return [...value].map(jsonValue)
  if (!(value instanceof Map)) return value
  return new Map([...value].map(([key, inner]) => [jsonKey(key), jsonValue(inner)]))
}

const jsonKey = (key: Value) => (typeof key === 'string' ? key : pythonJson(key))

const toJson: Filter = (value, args) => {
  const [ensureAscii, space, separators, sortKeys] = take(
    args,
    'tojson',
    ...(['ensure_ascii', 'indent', 'separators', 'sort_keys'] as const).map((name) => [name, null] as const),
  )
  const style: JsonStyle = {
    ensureAscii: isTrue(ensureAscii),
    sortKeys: isTrue(sortKeys),
    ...(space === null
      ? {}
      : { indent: typeof space === 'string' ? space : ' '.repeat(asInteger(space, 'tojson')) }),
    ...(separators === null ? {} : { separators: separators as [string, string] }),
  }
  return pythonJson(jsonValue(value), style)
}

const FILTERS: Readonly<Record<string, Filter>> = {
  abs: absolute,
  attr: (value, args) => {
    const [name] = take(args, 'attr', ['name'])
    const found = attributeOf(value, asText(name, 'attr'), String(name))
    return value instanceof Map && !isCallable(found) ? new Undefined(String(name)) : found
  },
  capitalize: (value) => capitalize(textOf(value)),
  count: lengthOf,
  default: (value, args) => {
    const [otherwise, falsy] = take(args, 'default', ['default_value', ''], ['boolean', false])
    return value instanceof Undefined || (isTrue(falsy) && !isTrue(value)) ? otherwise : value
  },
  dictsort,
  first: (value) => {
    const items = itemsOf(value)
    return items.length > 0 ? items[0] : new Undefined('the first of no items')
  },
  float: toFloat,
  format: (value, { positional, named }) =>
    formatPercent(textOf(value), named.size > 0 ? new Map(named) : Tuple.from(positional)),
  indent,
  int: toInteger,
  items: (value) => new Stream(value instanceof Undefined ? [] : entriesIn(value, 'items')),
  join,
  last: (value) => {
    if (value instanceof Stream) throw new Error('the last item of a generator is not known; add "| list"')
    const items = itemsOf(value)
    return items.length > 0 ? items[items.length - 1] : new Undefined('the last of no items')
  },
  length: lengthOf,
  list: (value) => [...itemsOf(value)],
  lower: (value) => textOf(value).toLowerCase(),
  map,
  max: extreme('max', 1),
  min: extreme('min', -1),
  reject: selection(false, false),
  rejectattr: selection(false, true),
  replace: (value, args) => {
    const [old, by, count] = take(args, 'replace', ['old'], ['new'], ['count', null])
    return replaced(textOf(value), textOf(old), textOf(by), count === null ? -1 : asInteger(count, 'replace'))
  },
  reverse: (value) =>
    typeof value === 'string' ? [...value].reverse().join('') : new Stream([...itemsOf(value)].reverse()),
  round,
  safe: textOf,
  select: selection(true, false),
  selectattr: selection(true, true),
  sort: (value, args) => {
    const parameters = [
      ['reverse', false],
      ['case_sensitive', false],
      ['attribute', null],
    ] as const
    const [reverse, caseSensitive, attribute] = take(args, 'sort', ...parameters)
    return sorted(itemsOf(value), sortKey(attribute, caseSensitive), isTrue(reverse))
  },
  string: textOf,
  sum: (value, args) => {
    const [attribute, start] = take(args, 'sum', ['attribute', null], ['start', 0])
    return itemsOf(value)
      .map(reader(attribute))
      .reduce((sum, item) => OPERATORS['+']?.(sum, item), start)
  },
  title: (value) =>
    textOf(value).replace(
      /[^-\s({[<]+/gu,
      ([first = '', ...rest]) => first.toUpperCase() + rest.join('').toLowerCase(),
    ),
  tojson: toJson,
  trim: (value, args) => strip(textOf(value), take(args, 'trim', ['chars', null])[0]),
  unique,
  upper: (value) => textOf(value).toUpperCase(),
  wordcount: (value) => (textOf(value).match(/[\p{L}\p{N}_]+/gu) ?? []).length,
}

const SHORT_NAMES: Readonly<Record<string, string>> = { d: 'default' }

/** The filter of this name. */
export function filterNamed(name: string): Filter {
  const full = Object.hasOwn(SHORT_NAMES, name) ? (SHORT_NAMES[name] as string) : name
  const filter = Object.hasOwn(FILTERS, full) ? FILTERS[full] : undefined
  if (filter === undefined) throw new Error(`it uses the filter "${name}", which is unknown`)
  return filter
}
