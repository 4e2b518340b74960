/** The JSON schema of config files, for editors; schemas/config.schema.json is this, written by scripts/schemas.mjs. */
import { type JsonSchema, jsonSchemaOf, snakeKey } from '../schema.js'
import { configSchema } from './config.js'

/** The schema as plain data, keys in snake_case. */
export function configJsonSchema(): JsonSchema {
  const { $schema, ...rest } = respell(jsonSchemaOf(configSchema)) as JsonSchema
  return { $schema, title: 'lowrank training config', ...rest }
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

/** A default, which is a value and no schema, with the keys that files use. */
export function asInFiles(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [snakeKey(key), inner]))
}

function spellKeys(properties: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(properties).map(([key, value]) => [snakeKey(key), respell(value)]))
}
