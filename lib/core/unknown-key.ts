/**
 * Advice about keys that a schema does not have: an equivalent of another program's key, the right location, or a
 * likely intended key.
 */
import type * as z from 'zod'
import { foreignKey } from './foreign-keys.js'
import { FOREIGN_VALUES, type ForeignKey } from './foreign-values.js'
import { nearest } from './nearest.js'
import { agrees, camelKey, isRecord, objectsIn, schemasAt, snakeKey } from './schema-shape.js'

/** An unknown key and its location. */
export interface UnknownKey {
  key: string
  value: unknown
  /** The object schema that lacks the key, and the value given for that object. */
  object: z.ZodObject
  given: Record<string, unknown>
  /** Keys leading to the object, spelled as in the source. */
  path: readonly string[]
  /** Schema and value of the whole source. */
  root: { schema: z.ZodType; value: unknown; at: readonly string[] }
  spelling: 'snake' | 'camel'
}

/** Advice about an unknown key, phrased as the end of a sentence, and the suggested key, if there is one. */
export interface KeyAdvice {
  advice: string
  nearest?: string
}

export function adviceFor(unknown: UnknownKey): KeyAdvice {
  const { key, object, given, path, spelling } = unknown
  const spelled = Object.keys(object.shape).map((name) => spell(name, spelling))
  const suggest = (name: string): KeyAdvice => ({ advice: `did you mean ${name}?`, nearest: name })
  const below = keyBelow(key, object, given, (name) => spell(name, spelling))
  if (below) return suggest([...path, ...below].join('.'))
  const slip = nearest(key, spelled, 1)
  if (slip) return suggest([...path, slip].join('.'))
  const foreign = foreignKey(key)
  const known = foreign && foreignAdvice(foreign, unknown)
  if (known) return known
  const inside = keyInside(unknown)
  if (inside) return inside
  const close = nearest(key, spelled)
  return close ? suggest([...path, close].join('.')) : { advice: `known keys: ${spelled.join(', ')}.` }
}

/** The equivalent of another program's value for a known key; undefined if there is none. */
export function valueHere(path: string, value: unknown): string | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  const words = (FOREIGN_VALUES as Readonly<Record<string, Readonly<Record<string, string>>>>)[path]
  return words && Object.hasOwn(words, value) ? words[value] : undefined
}

/**
 * The equivalent of the value of another program's option; null for the default, undefined if there is none.
 * @param path of the key here, in a config file
 * @param schema of the source
 */
export function equivalentHere(
  { values = {}, ours }: ForeignKey,
  path: string,
  value: unknown,
  schema: z.ZodType,
): string | null | undefined {
  if (Object.hasOwn(values, String(value))) return values[String(value)]
  const same = ours && typeof value === 'string' ? value.toLowerCase() : undefined
  // A source may be only part of a config.
  const steps = path.split('.').map(camelKey)
  const schemas = steps.flatMap((_, from) => schemasAt(steps.slice(from), schema))
  if (same !== undefined && schemas.some((one) => one.safeParse(same).success)) return same
  return valueHere(path, value)
}

const spell = (name: string, spelling: UnknownKey['spelling']): string =>
  spelling === 'snake' ? snakeKey(name) : camelKey(name)

function foreignAdvice(foreign: ForeignKey, unknown: UnknownKey): KeyAdvice | undefined {
  const { note } = foreign
  const places = [foreign.here ?? []].flat()
  if (places.length === 0) return note === undefined ? undefined : { advice: `${note}.` }
  for (const place of places) {
    const found = placeWithin(place, unknown)
    if (found) return namedHere(found, place, foreign, unknown)
  }
  return elsewhere(places[0] as string, foreign, unknown)
}

/** The sentence for a key that exists in this source. */
function namedHere(
  found: string,
  place: string,
  foreign: ForeignKey,
  { value, spelling, root }: UnknownKey,
): KeyAdvice {
  const { note } = foreign
  const written = equivalentHere(foreign, place, value, root.schema)
  if (written === null) return { advice: 'that is the default; leave it out.', nearest: found }
  const why = note === undefined ? '' : ` (${note})`
  if (written === undefined) return { advice: `the name here is ${found}${why}.`, nearest: found }
  const bare = spelling === 'snake' || /^(true|false|\d+)$/.test(written)
  const shown = bare ? written : written.startsWith('{') ? inJavaScript(written) : `'${written}'`
  return { advice: `write ${found}: ${shown}${why}.`, nearest: found }
}

/** Converts YAML flow mappings of words and numbers to JavaScript syntax. */
function inJavaScript(mapping: string): string {
  return mapping
    .replace(/(\w+):/g, (_, key: string) => `${camelKey(key)}:`)
    .replace(/: ([a-z]\w*)/g, (whole, word: string) => (/^(true|false)$/.test(word) ? whole : `: '${word}'`))
    .replace(/^\{/, '{ ')
    .replace(/\}$/, ' }')
}

/**
 * Resolves a key path within the source: as a whole, or without its first components if the source is only part of a
 * config.
 */
function placeWithin(place: string, { root, spelling }: UnknownKey): string | undefined {
  const steps = place.split('.')
  for (let from = 0; from < steps.length; from++) {
    const found = walk(steps.slice(from).map(camelKey), root.schema, root.value, spelling)
    if (found) return [...root.at, ...found].join('.')
  }
  return undefined
}

