/**
 * Values of a running template. Those of data are as in python-values.ts, with every mapping as a Map; the classes here
 * are the kinds that only templates have. Truth, equality, order, and iteration are Python's.
 */
import { pythonLiteral, pythonText } from '../python-text.js'
import { entriesOf, isWholeFloat, Tuple } from '../python-values.js'

export type Value = unknown

/** What a name or key without a value stands for. Most uses of it are errors. */
export class Undefined {
  /** @param source the expression in the template */
  constructor(readonly source: string) {}
}

/** The result of filters that give their items once, such as `map`. */
export class Stream {
  #items: readonly Value[]

  constructor(items: readonly Value[]) {
    this.#items = items
  }

  read(): readonly Value[] {
    const items = this.#items
    this.#items = []
    return items
  }
}

/** What `range()` and the methods of mappings give: items that are in no list, which cannot be added to one or written. */
export class View extends Array<Value> {
  kind: 'range' | 'dict_items' | 'dict_keys' | 'dict_values' = 'range'

  /** What is made of its items is a list. */
  static override get [Symbol.species]() {
    return Array
  }
}

/** @param kind name of its type in Python */
export function viewOf(kind: View['kind'], items: Iterable<Value>): View {
  const view = new View()
  view.kind = kind
  for (const item of items) view.push(item)
  return view
}

/** A text that `safe` marks: `+` escapes the other text for HTML, as Jinja does even where it escapes nothing else. */
export class Markup {
  constructor(readonly text: string) {}

  static of(value: Value): Markup {
    return value instanceof Markup
      ? value
      : new Markup(textOf(value).replace(/[&<>'"]/g, (char) => HTML[char] ?? ''))
  }
}

const HTML: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' },
}

/** A value with attributes: what `namespace()` returns, or the variable `loop`. */
export class Fields {
  constructor(
    readonly kind: 'namespace' | 'loop',
    readonly entries: Map<string, Value>,
  ) {}
}

/** The arguments of a call. */
export interface Arguments {
  positional: readonly Value[]
  named: ReadonlyMap<string, Value>
}

export type Callable = (args: Arguments) => Value

export const isCallable = (value: Value): value is Callable => typeof value === 'function'

/** The value of a variable that the program passes to a template. */
export function templateValue(value: unknown): Value {
  if (Array.isArray(value)) return value.map(templateValue)
  if (typeof value !== 'object' || value === null || isWholeFloat(value)) return value
  const entries = entriesOf(value).filter(([, inner]) => inner !== undefined)
  return new Map(entries.map(([key, inner]) => [key, templateValue(inner)]))
}

/** The values of parameters, in their order; a parameter is a name and the value without an argument. */
export function take(
  { positional, named }: Arguments,
  name: string,
  ...parameters: readonly (readonly [name: string, otherwise?: Value])[]
): Value[] {
  if (positional.length > parameters.length)
    throw new Error(`${name} takes at most ${parameters.length} arguments, not ${positional.length}`)
  const unknown = [...named.keys()].find((key) => !parameters.some(([parameter]) => parameter === key))
  if (unknown !== undefined) throw new Error(`${name} has no parameter "${unknown}"`)
  return parameters.map(([key, otherwise], place) => {
    if (place < positional.length) return positional[place]
    return named.has(key) ? named.get(key) : otherwise
  })
}

/** Name of the type in Python. */
export function typeName(value: Value): string {
  if (value === null) return 'NoneType'
  if (typeof value === 'string') return 'str'
  if (typeof value === 'boolean') return 'bool'
  if (isInteger(value)) return 'int'
  if (typeof value === 'number' || isWholeFloat(value)) return 'float'
  if (value instanceof Tuple) return 'tuple'
  if (value instanceof View) return value.kind
  if (Array.isArray(value)) return 'list'
  if (value instanceof Map) return 'dict'
  if (value instanceof Stream) return 'generator'
  if (value instanceof Fields) return value.kind
  return isCallable(value) ? 'function' : 'undefined'
}

/** The value, which must not be undefined. */
export function defined(value: Value): Value {
  if (value instanceof Undefined) throw new Error(`${value.source} is not defined`)
  return value
}

/** @throws the error about a value of the wrong kind */
export function wrongKind(value: Value, what: string): never {
  throw new Error(`${what} does not take a value of type ${typeName(defined(value))}`)
}

export const isInteger = (value: Value): value is number | bigint =>
  typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value))

/** The number that a value is in arithmetic, where booleans are 0 and 1. */
export function numberOf(value: Value): number | bigint | undefined {
  if (typeof value === 'boolean') return Number(value)
  if (isWholeFloat(value)) return value.valueOf()
  return typeof value === 'number' || typeof value === 'bigint' ? value : undefined
}

