/** Attributes, items, and slices of values, and the methods of Python's texts, lists, and mappings. */
import { Tuple } from '../python-values.js'
import { formatBraces } from './format.js'
import { STRING_METHODS } from './string-methods.js'
import {
  type Arguments,
  asInteger,
  type Callable,
  defined,
  Fields,
  isEqual,
  isInteger,
  take,
  typeName,
  Undefined,
  type Value,
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
  copy: (list) => [...list],
}

const MAPPING_METHODS: Methods<ReadonlyMap<Value, Value>> = {
  get: (map, args) => {
    const [key, otherwise] = take(args, 'get()', ['key'], ['default', null])
    return map.has(key) ? map.get(key) : otherwise
  },
  items: (map) => [...map].map((entry) => Tuple.from(entry)),
  keys: (map) => [...map.keys()],
  values: (map) => [...map.values()],
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
  return Array.isArray(value) ? bound(LIST_METHODS, value) : bound(MAPPING_METHODS, value)
}

/** `value.name`: a method goes before a key. */
export function attributeOf(value: Value, name: string, source: string): Value {
  defined(value)
  if (value instanceof Fields)
    return value.entries.has(name) ? value.entries.get(name) : new Undefined(source)
  const method = methodOf(value, name)
  if (method) return method
  return value instanceof Map && value.has(name) ? value.get(name) : new Undefined(source)
}

/** `value[key]`: a key goes before a method. */
export function itemOf(value: Value, key: Value, source: string): Value {
  defined(value)
  if (value instanceof Map && value.has(key)) return value.get(key)
  if (typeof key === 'string') return attributeOf(value, key, source)
  const list = typeof value === 'string' ? [...value] : value
  if (!Array.isArray(list) || !(isInteger(key) || typeof key === 'boolean')) return new Undefined(source)
  const place = Number(key) < 0 ? list.length + Number(key) : Number(key)
  return place >= 0 && place < list.length ? list[place] : new Undefined(source)
}

/** `value[start:stop:step]`; null where the template has none. */
export function sliceOf(value: Value, start: Value, stop: Value, step: Value): Value {
  const list = typeof value === 'string' ? [...value] : defined(value)
  if (!Array.isArray(list)) throw new Error(`a value of type ${typeName(value)} has no slices`)
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
  return value instanceof Tuple ? Tuple.from(taken) : taken
}
