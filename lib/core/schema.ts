/**
 * Shared handling of options: one zod schema per set of options, with camelCase keys in the API and snake_case keys in
 * files. An unknown key or an invalid value becomes a ConfigError that names the source, the key, the value, and what
 * was expected.
 */
import * as z from 'zod'
import { ConfigError } from './errors.js'
import { FOREIGN_VERBS } from './foreign-keys.js'
import { nearest } from './nearest.js'
import { camelKey, isRecord, objectsIn, shorten, snakeKey, unwrapped } from './schema-shape.js'
import { adviceFor, valueHere } from './unknown-key.js'

export { nearest } from './nearest.js'
export { camelKey, snakeKey } from './schema-shape.js'

/** Source of options, for messages, and the spelling of its keys. */
export interface OptionSource {
  /** A path, or a description such as `train options`. */
  name: string
  spelling: 'snake' | 'camel'
  /** Key of the options within the source, e.g. `strategy`. */
  at?: string
}

/** An integer of at least `least`, below 2^31. */
export function integer(
  least: number,
  expected = least === 1 ? 'a positive integer' : `an integer from ${least}`,
) {
  const error = expected
  return z
    .int({ error })
    .min(least, { error })
    .max(2 ** 31 - 1, { error: `${expected}, below 2^31` })
}

/** Larger than any real adapter's rank; adapter_config.json may claim any number. */
const LARGEST_RANK = 1 << 16

export function rank() {
  return integer(1).max(LARGEST_RANK, { error: `an integer from 1 to ${LARGEST_RANK}` })
}

/** A finite number in [low, high]. */
export function numberWithin(low: number, high: number, expected: string) {
  return z.number({ error: expected }).min(low, { error: expected }).max(high, { error: expected })
}

/** A finite number above zero. */
export function positive(expected = 'a number above 0') {
  return z.number({ error: expected }).gt(0, { error: expected })
}

export function flag() {
  return z.boolean({ error: 'true or false' })
}

export function text(expected = 'a string') {
  return z.string({ error: expected }).min(1, { error: expected })
}

/** One of several words. */
export function word<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words, { error: `one of ${words.join(', ')}` })
}

const UNITS = ['', 'K', 'M', 'G', 'T']

/** Parses a size in bytes or with a unit, such as 500MB (decimal) or 8GiB (binary); undefined if invalid or 0. */
export function parseBytes(text: string): number | undefined {
  const [, digits, prefix = '', binary] = /^(\d+(?:\.\d+)?) ?(?:([KMGT]?)(i?)B)?$/i.exec(text) ?? []
  const power = UNITS.indexOf(prefix.toUpperCase())
  const value = Math.floor(Number(digits) * (binary ? 1024 : 1000) ** power)
  return Number.isSafeInteger(value) && value > 0 ? value : undefined
}

export type JsonSchema = { [key: string]: unknown }

/** A schema as JSON Schema (2020-12) for input values: keys with defaults are optional. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input', reused: 'inline', override: simplify }) as JsonSchema
}

/**
 * Drops redundant constraints: the bounds of safe integers, string-typed keys, and restrictions only TypeScript has.
 */
function simplify({ jsonSchema }: { jsonSchema: JsonSchema }): void {
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
  delete jsonSchema.propertyNames
  delete jsonSchema.readOnly
}

/**
 * Validates options against a schema and returns them in camelCase with defaults filled in.
 * @throws {ConfigError} listing every unknown key (with its equivalent here, if any) and every value out of range
 */
export function parseOptions<T>(schema: z.ZodType<T>, value: unknown, source: OptionSource): T {
  const { data, mistakes } = readOptions(schema, value, source)
  throwMistakes(source, mistakes)
  return data as T
}

/** Like `parseOptions` without throwing: returns the valid options, and a mistake for each invalid one. */
export function readOptions<T>(
  schema: z.ZodType<T>,
  value: unknown,
  source: OptionSource,
): { data: Partial<T>; mistakes: ConfigError[] } {
  const at = source.at === undefined ? [] : [source.at]
  const mistakes: ConfigError[] = []
  const misread = new Set<string>()
  const report = (mistake: ConfigError, path?: readonly string[]) => {
    mistakes.push(mistake)
    if (path) misread.add(path.slice(at.length).map(camelKey).join('.'))
  }
  const root = { schema, value, at }
  const camel = respell(schema, value, { ...source, from: source.spelling, to: 'camel', root, report }, at)
  // Compiling a parser takes longer than it saves, since options are parsed only once or twice.
  const result = schema.safeParse(camel, { jitless: true })
  if (result.success) return { data: result.data, mistakes }
  const wrong = new Set<string>()
  const meant = new Set(mistakes.map(({ details }) => camelKey(String(details.nearest))))
  for (const issue of result.error.issues) {
    const [path] = deepestIssue(issue)
    const key = String(path[0])
    wrong.add(key)
    // If another key was already suggested as this one, do not also report it as missing.
    const missing = path.length === 1 && isRecord(camel) && camel[key] === undefined
    if (missing && [key, `${key}.name`, `${key}.path`].some((one) => meant.has([...at, one].join('.'))))
      continue
    const known = [...path.keys(), path.length].some((end) => misread.has(path.slice(0, end).join('.')))
    if (!known) mistakes.push(issueError(issue, schema, camel, source))
  }
  return { data: rightOnes(schema, camel, wrong) as Partial<T>, mistakes }
}

