/** The JSON schema of config files, for editors; docs/config.schema.json is this, written by scripts/config-schema.mjs. */
import * as z from 'zod'
import { snakeKey } from '../schema.js'
import { configSchema } from './config.js'

type JsonSchema = { [key: string]: unknown }

/** The schema as plain data, keys in snake_case. */
export function configJsonSchema(): JsonSchema {
  const schema = z.toJSONSchema(configSchema, { io: 'input', reused: 'inline' }) as JsonSchema
  return { ...(respell(schema) as JsonSchema), title: 'lowrank training config' }
}

function respell(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(respell)
  if (typeof schema !== 'object' || schema === null) return schema
  const entries = Object.entries(schema).map(([key, value]) => {
    if (key === 'properties') return [key, spellKeys(value as JsonSchema)]
    if (key === 'required') return [key, (value as string[]).map(snakeKey)]
    // Defaults are values, not schemas.
    return [key, key === 'default' ? value : respell(value)]
  })
  return Object.fromEntries(entries)
}

function spellKeys(properties: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(properties).map(([key, value]) => [snakeKey(key), respell(value)]))
}
