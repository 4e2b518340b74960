/** Random answers under the masks of a grammar, over a real tokenizer, are what a validator of JSON schemas accepts. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, describe, expect, it } from 'vitest'
import { WorkerTokenizer } from '../../../lib/data/worker-tokenizer.js'
import { compileGrammar } from '../../../lib/grammar/grammar.js'
import { addon } from '../../../lib/native/addon.js'
import { reads } from './reader.js'

const FORMATS = {
  date: (text: string) => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text),
  'date-time': (text: string) => !Number.isNaN(Date.parse(text)),
  email: /^[\w!#$%&'*+/=?^`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  ipv4: /^((25[0-5]|(2[0-4]|1\d|[1-9]|)\d)\.?\b){4}$/,
}
const ajv = new Ajv2020({ strict: false, formats: FORMATS })

/** Schemas of every kind of leaf, `fields` of them, four deep. */
function wide(fields: number): Record<string, unknown> {
  const leaves: Record<string, unknown>[] = [
    { type: 'string', minLength: 1, maxLength: 12 },
    { type: 'integer', minimum: 2024, maximum: 2040 },
    { type: 'number', minimum: -1.5, exclusiveMaximum: 99.25 },
    { enum: ['red', 'green "dark"', 3, null] },
    { type: 'string', pattern: '^[A-Z][a-zé]{2,6}(-\\d+)?$', maxLength: 12 },
    { type: 'string', format: 'date' },
    { type: ['boolean', 'null'] },
    {
      type: 'array',
      items: { type: 'integer', multipleOf: 5, minimum: 0, maximum: 100 },
      minItems: 1,
      maxItems: 3,
    },
    { type: 'string', format: 'date-time' },
    { anyOf: [{ type: 'string', format: 'uuid' }, { type: 'null' }] },
    { type: 'string', format: 'ipv4' },
    { type: 'string', format: 'email', maxLength: 40 },
  ]
  const group = (from: number, to: number, depth: number): Record<string, unknown> => {
    const properties: Record<string, unknown> = {}
    for (let i = from; i < to; i++) properties[`field_${i}`] = leaves[i % leaves.length]
    if (depth > 1) {
      const inner = from + Math.ceil((to - from) / depth)
      for (let i = inner; i < to; i++) delete properties[`field_${i}`]
      properties.inner = group(inner, to, depth - 1)
    }
    const required = Object.keys(properties).filter((_, index) => index % 4 !== 1)
    return { type: 'object', properties, required, additionalProperties: false }
  }
  return group(0, fields, 4)
}

const tree = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      type: 'object',
      properties: {
        value: { type: 'integer' },
        children: { type: 'array', items: { $ref: '#/$defs/node' }, maxItems: 2 },
      },
      required: ['value'],
    },
  },
}
const SCHEMAS: [string, Record<string, unknown>][] = [
  ['60 fields, four deep', wide(60)],
  ['a recursive tree', tree],
  ['any object', { type: 'object' }],
  [
    'a map',
    {
      type: 'object',
      additionalProperties: { type: ['string', 'number'] },
      propertyNames: { pattern: '^[a-z]+$' },
    },
  ],
]

/** Numbers from 0 to 1, the same in every run. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

describe('random answers', async () => {
  const tokenizer = await WorkerTokenizer.open({ kind: 'folder', path: 'demo/base' })
  afterAll(() => tokenizer.close())
  const table = await tokenizer.table()
  const vocabulary = addon().createVocabulary(table)
  const ends = Int32Array.from(tokenizer.about.eosIds)
  const vocab = table.ends.length + 13
  const textOf = (ids: number[]) =>
    Buffer.concat(
      ids.map((id) => table.bytes.subarray(id === 0 ? 0 : table.ends[id - 1], table.ends[id])),
    ).toString()

  it.each(SCHEMAS)('are valid: %s', (_, schema) => {
    const tables = compileGrammar({ kind: 'schema', schema })
    const grammar = addon().createGrammar(vocabulary, tables)
    const validate = ajv.compile(schema)
    for (let seed = 1; seed <= 25; seed++) {
      const random = randomOf(seed)
      const matcher = addon().createMatcher(grammar, ends)
      const ids: number[] = []
      for (;;) {
        const allowed = addon().allowedTokens(matcher, vocab)
        expect(allowed.length).toBeGreaterThan(0)
        // Long answers come to an end if they close what is open.
        const closing = allowed.filter((id) => ends.includes(id) || /["\]}]/.test(textOf([id])))
        const from = closing.length > 0 && random() < ids.length / 400 ? closing : allowed
        const id = from[Math.floor(random() * from.length)] as number
        addon().acceptToken(matcher, id)
        if (ends.includes(id)) break
        expect(table.special[id]).toBe(0)
        ids.push(id)
      }
      const text = textOf(ids)
      const value = JSON.parse(text)
      expect(validate(value), `${text} ${JSON.stringify(validate.errors)}`).toBe(true)
      // What ajv calls valid in its compact form is read again, and no other change of it is.
      expect(reads(tables, text)).toBe(true)
      for (let change = 0; change < 20; change++) {
        const at = Math.floor(random() * text.length)
        const changed =
          text.slice(0, at) +
          (random() < 0.5 ? '' : '"0-a}] ,'[Math.floor(random() * 8)]) +
          text.slice(at + 1)
        if (!reads(tables, changed)) continue
        expect(validate(JSON.parse(changed)), changed).toBe(true)
      }
    }
  })
})
