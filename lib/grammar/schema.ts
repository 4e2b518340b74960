/**
 * JSON schemas as rules: the strict subset of OpenAI's API and a little more. Whatever a schema says is either followed
 * or refused by its path. Texts are compact: after `:` and `,` stands at most one space, and the members of an object
 * have the order of the schema.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { both, isEmpty, Nfa, type State } from './automaton.js'
import { FORMATS } from './formats.js'
import { numberStates } from './numbers.js'
import { ANY, patternStates } from './pattern.js'
import type { Rules } from './rules.js'
import { SchemaError } from './schema-error.js'
import { Lengths, stringOf } from './strings.js'

type Json = Record<string, unknown>

/** Keywords that say nothing about a value. */
const ANNOTATIONS = new Set(
  '$schema $id $comment $defs definitions title description default examples example deprecated readOnly writeOnly'.split(
    ' ',
  ),
)
const KEYWORDS = {
  object: ['properties', 'required', 'additionalProperties', 'propertyNames'],
  array: ['items', 'minItems', 'maxItems'],
  string: ['pattern', 'format', 'minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  boolean: [],
  null: [],
} as const
type Type = keyof typeof KEYWORDS

/** The longest strings and arrays whose lengths are counted, and the deepest alternatives. */
const MOST_LENGTH = 4096
const MOST_ITEMS = 4096
const MOST_DEPTH = 64
const MOST_MULTIPLE = 1000

export class Schemas {
  readonly #rules: Rules
  readonly #root: unknown
  readonly #made = new Map<unknown, Map<string, number>>()
  #lengths: { lengths: Lengths; starts: { rule: number; start: number }[] } | undefined

  constructor(rules: Rules, root: unknown) {
    this.#rules = rules
    this.#root = root
  }

  /** Adds the values of a schema. */
  value(nfa: Nfa, from: number, schema: unknown, path: string, depth = 0): number {
    nfa.budget.work(16)
    if (depth > MOST_DEPTH) throw new SchemaError(path, `is more than ${MOST_DEPTH} alternatives deep`)
    if (schema === true) return nfa.call(from, this.#anything())
    if (!isObject(schema)) throw new SchemaError(path, 'expected a schema, which is an object or true')
    const keys = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key) && schema[key] !== undefined)
    if (keys.length === 0) return nfa.call(from, this.#anything())
    const only = (...known: readonly string[]) => {
      const other = keys.find((key) => !known.includes(key))
      if (other !== undefined) throw new SchemaError(below(path, other), `is not supported${beside(known)}`)
    }
    if (keys.includes('$ref')) {
      only('$ref')
      return nfa.call(from, this.#target(schema.$ref, below(path, '$ref')))
    }
    if (keys.includes('anyOf')) {
      only('anyOf')
      const options = listOf(schema.anyOf, below(path, 'anyOf'))
      return nfa.choice(
        from,
        options.map(
          (option, index) => (at: number) =>
            this.value(nfa, at, option, `${below(path, 'anyOf')}/${index}`, depth + 1),
        ),
      )
    }
    if (keys.includes('allOf')) {
      only('allOf')
      const parts = listOf(schema.allOf, below(path, 'allOf'))
      if (parts.length !== 1) throw new SchemaError(below(path, 'allOf'), 'is supported with one schema only')
      return this.value(nfa, from, parts[0], `${below(path, 'allOf')}/0`, depth + 1)
    }
    const types = typesOf(schema, path)
    for (const keyword of ['const', 'enum'])
      if (keys.includes(keyword)) {
        only(keyword, 'type')
        const listed = keyword === 'const' ? [schema.const] : listOf(schema.enum, below(path, 'enum'))
        const values = listed.filter(
          (value) => types === undefined || types.some((type) => isOf(value, type)),
        )
        if (values.length === 0) throw new SchemaError(below(path, keyword), 'has no value of the type')
        return nfa.choice(
          from,
          values.map((value) => (at: number) => nfa.text(at, JSON.stringify(value))),
        )
      }
    if (types === undefined) {
      const key = keys[0] as string
      const lacks = Object.values(KEYWORDS).some((known: readonly string[]) => known.includes(key))
      throw new SchemaError(below(path, key), lacks ? 'needs a type beside it' : 'is not supported')
    }
    only('type', ...types.flatMap((type) => KEYWORDS[type]))
    return nfa.choice(
      from,
      types.map((type) => (at: number) => this.#typed(nfa, at, type, schema, path)),
    )
  }

  #typed(nfa: Nfa, from: number, type: Type, schema: Json, path: string): number {
    if (type === 'null') return nfa.text(from, 'null')
    if (type === 'boolean')
      return nfa.choice(
        from,
        ['true', 'false'].map((text) => (at) => nfa.text(at, text)),
      )
    if (type === 'string') return nfa.call(from, this.#string(schema, path))
    if (type === 'object' || type === 'array') {
      const rule = this.#once(schema, type, () =>
        this.#rules.add(path, (own, at) =>
          type === 'object' ? this.#object(own, at, schema, path) : this.#array(own, at, schema, path),
        ),
      )
      return nfa.call(from, rule)
    }
    return nfa.call(from, this.#number(schema, type === 'integer', path))
  }

  #object(nfa: Nfa, from: number, schema: Json, path: string): number {
    const properties = schema.properties ?? {}
    if (!isObject(properties)) throw new SchemaError(below(path, 'properties'), 'expected an object')
    const required = schema.required ?? []
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string'))
      throw new SchemaError(below(path, 'required'), 'expected a list of names')
    const lost = required.find((name) => !Object.hasOwn(properties, name))
    if (lost !== undefined)
      throw new SchemaError(below(path, 'required'), `${quote(lost)} is not among the properties`)
    const others = schema.additionalProperties ?? true
    const members = Object.entries(properties)
    const opened = nfa.text(from, '{')
    if (members.length === 0) {
      if (others === false) return nfa.text(opened, '}')
      return this.#map(nfa, opened, schema, path)
    }
    if (typeof others !== 'boolean')
      throw new SchemaError(
        below(path, 'additionalProperties'),
        'is not supported beside properties; expected false',
      )
    if (schema.propertyNames !== undefined)
      throw new SchemaError(below(path, 'propertyNames'), 'is not supported beside properties')
    // The states before a member when none has come yet, and after another one.
    let first: number | undefined = opened
    let more: number | undefined
    for (const [name, property] of members) {
      const key = `${JSON.stringify(name)}:`
      const named = nfa.state()
      if (first !== undefined) nfa.move(nfa.text(first, key), named)
      if (more !== undefined) nfa.move(nfa.text(gap(nfa, nfa.text(more, ',')), key), named)
      const after = this.value(nfa, gap(nfa, named), property, below(below(path, 'properties'), name))
      const next = nfa.state()
      nfa.move(after, next)
      if (required.includes(name)) first = undefined
      else if (more !== undefined) nfa.move(more, next)
      more = next
    }
    const end = nfa.state()
    for (const last of [first, more]) if (last !== undefined) nfa.move(nfa.text(last, '}'), end)
    return end
  }

  /** Members of any name, after the brace. */
  #map(nfa: Nfa, opened: number, schema: Json, path: string): number {
    const names = schema.propertyNames
    const member = (at: number) => {
      const name =
        names === undefined
          ? nfa.call(at, this.#string({}, path))
          : this.#name(nfa, at, names, below(path, 'propertyNames'))
      const value = schema.additionalProperties ?? true
      return this.value(nfa, gap(nfa, nfa.text(name, ':')), value, below(path, 'additionalProperties'))
    }
    return this.#listed(nfa, opened, member, 0, Number.POSITIVE_INFINITY, '}')
  }

  #name(nfa: Nfa, from: number, schema: unknown, path: string): number {
    if (!isObject(schema) || (schema.type !== undefined && schema.type !== 'string'))
      throw new SchemaError(path, 'expected a schema of strings')
    return this.value(nfa, from, { ...schema, type: 'string' }, path)
  }

  #array(nfa: Nfa, from: number, schema: Json, path: string): number {
    const least = countOf(schema, 'minItems', path, MOST_ITEMS) ?? 0
    const most = countOf(schema, 'maxItems', path, MOST_ITEMS) ?? Number.POSITIVE_INFINITY
    if (most < least) throw new SchemaError(below(path, 'maxItems'), 'is below minItems')
    const items = schema.items ?? true
    const item = (at: number) => this.value(nfa, at, items, below(path, 'items'))
    return this.#listed(nfa, nfa.text(from, '['), item, least, most, ']')
  }

  /** Parts with commas between them, and the end. */
  #listed(
    nfa: Nfa,
    from: number,
    part: (at: number) => number,
    least: number,
    most: number,
    end: string,
  ): number {
    const close = nfa.state()
    if (least === 0) nfa.move(from, close)
    if (most > 0) {
      const more = (at: number) => part(gap(nfa, nfa.text(at, ',')))
      nfa.move(nfa.repeat(part(from), more, Math.max(least - 1, 0), most - 1), close)
    }
    return nfa.text(close, end)
  }

  #string(schema: Json, path: string): number {
    const least = countOf(schema, 'minLength', path, MOST_LENGTH) ?? 0
    const most = countOf(schema, 'maxLength', path, MOST_LENGTH) ?? Number.POSITIVE_INFINITY
    if (most < least) throw new SchemaError(below(path, 'maxLength'), 'is below minLength')
    const { pattern, format } = schema
    if (pattern === undefined && format === undefined)
      return this.#once('length', `${least},${most}`, () => this.#ofLength(least, most, path))
    const patterns: [string, string][] = []
    if (format !== undefined) {
      const known = typeof format === 'string' && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined
      if (known === undefined)
        throw new SchemaError(
          below(path, 'format'),
          `${quote(format)} is not supported; expected one of ${Object.keys(FORMATS).join(', ')}`,
        )
      patterns.push([known, 'format'])
    }
    if (pattern !== undefined) {
      if (typeof pattern !== 'string') throw new SchemaError(below(path, 'pattern'), 'expected a string')
      patterns.push([pattern, 'pattern'])
    }
    const key = JSON.stringify([patterns.map(([text]) => text), least, most])
    return this.#once('pattern', key, () =>
      this.#rules.add(path, (nfa, from) => {
        const { budget } = this.#rules
        const parts = patterns.map(([text, keyword]) => {
          try {
            return patternStates(text, budget)
          } catch (error) {
            throw error instanceof ConfigError ? new SchemaError(below(path, keyword), error.message) : error
          }
        })
        if (least > 0 || most < Number.POSITIVE_INFINITY) parts.push(lengthStates(least, most))
        const states = parts.reduce((a, b) => both(a, b, budget))
        if (isEmpty(states)) throw new SchemaError(path, 'no string satisfies it')
        return stringOf(nfa, from, states)
      }),
    )
  }

  #ofLength(least: number, most: number, path: string): number {
    const rule = this.#rules.reserve(path)
    if (this.#lengths === undefined) {
      const lengths = new Lengths(new Nfa(this.#rules.budget))
      const starts: { rule: number; start: number }[] = []
      this.#lengths = { lengths, starts }
      // Once all others are known, of which a later string may be one: a second automaton would share nothing.
      this.#rules.last(() => this.#rules.place(lengths.nfa, starts, lengths.end))
    }
    this.#lengths.starts.push({ rule, start: this.#lengths.lengths.start(least, most) })
    return rule
  }

  #number(schema: Json, integer: boolean, path: string): number {
    const bound = (keyword: string) => {
      const value = schema[keyword]
      if (value === undefined) return undefined
      if (typeof value !== 'number' || !Number.isFinite(value))
        throw new SchemaError(below(path, keyword), 'expected a number')
      return value
    }
    const [low, above] = [bound('minimum'), bound('exclusiveMinimum')]
    const [high, under] = [bound('maximum'), bound('exclusiveMaximum')]
    const multipleOf = bound('multipleOf')
    if (
      multipleOf !== undefined &&
      !(Number.isInteger(multipleOf) && multipleOf > 0 && multipleOf <= MOST_MULTIPLE)
    )
      throw new SchemaError(below(path, 'multipleOf'), `expected an integer from 1 to ${MOST_MULTIPLE}`)
    const range = {
      integer,
      low: low === undefined ? above : above === undefined ? low : Math.max(low, above),
      high: high === undefined ? under : under === undefined ? high : Math.min(high, under),
      above: above !== undefined && above >= (low ?? above),
      below: under !== undefined && under <= (high ?? under),
      multipleOf,
    }
    return this.#once('number', JSON.stringify(range), () => {
      const rule = this.#rules.reserve(path)
      this.#rules.later(() => {
        const states = numberStates(range, this.#rules.budget)
        if (isEmpty(states)) throw new SchemaError(path, 'no number satisfies it')
        this.#rules.placeStates(rule, states)
      })
      return rule
    })
  }

  /** Any JSON value. */
  #anything(): number {
    return this.#once('any', '', () =>
      this.#rules.add('#', (nfa, from) => {
        const types: Type[] = ['object', 'array', 'string', 'number', 'boolean', 'null']
        return nfa.choice(
          from,
          types.map((type) => (at: number) => this.#typed(nfa, at, type, ANYTHING, '#')),
        )
      }),
    )
  }

  #target(ref: unknown, path: string): number {
    if (typeof ref !== 'string' || !/^#(\/.*)?$/s.test(ref))
      throw new SchemaError(path, `${quote(ref)} is not a place in this schema, such as #/$defs/name`)
    let found: unknown = this.#root
    for (const part of ref.split('/').slice(1)) {
      const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~')
      found =
        (isObject(found) || Array.isArray(found)) && Object.hasOwn(found, key)
          ? (found as Json)[key]
          : undefined
    }
    if (found === undefined) throw new SchemaError(path, `there is no ${quote(ref)}`)
    const schema = found
    return this.#once('ref', ref, () =>
      this.#rules.add(ref, (nfa, from) => this.value(nfa, from, schema, ref)),
    )
  }

  /** The rule of a kind and a key, made once. */
  #once(kind: unknown, key: string, make: () => number): number {
    const kinds = this.#made.get(kind) ?? new Map<string, number>()
    this.#made.set(kind, kinds)
    let rule = kinds.get(key)
    if (rule === undefined) {
      rule = make()
      kinds.set(key, rule)
    }
    return rule
  }
}