function walk(
  [step, ...rest]: string[],
  schema: z.ZodType,
  value: unknown,
  spelling: UnknownKey['spelling'],
): string[] | undefined {
  if (step === undefined) return []
  const all = objectsIn(schema)
  const given = isRecord(value) ? value : undefined
  const chosen = given ? all.filter((one) => agrees(one, given)) : all
  for (const { shape } of chosen.length > 0 ? chosen : all)
    for (const [name, ...left] of waysTo(step, rest, shape)) {
      const inner = shape[name] as z.ZodType | undefined
      if (inner === undefined) continue
      const spelled = spell(name, spelling)
      const found = walk(left, inner, given?.[spelled], spelling)
      if (found) return [spelled, ...found]
    }
  return undefined
}

/** A step may be the end of a key, and the options of a wrapped strategy are under `adapter`. */
function waysTo(
  step: string,
  rest: readonly string[],
  shape: Readonly<Record<string, unknown>>,
): [name: string, ...left: string[]][] {
  if (step === 'name') return [[step, ...rest]]
  const name = step.startsWith('*') ? Object.keys(shape).find((key) => key.endsWith(step.slice(1))) : step
  return [
    [name ?? step, ...rest],
    ['adapter', step, ...rest],
  ]
}

/**
 * Location of config options in the API, by the first component of their paths; all others are options of `train()`.
 */
const IN_THE_API: Readonly<Record<string, string>> = {
  model: 'the first argument of loadModel()',
  revision: 'an option of loadModel()',
  quantization: 'an option of loadModel()',
  embedding_quantization: 'an option of loadModel()',
  precision: 'an option of loadModel()',
  paged_weights: 'an option of loadModel()',
  threads: 'an option of loadModel()',
  strategy: 'an option of the strategy that is attached, as in lora({ r: 8 })',
  dataset: 'the first argument of train(), for which dataset() takes options',
  generate: 'an option of generate()',
}

/** The sentence for an option that belongs outside this source. */
function elsewhere(
  place: string,
  { note }: ForeignKey,
  { key, path, object, spelling, root, given }: UnknownKey,
): KeyAdvice {
  const [first = place, ...rest] = place.split('.')
  const last = rest.at(-1) ?? first
  const why = note === undefined ? '' : ` (${note})`
  if (spelling === 'camel')
    return { advice: `it is ${camelKey(last)} here${why}, ${IN_THE_API[first] ?? 'an option of train()'}.` }
  if (first === 'generate')
    return {
      advice: `a config has no such key; \`lowrank generate\` takes --${last.replaceAll('_', '-')}${why}.`,
    }
  const strategy = isRecord(root.value) && isRecord(root.value.strategy) ? root.value.strategy : given
  const others = Object.keys(object.shape).map(snakeKey).join(', ')
  if ([...path, key].join('.') === place) return { advice: `${String(strategy.name)} has ${others}.` }
  const lacking =
    first === 'strategy' ? `, which ${String(strategy.name ?? 'the strategy')} does not have` : ''
  return { advice: `the name here is ${place}${why}${lacking}.` }
}

/**
 * Detects keys of a nested mapping given one level too high, such as `columns` next to `dataset: train.csv`, and
 * reversed column mappings.
 */
function keyInside({ key, value, object, given, path, spelling }: UnknownKey): KeyAdvice | undefined {
  const shape = object.shape as Record<string, z.ZodType>
  const camel = spelling === 'snake' ? camelKey(key) : key
  if (path.at(-1) === 'columns' && typeof value === 'string' && Object.hasOwn(shape, value)) {
    const pair = `${value}: ${key}`
    return {
      advice: `the name here comes first: columns: ${spelling === 'snake' ? `{${pair}}` : `{ ${value}: '${key}' }`}.`,
    }
  }
  for (const [name, schema] of Object.entries(shape)) {
    const spelled = spell(name, spelling)
    if (isRecord(given[spelled]) || !objectsIn(schema).some((one) => Object.hasOwn(one.shape, camel)))
      continue
    const found = [...path, spelled, key].join('.')
    const short = given[spelled]
    const example =
      name === 'dataset' && typeof short === 'string' ? ` (dataset: {path: ${short}, ${key}: …})` : ''
    return { advice: `the name here is ${found}${spelling === 'snake' ? example : ''}.`, nearest: found }
  }
  return undefined
}

/** Finds an unknown key at a deeper level, such as `r` in the adapter that a strategy wraps. */
function keyBelow(
  key: string,
  object: z.ZodObject,
  value: Record<string, unknown>,
  spelled: (name: string) => string,
): string[] | undefined {
  const inner = Object.entries(object.shape as Record<string, z.ZodType>).flatMap(([name, schema]) => {
    const given = value[spelled(name)]
    return objectsIn(schema)
      .filter((one) => isRecord(given) && agrees(one, given))
      .map((one) => [spelled(name), one, given as Record<string, unknown>] as const)
  })
  for (const [name, one] of inner) if (Object.keys(one.shape).map(spelled).includes(key)) return [name, key]
  for (const [name, one, given] of inner) {
    const found = keyBelow(key, one, given, spelled)
    if (found) return [name, ...found]
  }
  return undefined
}