/** The options whose own values are valid, with defaults. */
function rightOnes(schema: z.ZodType, value: unknown, wrong: ReadonlySet<string>): Record<string, unknown> {
  if (!(schema instanceof z.ZodObject) || !isRecord(value)) return {}
  const entries = Object.entries(schema.shape as Record<string, z.ZodType>).flatMap(([key, inner]) => {
    const read = wrong.has(key) ? undefined : inner.safeParse(value[key], { jitless: true })
    return read?.success ? [[key, read.data] as const] : []
  })
  return Object.fromEntries(entries)
}

/** @throws {ConfigError} listing all mistakes, one per line; does nothing if there are none */
export function throwMistakes({ name }: OptionSource, mistakes: readonly ConfigError[]): void {
  const [first] = mistakes
  if (first === undefined) return
  const prefix = `${name}: `
  const lines = mistakes.map(({ message }) =>
    message.startsWith(prefix) ? message.slice(prefix.length) : message,
  )
  const message =
    mistakes.length === 1 ? first.message : `${prefix}${mistakes.length} mistakes:\n  ${lines.join('\n  ')}`
  const all = mistakes.map(({ details }, i) => ({ message: lines[i], ...details }))
  throw new ConfigError(message, { ...first.details, mistakes: all })
}

/** Converts keys to the spelling in files; keys of data, such as maps by pattern, are unchanged. */
export function toFileKeys(schema: z.ZodType, value: unknown): unknown {
  const report = (mistake: ConfigError) => {
    throw mistake
  }
  const root = { schema, value, at: [] }
  return respell(
    schema,
    value,
    { name: 'options', spelling: 'camel', from: 'camel', to: 'snake', root, report },
    [],
  )
}

/** The error for an invalid value, naming the source, the key, the value, and what was expected. */
export function badValue(source: OptionSource, key: string, value: unknown, expected: string): ConfigError {
  const spelled = source.spelling === 'snake' ? key.split('.').map(snakeKey).join('.') : key
  const path = [source.at, spelled].filter(Boolean).join('.')
  const shown = value === undefined ? 'missing' : shorten(inWords(value))
  const same = valueHere(path.split('.').map(snakeKey).join('.'), value)
  const here = same === undefined ? '' : ` (${String(value)} is ${same} here)`
  return new ConfigError(`${source.name}: ${path} is ${shown}, expected ${expected}${here}.`, {
    source: source.name,
    key: path,
    value: forDetails(value),
    expected,
  })
}

/** Deeply freezes a value. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) deepFreeze(inner)
  }
  return value
}

interface Respelling extends OptionSource {
  from: 'snake' | 'camel'
  to: 'snake' | 'camel'
  root: { schema: z.ZodType; value: unknown; at: readonly string[] }
  /** @param path of a value whose contents cannot be read */
  report: (mistake: ConfigError, path?: readonly string[]) => void
}

function respell(schema: z.ZodType, value: unknown, how: Respelling, path: string[]): unknown {
  if (!isRecord(value)) {
    // zod accepts an instance of any class as an object without keys, so this reports it.
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && objectsIn(schema).length > 0)
      how.report(badValue({ ...how, at: undefined }, path.join('.'), value, 'an object'), path)
    return value
  }
  const object = objectFor(schema, value, how, path)
  if (object === undefined) return value
  const shape = object.shape as Record<string, z.ZodType>
  const result: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) {
    const camel = how.from === 'snake' ? camelKey(key) : key
    const known = Object.hasOwn(shape, camel) && (how.from === 'camel' || snakeKey(camel) === key)
    if (!known) {
      how.report(unknownKey(key, inner, object, value, how, path))
      continue
    }
    const spelled = how.to === 'snake' ? snakeKey(camel) : camel
    result[spelled] = respell(shape[camel] as z.ZodType, inner, how, [...path, key])
  }
  return result
}

/** The object schema that applies to a value, through optional, default, and union wrappers. */
function objectFor(
  schema: z.ZodType,
  value: Record<string, unknown>,
  how: Respelling,
  path: string[],
): z.ZodObject | undefined {
  if (schema instanceof z.ZodObject) return schema
  const inner = unwrapped(schema)
  if (inner) return objectFor(inner, value, how, path)
  if (schema instanceof z.ZodDiscriminatedUnion) return choose(schema, value, how, path)
  if (schema instanceof z.ZodUnion) {
    for (const option of schema.options as z.ZodType[]) {
      const found = objectFor(option, value, how, path)
      if (found) return found
    }
  }
  return undefined
}

