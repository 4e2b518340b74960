/** Attributes, items, and slices of values, and the methods of Python's texts, lists, and mappings. */
import { Tuple } from '../python-values.js'
import { formatBraces } from './format.js'
import { STRING_METHODS } from './string-methods.js'
import {
  type Arguments,
  asInteger,
  atKey,
  type Callable,
  defined,
  Fields,
  hasKey,
  isEqual,
  isInteger,
  numberOf,
  take,
  typeName,
  Undefined,
  type Value,
  View,
  viewOf,
} from './values.js'

type Method<T> = (value: T, args: Arguments) => Value
type Methods<T> = Readonly<Record<string, Method<T>>>

const LIST_METHODS: Methods<readonly Value[]> = {
  index: (list, args) => {
    const [item] = take(args, 'index()', ['value'])
    const found = list.findIndex((one) => isEqual(one, item))
    if (found < 0) throw new Error('index() finds no such item')
    return found
  },
  count: (list, args) => {
    const [item] = take(args, 'count()', ['value'])
    return list.filter((one) => isEqual(one, item)).length
  },
}

const COPY: Methods<readonly Value[]> = { copy: (list) => [...list] }

const MAPPING_METHODS: Methods<ReadonlyMap<Value, Value>> = {
  get: (map, args) => {
    const [key, otherwise] = take(args, 'get()', ['key'], ['default', null])
    return hasKey(map, key) ? atKey(map, key) : otherwise
  },
  items: (map) =>
    viewOf(
      'dict_items',
      [...map].map((entry) => Tuple.from(entry)),
    ),
  keys: (map) => viewOf('dict_keys', map.keys()),
  values: (map) => viewOf('dict_values', map.values()),
  copy: (map) => new Map(map),
}

/** Methods that change a value, which templates may not do. */
const CHANGES = new Set(
  'append extend insert remove reverse sort pop popitem clear update setdefault'.split(' '),
)

function methodOf(value: Value, name: string): Callable | undefined {
  const bound = <T>(methods: Methods<T>, self: T): Callable | undefined => {
    const method = Object.hasOwn(methods, name) ? methods[name] : undefined
    return method && ((args) => method(self, args))
  }
  if (typeof value === 'string') {
    return name === 'format' ? (args) => formatBraces(value, args) : bound(STRING_METHODS, value)
  }
  if (!Array.isArray(value) && !(value instanceof Map)) return undefined
  if (CHANGES.has(name) && !(value instanceof Tuple))
    return () => {
      throw new Error(`it calls ${name}(), which changes a ${typeName(value)}; templates may not do that`)
    }
  if (value instanceof Map) return bound(MAPPING_METHODS, value)
  if (value instanceof View && value.kind !== 'range') return undefined
  return bound(typeName(value) === 'list' ? { ...LIST_METHODS, ...COPY } : LIST_METHODS, value)
}

const NUMBER_ATTRIBUTES = ['real', 'imag', 'numerator', 'denominator']
const RANGE_ATTRIBUTES = ['start', 'stop', 'step']

/** True for an attribute that Python's numbers and ranges have beside their methods. */
const hasOwn = (value: Value, name: string): boolean =>
  (numberOf(value) !== undefined && NUMBER_ATTRIBUTES.includes(name)) ||
  (value instanceof View && value.kind === 'range' && RANGE_ATTRIBUTES.includes(name))

/** `value.name`: a method goes before a key. */
export function attributeOf(value: Value, name: string, source: string): Value {
  defined(value)
  if (value instanceof Fields)
    return value.entries.has(name) ? value.entries.get(name) : new Undefined(source)
  if (hasOwn(value, name)) throw new Error(`it reads ${source}, which is not supported`)
  const method = methodOf(value, name)
  if (method) return method
  return value instanceof Map && value.has(name) ? value.get(name) : new Undefined(source)
}

/** Items of a mapping are in an order, but have no places. */
const hasNoPlaces = (value: Value) => value instanceof View && value.kind !== 'range'

const isKey = (value: Value) => !(value instanceof Map || (Array.isArray(value) && !(value instanceof Tuple)))

/** `value[key]`: a key goes before a method. */
export function itemOf(value: Value, key: Value, source: string): Value {
  defined(value)
  if (value instanceof Map && isKey(key) && hasKey(value, key)) return atKey(value, key)
  if (typeof key === 'string') return attributeOf(value, key, source)
  const list = typeof value === 'string' ? [...value] : value
  if (hasNoPlaces(list)) return new Undefined(source)
  if (!Array.isArray(list) || !(isInteger(key) || typeof key === 'boolean')) return new Undefined(source)
  const place = Number(key) < 0 ? list.length + Number(key) : Number(key)
  return place >= 0 && place < list.length ? list[place] : new Undefined(source)
}

/** `value[start:stop:step]`; null where the template has none. */
export function sliceOf(value: Value, start: Value, stop: Value, step: Value): Value {
  const list = typeof value === 'string' ? [...value] : defined(value)
  if (!Array.isArray(list) || hasNoPlaces(list))
    throw new Error(`a value of type ${typeName(value)} has no slices`)
  const by = step === null ? 1 : asInteger(step, 'a slice')
  if (by === 0) throw new Error('the step of a slice is 0')
  const [low, high] = by > 0 ? [0, list.length] : [-1, list.length - 1]
  const bound = (given: Value, otherwise: number) => {
    if (given === null) return otherwise
    const place = asInteger(given, 'a slice')
    return Math.min(high, Math.max(low, place < 0 ? place + list.length : place))
  }
  const [from, to] = [bound(start, by > 0 ? low : high), bound(stop, by > 0 ? high : low)]
  const count = Math.max(0, Math.ceil((to - from) / by))
  const taken = Array.from({ length: count }, (_, index) => list[from + index * by] as Value)
  if (typeof value === 'string') return taken.join('')
  if (value instanceof View) return viewOf('range', taken)
  return value instanceof Tuple ? Tuple.from(taken) : taken
}
