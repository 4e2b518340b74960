/**
 * The tables of options in docs/config.md, from the schema of configs: what a key takes is what errors say is expected,
 * and what it means is its description. A table stands between two comments, of which the first names an object in the
 * schema, such as `config.strategy[lora]`, and perhaps the keys that are wanted.
 */
import { stringify } from 'yaml'
import { snakeKey } from '../dist/esm/core/schema.js'
import { configSchema } from '../dist/esm/train/config/config.js'
import { asInFiles } from '../dist/esm/train/config/config-schema.js'

const TABLE = /(<!-- options of (\S+?)(?:: (.*?))? -->\n)[\s\S]*?(<!-- end of options -->)/g

/** The page with its tables as the schema has them. */
export function withTables(page) {
  return page.replace(TABLE, (_, begin, path, keys, end) => {
    const known = new Map(optionsAt(path).map((option) => [option.key, option]))
    const wanted = keys === undefined ? [...known.keys()] : keys.split(', ')
    const rows = wanted.map((key) => {
      const option = known.get(key)
      if (option === undefined) throw new Error(`${path} has no key ${key}`)
      return `| \`${key}\` | ${option.type} | ${option.default} | ${option.meaning} |\n`
    })
    return `${begin}\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n${rows.join('')}\n${end}`
  })
}

function optionsAt(path) {
  const [, ...steps] = path.split('.')
  let objects = [configSchema]
  for (const step of steps) {
    const [, key, name] = /^(\w+)(?:\[([\w-]+)\])?$/.exec(step)
    objects = objects.flatMap((object) =>
      Object.entries(object.shape)
        .filter(([camel]) => snakeKey(camel) === key)
        .flatMap(([, schema]) => objectsIn(schema))
        .filter(({ shape }) => name === undefined || (shape.name ?? shape.type)?.value === name),
    )
  }
  if (objects.length === 0) throw new Error(`the schema has no object at ${path}`)
  const keys = new Set(objects.flatMap(({ shape }) => Object.keys(shape)))
  return [...keys].map((key) =>
    optionOf(
      snakeKey(key),
      objects.flatMap(({ shape }) => shape[key] ?? []),
    ),
  )
}

/** A key of one object, or of several that are forms of the same. */
function optionOf(key, schemas) {
  const [first] = schemas
  const types = new Set(schemas.map(expected))
  return {
    key,
    type: either([...types]),
    default: defaultOf(first),
    meaning: schemas.map((schema) => descriptionOf(schema)).find(Boolean) ?? '',
  }
}

const isWrapper = (schema) => ['default', 'prefault', 'optional', 'nullable'].includes(schema.def.type)

function objectsIn(schema) {
  if (isWrapper(schema)) return objectsIn(schema.def.innerType)
  if (schema.def.type === 'union') return schema.def.options.flatMap(objectsIn)
  return schema.def.type === 'object' ? [schema] : []
}

function descriptionOf(schema) {
  return schema.description ?? (isWrapper(schema) ? descriptionOf(schema.def.innerType) : undefined)
}

function defaultOf(schema) {
  const { type, defaultValue, innerType } = schema.def
  if (type === 'default' || type === 'prefault') return code(inline(asInFiles(defaultValue)))
  if (type === 'optional') return ''
  return type === 'nullable' ? defaultOf(innerType) : 'required'
}

/** As YAML on one line. */
function inline(value) {
  return stringify(value, { collectionStyle: 'flow', flowCollectionPadding: false }).trim()
}

/** The expected value, in a few words. */
function expected(schema) {
  if (isWrapper(schema)) return expected(schema.def.innerType)
  const { type } = schema.def
  if (type === 'literal') return code(schema.value)
  if (type === 'enum') return either(schema.options.map(code))
  if (type === 'boolean') return 'true or false'
  if (type === 'record') return `mapping from names to: ${expected(schema.def.valueType)}`
  if (type === 'union' && schema.def.discriminator === 'name')
    return `${either(schema.def.options.map(({ shape }) => code(shape.name.value)))}, with its options`
  const words = type === 'union' && schema.def.options.find(({ def }) => def.type === 'enum')
  if (words) return `${words.options.map(code).join(', ')}, or settings`
  if (type === 'pipe') return expected(schema.def.in)
  const text = schema.def.error?.({})
  if (text === undefined) throw new Error(`a schema of type ${type} does not say what it expects`)
  return text.replace(/^(?:an?|the) /, '').replace(/\{.*?\}|\b(?:auto|none|nf4|fp4|int8|all-linear)\b/g, code)
}

const code = (text) => `\`${text}\``

function either(words) {
  if (words.length < 2) return words.join('')
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}
