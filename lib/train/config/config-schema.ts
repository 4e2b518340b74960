/**
 * Configs as files: their JSON schema for editors, which scripts/schemas.mjs writes to schemas/config.schema.json, and their
 * text. Separate from the reader, since only the command line writes configs.
 */
import { stringify } from 'yaml'
import { foreignKey } from '../../core/foreign-keys.js'
import { camelKey, type JsonSchema, jsonSchemaOf, snakeKey, toFileKeys } from '../../core/schema.js'
import { schemasAt } from '../../core/schema-shape.js'
import { equivalentHere, valueHere } from '../../core/unknown-key.js'
import { configSchema, type RunConfig } from './config.js'

/** The schema as plain data, keys in snake_case. */
export function configJsonSchema(): JsonSchema {
  const { $schema, ...rest } = respell(jsonSchemaOf(configSchema)) as JsonSchema
  return { $schema, title: 'lowrank training config', ...rest }
}

/** The config, or some of its keys, as YAML that reads back as the same config. */
export function configText(config: Partial<RunConfig>): string {
  return stringify(toFileKeys(configSchema, config))
}

function respell(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(respell)
  if (typeof schema !== 'object' || schema === null) return schema
  const entries = Object.entries(schema).map(([key, value]) => {
    if (key === 'properties') return [key, spellKeys(value as JsonSchema)]
    if (key === 'required') return [key, (value as string[]).map(snakeKey)]
    return [key, key === 'default' ? asInFiles(value) : respell(value)]
  })
  return Object.fromEntries(entries)
}

/** A default value with its keys as in files; defaults are not schemas. */
export function asInFiles(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [snakeKey(key), inner]))
}

function spellKeys(properties: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(properties).map(([key, value]) => [snakeKey(key), respell(value)]))
}

/**
 * The config key that a word refers to: a key of its own name, or the equivalent of another program's option.
 * @param value the value given for the other program's option
 * @returns the path of the key, the equivalent value if it has another name here, and how the two differ
 */
export function configKey(
  word: string,
  value: string,
): { path: string; value: string | undefined; note: string } | undefined {
  const foreign = foreignKey(word)
  const places = [foreign?.here ?? []].flat()
  const key = snakeKey(word.replaceAll('-', '_'))
  const path = [key, ...places].find(
    (place) => schemasAt(place.split('.').map(camelKey), configSchema).length > 0,
  )
  if (path === undefined) return undefined
  const own =
    foreign && path !== key ? equivalentHere(foreign, path, value, configSchema) : valueHere(path, value)
  const note = foreign?.note && path !== key ? ` (${foreign.note}).` : '.'
  return { path, value: own ?? undefined, note }
}
