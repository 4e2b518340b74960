/**
 * Shared by everything that takes options: one zod schema per set of options, written in camelCase for the API, read in
 * snake_case from files. An unknown key or a bad value becomes a ConfigError that names the source, the key, the value
 * and what was expected.
 */
import * as z from 'zod'
import { ConfigError } from './errors.js'
import { escapeControls } from './files/input.js'

/** Where options came from, for messages, and how their keys are spelled there. */
export interface OptionSource {
  /** A path, or what the options belong to, such as `train options`. */
  name: string
  spelling: 'snake' | 'camel'
  /** Key under which the options stand in the source, e.g. `strategy`. */
  at?: string
}

export const snakeKey = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
export const camelKey = (key: string): string =>
  key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/** An integer of at least `least`; counts are bounded so that products of two stay exact. */
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

/** Larger than any adapter's; an adapter_config.json may claim any number. */
const LARGEST_RANK = 1 << 16

export function rank() {
  return integer(1).max(LARGEST_RANK, { error: `an integer from 1 to ${LARGEST_RANK}` })
}

/** A finite number within [low, high]. */
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

/** One of a few words. */
export function word<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words, { error: `one of ${words.join(', ')}` })
}

const UNITS = ['', 'K', 'M', 'G', 'T']

/** A size in bytes, or with a unit, as in 500MB (decimal) and 8GiB (binary); undefined for what is none, or 0. */
export function parseBytes(text: string): number | undefined {
  const [, digits, prefix = '', binary] = /^(\d+(?:\.\d+)?) ?(?:([KMGT]?)(i?)B)?$/i.exec(text) ?? []
  const power = UNITS.indexOf(prefix.toUpperCase())
  const value = Math.floor(Number(digits) * (binary ? 1024 : 1000) ** power)
  return Number.isSafeInteger(value) && value > 0 ? value : undefined
}

export type JsonSchema = { [key: string]: unknown }

/** A schema as JSON Schema (2020-12), of what may be given: what has a default may be absent. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input', reused: 'inline', override: simplify }) as JsonSchema
}

/** Leaves out what goes without saying: that integers are exact, that keys are strings, and what TypeScript may not do. */
function simplify({ jsonSchema }: { jsonSchema: JsonSchema }): void {
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
  delete jsonSchema.propertyNames
  delete jsonSchema.readOnly
}

/**
 * Checks options against a schema and returns them in camelCase with defaults filled in.
 * @throws {ConfigError} for an unknown key (with the nearest known one) or a value out of range
 */
export function parseOptions<T>(schema: z.ZodType<T>, value: unknown, source: OptionSource): T {
  const start = source.at === undefined ? [] : [source.at]
  const camel = respell(schema, value, { ...source, from: source.spelling, to: 'camel' }, start)
  // Options are read once or twice: to compile a parser of each schema takes longer than it saves.
  const result = schema.safeParse(camel, { jitless: true })
  if (result.success) return result.data
  throw issueError(result.error.issues[0], schema, camel, source)
}

/** The same options with the keys that files use; what the schema calls data (maps by pattern) keeps its keys. */
export function toFileKeys(schema: z.ZodType, value: unknown): unknown {
  return respell(schema, value, { name: 'options', spelling: 'camel', from: 'camel', to: 'snake' }, [])
}

/** @throws {ConfigError} naming the source, the key, its value and what was expected there */
export function badValue(source: OptionSource, key: string, value: unknown, expected: string): ConfigError {
  const spelled = source.spelling === 'snake' ? key.split('.').map(snakeKey).join('.') : key
  const path = [source.at, spelled].filter(Boolean).join('.')
  const shown = value === undefined ? 'missing' : shorten(inWords(value))
  return new ConfigError(`${source.name}: ${path} is ${shown}, expected ${expected}.`, {
    source: source.name,
    key: path,
    value,
    expected,
  })
}

/** The candidate with the fewest edits, if it is near enough to be what was meant. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let fewest = Math.max(2, Math.ceil(word.length / 3)) + 1
  for (const candidate of candidates) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (edits < fewest) [best, fewest] = [candidate, edits]
  }
  return best
}

/** Freezes data and everything in it. */
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
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function respell(schema: z.ZodType, value: unknown, how: Respelling, path: string[]): unknown {
  if (!isRecord(value)) return value
  const object = objectFor(schema, value, how, path)
  if (object === undefined) return value
  const shape = object.shape as Record<string, z.ZodType>
  const result: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) {
    const camel = how.from === 'snake' ? camelKey(key) : key
    const known = Object.hasOwn(shape, camel) && (how.from === 'camel' || snakeKey(camel) === key)
    if (!known) throw unknownKey(key, object, value, how, path)
    const spelled = how.to === 'snake' ? snakeKey(camel) : camel
    result[spelled] = respell(shape[camel] as z.ZodType, inner, how, [...path, key])
  }
  return result
}

