/**
 * Holds what verbs print to the published schemas, and more strictly than programs should: a field that a schema does
 * not have is an error here, so that none appears unseen.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'

const folder = new URL('../../../schemas/', import.meta.url)
const SUFFIX = '.schema.json'
const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true })
const validators = new Map<string, ValidateFunction>()

/** Names of the published schemas: the verbs, `error`, `metrics` and `config`. */
export const published: readonly string[] = readdirSync(folder).map((file) => file.slice(0, -SUFFIX.length))

/** A schema as it is published. */
export function publishedSchema(name: string): { [key: string]: unknown } {
  return JSON.parse(readFileSync(new URL(`${name}${SUFFIX}`, folder), 'utf8'))
}

/** @throws {Error} that tells the line, and what the schema has against it */
export function checkLine(name: string, line: unknown): void {
  let validate = validators.get(name)
  if (validate === undefined) {
    validate = ajv.compile(closed(publishedSchema(name)) as object)
    validators.set(name, validate)
  }
  if (!validate(line))
    throw new Error(
      `${JSON.stringify(line)} is no line of schemas/${name}${SUFFIX}:\n${ajv.errorsText(validate.errors, { separator: '\n' })}`,
    )
}

/** Checks what a verb wrote to stdout with --json; an error can only be the last line. */
export function checkPrinted(verb: string, stdout: string): void {
  const lines = stdout.split('\n').slice(0, -1)
  for (const [i, text] of lines.entries()) {
    const line = JSON.parse(text) as { event?: unknown }
    checkLine(published.includes(verb) ? verb : 'error', line)
    if (line.event === 'error' && i < lines.length - 1)
      throw new Error(`there are lines after the error ${text}`)
  }
}

/** The same schema without room for fields that it does not name. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]))
  const open = 'properties' in inner && !('additionalProperties' in inner)
  return open ? { ...inner, additionalProperties: false } : inner
}
