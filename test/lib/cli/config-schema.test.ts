/** The published schema of configs, shortened by `$defs`, says what the schema of the code says. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { configJsonSchema } from '../../../lib/train/config/config-schema.js'
import { publishedSchema } from './contract.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const published = publishedSchema('config')
const whole = configJsonSchema()
const ajv = () => new Ajv2020({ strict: true, allowUnionTypes: true })
const accepts = { published: ajv().compile(published), whole: ajv().compile(whole) }

const configs = ['examples', 'examples/recipes', 'demo'].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => [`${folder}/${file}`, parse(readFileSync(join(root, folder, file), 'utf8'))] as const),
)

/** A schema with each `$ref` replaced by its definition. */
function expanded(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(expanded)
  if (typeof schema !== 'object' || schema === null) return schema
  const { $ref, $defs: _, ...rest } = schema as { [key: string]: unknown }
  if (typeof $ref !== 'string')
    return Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, expanded(value)]))
  expect(rest).toEqual({})
  const definitions = published.$defs as { [name: string]: unknown }
  return expanded(definitions[$ref.replace('#/$defs/', '')])
}

/** The config with one value replaced, for each key at any depth, and with one key added beside it. */
function* damaged(value: unknown): Generator<unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return
  yield { ...value, no_such_key: 1 }
  for (const [key, inner] of Object.entries(value)) {
    for (const wrong of [-1, 'no such word', true, null, [], {}]) yield { ...value, [key]: wrong }
    for (const deeper of damaged(inner)) yield { ...value, [key]: deeper }
  }
}

describe('config.schema.json', () => {
  test('is the schema of the code once its definitions are put in their places', () => {
    expect(expanded(published)).toEqual(whole)
  })

  test('stays small', () => {
    expect(readFileSync(join(root, 'schemas/config.schema.json')).length).toBeLessThan(63_000)
  })

  test.each(configs)('accepts %s', (_, config) => {
    expect(accepts.published(config), JSON.stringify(accepts.published.errors)).toBe(true)
  })

  test('accepts and refuses the same documents as the schema of the code', () => {
    const verdicts = configs.flatMap(([, config]) =>
      [...damaged(config)].map((document) => {
        const verdict = accepts.published(document)
        expect(verdict, JSON.stringify(document)).toBe(accepts.whole(document))
        return verdict
      }),
    )
    expect(verdicts.filter((verdict) => !verdict).length).toBeGreaterThan(500)
    expect(verdicts.filter((verdict) => verdict).length).toBeGreaterThan(50)
  })
})