function choose(
  union: z.ZodDiscriminatedUnion,
  value: Record<string, unknown>,
  how: Respelling,
  path: string[],
): z.ZodObject | undefined {
  const key = union.def.discriminator
  const options = union.options as unknown as z.ZodObject[]
  const nameOf = (option: z.ZodObject) => String((option.shape[key] as z.ZodLiteral).value)
  const found = options.find((option) => nameOf(option) === value[key])
  if (found) return found
  const names = options.map(nameOf)
  const given = value[key]
  const close = typeof given === 'string' ? nearest(given, names) : undefined
  const at = [...path, key].join('.')
  const shown = given === undefined ? 'missing' : shorten(inWords(given))
  const mistake = new ConfigError(
    `${how.name}: ${at} is ${shown}, expected one of ${names.join(', ')}.${close ? ` Did you mean ${close}?` : whyNot(given)}`,
    { source: how.name, key: at, value: forDetails(given), expected: names },
  )
  how.report(mistake, path)
  return undefined
}

/** Reason why the name does not exist, if known. */
function whyNot(name: unknown): string {
  const { note } = (typeof name === 'string' && FOREIGN_VERBS[name]) || {}
  return note === undefined ? '' : ` ${note[0]?.toUpperCase()}${note.slice(1)}.`
}

function unknownKey(
  key: string,
  value: unknown,
  object: z.ZodObject,
  given: Record<string, unknown>,
  { name, root, from }: Respelling,
  path: string[],
): ConfigError {
  const { advice, nearest } = adviceFor({ key, value, object, given, path, root, spelling: from })
  const at = [...path, key].join('.')
  const known = Object.keys(object.shape).map((one) => (from === 'snake' ? snakeKey(one) : one))
  const details = { source: name, key: at, nearest, known }
  return new ConfigError(`${name}: unknown key ${shorten(at)}; ${advice}`, details)
}

function issueError(
  issue: z.core.$ZodIssue | undefined,
  schema: z.ZodType,
  root: unknown,
  source: OptionSource,
): ConfigError {
  const [at, wanted] = deepestIssue(issue)
  let value = root
  let schemas: z.ZodType[] = [schema]
  for (const step of at) {
    value = (value as Record<PropertyKey, unknown> | undefined)?.[step]
    schemas = schemas.flatMap(objectsIn).flatMap(({ shape }) => shape[String(step)] ?? [])
  }
  const example =
    wanted === MAPPING && (typeof value === 'string' || value === undefined)
      ? mappingFor(value ?? '', schemas, source)
      : undefined
  const said = wanted === MAPPING && source.spelling === 'camel' ? 'an object' : wanted
  const expected = example === undefined ? said : `${said}, as in ${example}`
  if (at.length === 0) {
    const { at, ...whole } = source
    if (at !== undefined) return badValue(whole, at, root, expected)
    return new ConfigError(`${source.name}: the options: expected ${expected}.`, {
      source: source.name,
      expected,
    })
  }
  return badValue(source, at.map(String).join('.'), value, expected)
}

const MAPPING = 'a mapping of keys'

/** A bare name was given instead of an object discriminated by it: `lora` instead of `{name: lora}`. */
function mappingFor(given: string, schemas: readonly z.ZodType[], source: OptionSource): string | undefined {
  const keyed = schemas
    .flatMap(objectsIn)
    .flatMap(({ shape }) =>
      Object.entries(shape).flatMap(([key, schema]) =>
        schema instanceof z.ZodLiteral ? [[key, String(schema.value)] as const] : [],
      ),
    )
  const name = nearest(
    given,
    keyed.map(([, word]) => word),
  )
  const [key, word] = keyed.find(([, one]) => one === name) ?? keyed[0] ?? []
  if (key === undefined || word === undefined) return undefined
  return source.spelling === 'snake' ? `{${snakeKey(key)}: ${word}}` : `{ ${key}: '${word}' }`
}

/** A union reports one list of issues per member; the member that matched furthest is the one intended. */
function deepestIssue(issue: z.core.$ZodIssue | undefined): [PropertyKey[], string] {
  if (issue === undefined) return [[], 'something else']
  if (issue.code === 'invalid_union') {
    const inner = issue.errors.flat().sort((a, b) => b.path.length - a.path.length)[0]
    if (inner && inner.path.length > 0) {
      const [path, expected] = deepestIssue(inner)
      return [[...issue.path, ...path], expected]
    }
  }
  return [issue.path, expectation(issue)]
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value' && issue.message.startsWith('Invalid ')) return issue.values.join(' or ')
  if (issue.code !== 'invalid_type') return issue.message
  const words: Record<string, string> = { object: MAPPING, record: 'a mapping', array: 'a list' }
  return words[issue.expected] ?? issue.message
}

/** Describes values that JSON cannot represent, such as NaN and functions. */
function inWords(value: unknown): string {
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'number' || typeof value === 'symbol') return String(value)
  return asJson(value) ?? `an object of the class ${classOf(value)}`
}

/**
 * undefined for circular structures and values that JSON cannot represent, including objects without visible contents.
 */
function asJson(value: unknown): string | undefined {
  try {
    const text = JSON.stringify(value)
    return text === '{}' && classOf(value) !== 'Object' ? undefined : text
  } catch {
    return undefined
  }
}

const classOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1)

/** Error details must be serializable as JSON. */
const forDetails = (value: unknown): unknown =>
  value === undefined || asJson(value) !== undefined ? value : inWords(value)