/** The object schema that applies to a value, through optional, default and union wrappers. */
function objectFor(
  schema: z.ZodType,
  value: Record<string, unknown>,
  how: Respelling,
  path: string[],
): z.ZodObject | undefined {
  if (schema instanceof z.ZodObject) return schema
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return objectFor(schema.unwrap() as z.ZodType, value, how, path)
  if (schema instanceof z.ZodPrefault) return objectFor(schema.unwrap() as z.ZodType, value, how, path)
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
): z.ZodObject {
  const key = union.def.discriminator
  const options = union.options as unknown as z.ZodObject[]
  const nameOf = (option: z.ZodObject) => String((option.shape[key] as z.ZodLiteral).value)
  const found = options.find((option) => nameOf(option) === value[key])
  if (found) return found
  const names = options.map(nameOf)
  const given = value[key]
  const close = typeof given === 'string' ? nearest(given, names) : undefined
  const at = [...path, key].join('.')
  const shown = given === undefined ? 'missing' : shorten(JSON.stringify(given))
  throw new ConfigError(
    `${how.name}: ${at} is ${shown}, expected one of ${names.join(', ')}.${close ? ` Did you mean ${close}?` : ''}`,
    { source: how.name, key: at, value: given, expected: names },
  )
}

/** What people call an option elsewhere, in lower case and without underscores. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  rank: 'r',
  lr: 'learningRate',
  epochs: 'numTrainEpochs',
  batchsize: 'perDeviceTrainBatchSize',
  seqlen: 'maxSeqLength',
  optim: 'optimizer',
  bf16: 'precision',
  fp16: 'precision',
}

/** What is asked of other trainers and has no key here. */
const DEVICE_KEYS: readonly string[] = ['device', 'devicemap', 'usecpu', 'nocuda']

function unknownKey(
  key: string,
  object: z.ZodObject,
  value: Record<string, unknown>,
  how: Respelling,
  path: string[],
): ConfigError {
  const spell = (name: string) => (how.from === 'snake' ? snakeKey(name) : name)
  const spelled = Object.keys(object.shape).map(spell)
  const below = keyBelow(key, object, value, spell)
  const other = OTHER_NAMES[key.toLowerCase().replaceAll('_', '')]
  const same = other !== undefined && other in object.shape ? [...path, spell(other)].join('.') : undefined
  const close = below ? [...path, ...below].join('.') : (same ?? nearest(key, spelled))
  const advice = DEVICE_KEYS.includes(key.toLowerCase().replaceAll('_', ''))
    ? 'this version computes on the CPU, and on nothing else. Leave the key out.'
    : close
      ? `did you mean ${close}?`
      : `known keys: ${spelled.join(', ')}.`
  const at = [...path, key].join('.')
  return new ConfigError(`${how.name}: unknown key ${shorten(at)}; ${advice}`, {
    source: how.name,
    key: at,
    nearest: close,
    known: spelled,
  })
}

/** Where a key that is not known here is known further down, as `r` is in the adapter that a strategy wraps. */
function keyBelow(
  key: string,
  object: z.ZodObject,
  value: Record<string, unknown>,
  spell: (name: string) => string,
): string[] | undefined {
  const inner = Object.entries(object.shape as Record<string, z.ZodType>).flatMap(([name, schema]) => {
    const given = value[spell(name)]
    return objectsIn(schema)
      .filter((one) => isRecord(given) && agrees(one, given))
      .map((one) => [spell(name), one, given as Record<string, unknown>] as const)
  })
  for (const [name, one] of inner) if (Object.keys(one.shape).map(spell).includes(key)) return [name, key]
  for (const [name, one, given] of inner) {
    const found = keyBelow(key, one, given, spell)
    if (found) return [name, ...found]
  }
  return undefined
}

/** All object schemas that a value may have, through wrappers and unions. */
function objectsIn(schema: z.ZodType): z.ZodObject[] {
  if (schema instanceof z.ZodObject) return [schema]
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  )
    return objectsIn(schema.unwrap() as z.ZodType)
  return schema instanceof z.ZodUnion ? (schema.options as z.ZodType[]).flatMap(objectsIn) : []
}

/** Whether the words that tell the options of a union apart are those of the schema. */
function agrees({ shape }: z.ZodObject, value: Record<string, unknown>): boolean {
  return Object.entries(shape).every(
    ([name, schema]) => !(schema instanceof z.ZodLiteral) || schema.value === value[name],
  )
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
    wanted === MAPPING && typeof value === 'string' ? mappingFor(value, schemas, source) : undefined
  const expected = example === undefined ? wanted : `${wanted}, as in ${example}`
  if (at.length === 0) {
    const spelled = source.at ?? 'the options'
    return new ConfigError(`${source.name}: ${spelled}: expected ${expected}.`, {
      source: source.name,
      expected,
    })
  }
  return badValue(source, at.map(String).join('.'), value, expected)
}

const MAPPING = 'a mapping of keys'

/** A name was given where its options are told apart by that name: `lora` in place of `{name: lora}`. */
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
  const [key, word] = keyed.find(([, one]) => one === name) ?? []
  if (key === undefined || word === undefined) return undefined
  return source.spelling === 'snake' ? `{${snakeKey(key)}: ${word}}` : `{ ${key}: '${word}' }`
}

/** A union reports one list per branch; the branch that got furthest is the one that was meant. */
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
  if (issue.code !== 'invalid_type') return issue.message
  const words: Record<string, string> = { object: MAPPING, record: 'a mapping', array: 'a list' }
  return words[issue.expected] ?? issue.message
}

/** JSON has no word for numbers that are not finite. */
function inWords(value: unknown): string {
  return typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value))
}

function shorten(shown: string): string {
  return escapeControls(shown.length > 80 ? `${shown.slice(0, 77)}...` : shown)
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