const ANYTHING: Json = {}

function below(path: string, key: string): string {
  return `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function beside(known: readonly string[]): string {
  const shown = known.filter((key) => key !== 'type')
  return shown.length === 0 ? '' : ` beside ${shown.join(', ')}`
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listOf(value: unknown, path: string): unknown[] {
  if (!Array.isArray(value) || value.length === 0)
    throw new SchemaError(path, 'expected a list that is not empty')
  return value
}

function typesOf(schema: Json, path: string): Type[] | undefined {
  if (schema.type === undefined) return undefined
  const types: unknown[] = Array.isArray(schema.type) ? [...new Set(schema.type)] : [schema.type]
  const unknown = types.find((type) => typeof type !== 'string' || !Object.hasOwn(KEYWORDS, type))
  if (unknown !== undefined || types.length === 0)
    throw new SchemaError(
      below(path, 'type'),
      `expected one of ${Object.keys(KEYWORDS).join(', ')}, or a list`,
    )
  // Integers are numbers, so that they would be read twice.
  return (types as Type[]).filter((type) => type !== 'integer' || !types.includes('number'))
}

function isOf(value: unknown, type: Type): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return isObject(value)
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

function countOf(schema: Json, keyword: string, path: string, most: number): number | undefined {
  const value = schema[keyword]
  if (value === undefined) return undefined
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > most)
    throw new SchemaError(below(path, keyword), `expected an integer from 0 to ${most}`)
  return value as number
}

/** Strings of a number of characters. */
function lengthStates(least: number, most: number): State[] {
  const last = most === Number.POSITIVE_INFINITY ? least : most
  return Array.from({ length: last + 1 }, (_, count): State => {
    const to = count < last ? count + 1 : most === Number.POSITIVE_INFINITY ? count : undefined
    const edges = to === undefined ? [] : ANY.map(([low, high]): [number, number, number] => [low, high, to])
    return { edges, calls: [], accepts: count >= least }
  })
}

function gap(nfa: Nfa, from: number): number {
  const after = nfa.text(from, ' ')
  nfa.move(from, after)
  return after
}

/** A part of a pointer, as it is in a URL's fragment. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