export function isTrue(value: Value): boolean {
  const number = numberOf(value)
  if (number !== undefined) return number !== 0 && number !== 0n
  if (Array.isArray(value)) return value.length > 0
  if (value instanceof Map) return value.size > 0
  return value !== null && value !== '' && !(value instanceof Undefined)
}

export function isEqual(a: Value, b: Value): boolean {
  const [x, y] = [numberOf(a), numberOf(b)]
  if (x !== undefined && y !== undefined) return x <= y && x >= y
  if (Array.isArray(a) && Array.isArray(b)) {
    const alike = a.length === b.length && typeName(a) === typeName(b)
    return alike && a.every((item, index) => isEqual(item, b[index]))
  }
  if (a instanceof Map && b instanceof Map)
    return (
      a.size === b.size && [...a].every(([key, inner]) => hasKey(b, key) && isEqual(inner, atKey(b, key)))
    )
  return a === b || (a instanceof Undefined && b instanceof Undefined)
}

/** Negative, zero, or positive. */
export function order(a: Value, b: Value): number {
  const [x, y] = [numberOf(a), numberOf(b)]
  if (x !== undefined && y !== undefined) return x < y ? -1 : x > y ? 1 : 0
  // Bytes of UTF-8 are in the order of code points; UTF-16 units are not.
  if (typeof a === 'string' && typeof b === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b))
  if (Array.isArray(a) && Array.isArray(b) && typeName(a) === typeName(b) && !(a instanceof View)) {
    const place = a.findIndex((item, index) => index >= b.length || !isEqual(item, b[index]))
    if (place < 0) return a.length - b.length
    return place < b.length ? order(a[place], b[place]) : 1
  }
  throw new Error(`values of types ${typeName(defined(a))} and ${typeName(defined(b))} have no order`)
}

/** The items of a loop over the value. */
export function itemsOf(value: Value): readonly Value[] {
  if (typeof value === 'string') return [...value]
  if (Array.isArray(value)) return value
  if (value instanceof Map) return [...value.keys()]
  if (value instanceof Stream) return value.read()
  if (value instanceof Undefined) return []
  throw new Error(`a value of type ${typeName(value)} has no items`)
}

/** The value of a key, which is that of an equal number too: 1, 1.0, and true are one key. */
export const atKey = (map: ReadonlyMap<Value, Value>, key: Value): Value => map.get(keyIn(map, key))

export const hasKey = (map: ReadonlyMap<Value, Value>, key: Value): boolean => map.has(keyIn(map, key))

function keyIn(map: ReadonlyMap<Value, Value>, key: Value): Value {
  if (typeof key === 'string' || map.has(key)) return key
  checkHashable(key)
  return [...map.keys()].find((one) => isEqual(one, key)) ?? key
}

/** @throws for a value that cannot be a key, such as a list */
export function checkHashable(value: Value): void {
  if (value instanceof Tuple) value.forEach(checkHashable)
  else if (value instanceof Map || (Array.isArray(value) && typeName(value) !== 'range'))
    throw new Error(`a value of type ${typeName(value)} is no key, and is not sought among keys`)
}

/** Characters of two UTF-16 units. */
const PAIRS = /[\ud800-\udbff][\udc00-\udfff]/g

export function lengthOf(value: Value): number {
  if (typeof value === 'string') return value.length - (value.match(PAIRS)?.length ?? 0)
  if (Array.isArray(value)) return value.length
  if (value instanceof Map) return value.size
  if (value instanceof Undefined) return 0
  throw new Error(`a value of type ${typeName(value)} has no length`)
}

export function contains(container: Value, item: Value): boolean {
  if (container instanceof Map) return hasKey(container, item)
  if (typeof container !== 'string') return itemsOf(container).some((one) => isEqual(one, item))
  return container.includes(typeof item === 'string' ? item : wrongKind(item, '"in" with a text'))
}

/** The text that a template writes for a value. */
export function textOf(value: Value): string {
  return value instanceof Undefined ? '' : pythonText(value, ownLiteral)
}

/** Like `repr`. */
export const literalOf = (value: Value): string => pythonLiteral(value, ownLiteral)

function ownLiteral(value: Value): string | undefined {
  if (value instanceof Undefined) return 'Undefined'
  if (value instanceof Markup) return `Markup(${pythonLiteral(value.text)})`
  if (value instanceof Stream || value instanceof Fields || value instanceof View || isCallable(value))
    throw new Error(
      `a value of type ${typeName(value)} cannot be written as text; a list, with "| list", can`,
    )
  return undefined
}

/** A text as an argument. */
export function asText(value: Value, what: string): string {
  return typeof value === 'string' ? value : wrongKind(value, what)
}

/** An integer as an argument. */
export function asInteger(value: Value, what: string): number {
  const number = numberOf(value)
  return number !== undefined && Number.isInteger(Number(number)) ? Number(number) : wrongKind(value, what)
}
