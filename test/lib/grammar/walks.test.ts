/** Random answers under the masks of a grammar, over a real tokenizer, are what a validator of JSON schemas accepts. */
import { afterAll, describe, expect, it } from 'vitest'
import { WorkerTokenizer } from '../../../lib/data/worker-tokenizer.js'
import { compileGrammar } from '../../../lib/grammar/grammar.js'
import { addon } from '../../../lib/native/addon.js'
import { WHOLE } from '../../sweep.js'
import { reads } from './reader.js'
import { ajv, drawnSchema, randomOf, wide } from './schemas.js'

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

  const closes = Array.from(
    { length: vocab },
    (_, id) => ends.includes(id) || /^([\]}]|"$|nu?l*$)/.test(textOf([id])),
  )

  /** Draws answers of a schema, and changes them. */
  const check = (schema: Record<string, unknown>, answers: number) => {
    const tables = compileGrammar({ kind: 'schema', schema })
    const grammar = addon().createGrammar(vocabulary, tables)
    const validate = ajv.compile(schema)
    for (let seed = 1; seed <= answers; seed++) {
      const random = randomOf(seed)
      const matcher = addon().createMatcher(grammar, ends)
      const ids: number[] = []
      for (;;) {
        const allowed = addon().allowedTokens(matcher, vocab)
        expect(allowed.length).toBeGreaterThan(0)
        // Long answers come to an end if they close what is open.
        const closing = allowed.filter((id) => closes[id])
        const from = closing.length > 0 && random() < ids.length / 400 ? closing : allowed
        const id = from[Math.floor(random() * from.length)] as number
        addon().acceptToken(matcher, id)
        if (ends.includes(id)) break
        expect(table.special[id]).toBe(0)
        ids.push(id)
        expect(ids.length, textOf(ids.slice(-100))).toBeLessThan(4000)
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
  }

  it.each(SCHEMAS)('are valid: %s', (_, schema) => check(schema, 25))

  it('are valid: drawn schemas', () => {
    for (let seed = 1; seed <= (WHOLE ? 1000 : 40); seed++) {
      const schema = drawnSchema(randomOf(seed))
      try {
        check(schema, 4)
      } catch (error) {
        throw new Error(`schema ${seed}: ${JSON.stringify(schema)}`, { cause: error })
      }
    }
  })
})
