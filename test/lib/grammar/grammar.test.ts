import { describe, expect, it } from 'vitest'
import { compileGrammar } from '../../../lib/grammar/grammar.js'
import { Reader, reads } from './reader.js'

const of = (schema: unknown) => compileGrammar({ kind: 'schema', schema })
const accepts = (schema: unknown, ...texts: string[]) => {
  const tables = of(schema)
  return texts.filter((text) => reads(tables, text))
}
type Bounds = Partial<
  Record<'minimum' | 'maximum' | 'exclusiveMinimum' | 'exclusiveMaximum' | 'multipleOf', number>
>
const isIn = (value: number, bounds: Bounds) =>
  value >= (bounds.minimum ?? -Infinity) &&
  value <= (bounds.maximum ?? Infinity) &&
  value > (bounds.exclusiveMinimum ?? -Infinity) &&
  value < (bounds.exclusiveMaximum ?? Infinity) &&
  (bounds.multipleOf === undefined || value % bounds.multipleOf === 0)

describe('a grammar of a JSON schema', () => {
  it('reads objects with their members in order, and optional ones left out', () => {
    const properties = { a: { type: 'boolean' }, b: { type: 'null' }, c: { const: 'x"y' } }
    const schema = { type: 'object', properties, required: ['b'], additionalProperties: false }
    const good = ['{"b":null}', '{"a":true,"b":null}', '{"a": false, "b": null, "c": "x\\"y"}']
    const bad = ['{}', '{"a":true}', '{"b":null,"a":true}', '{ "b":null}', '{"b":null,}', '{"b":null}}']
    expect(accepts(schema, ...good, ...bad, '{"b":  null}', '{"b":null')).toEqual(good)
  })

  it('reads strings by length, as code points and in their one spelling', () => {
    const good = ['"ab"', '"é€"', '"😀😀😀"', '"\\n\\u0001"', '"\\\\\\""']
    const bad = ['"a"', '"abcd"', '"\n\n"', '"\\u000a\\n"', '"\\uD83D\\uDE00"', '"ab']
    expect(accepts({ type: 'string', minLength: 2, maxLength: 3 }, ...good, ...bad)).toEqual(good)
    expect(accepts({ type: 'string' }, '""', '"any thing"')).toEqual(['""', '"any thing"'])
  })

  it('reads UTF-8 and no other bytes', () => {
    const tables = of({ type: 'string' })
    const broken = [[0x80], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff], [0xe0, 0x9f]]
    for (const bytes of broken) expect(new Reader(tables).read([0x22, ...bytes, 0x22])).toBe(false)
    for (const code of [0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff])
      expect(accepts({ type: 'string', maxLength: 1 }, `"${String.fromCodePoint(code)}"`)).toHaveLength(1)
  })

  it.each([
    ['^[^x]{2}$', {}, ['"a\\""', '"\\\\\\n"', '"éé"'], ['"a"', '"ax"']],
    ['b+', {}, ['"abc"', '"b"'], ['"ac"']],
    ['^(a|bc)*$|^\\d{2,3}$', { minLength: 3 }, ['"abca"', '"123"'], ['"12"', '"aa"', '"abb"']],
    ['^\\w\\s\\S\\D.$', {}, ['"_ aa😀"'], ['"_ aa\\n"', '"- aab"', '"_ a1b"']],
    ['^[a-c\\]\\-\\u00e9]+?$', {}, ['"a-b]é"'], ['"d"']],
  ])('reads the pattern %s over the text that a string stands for', (pattern, more, good, bad) => {
    expect(accepts({ type: 'string', pattern, ...more }, ...good, ...bad)).toEqual(good)
  })

  it.each([
    [{ minimum: 2024, maximum: 2040 }, 2000, 2100],
    [{ minimum: -12, maximum: 105 }, -200, 200],
    [{ exclusiveMinimum: 0, exclusiveMaximum: 100, multipleOf: 7 }, -20, 120],
    [{ maximum: -5 }, -130, 10],
    [{ minimum: 7, multipleOf: 3 }, -10, 120],
    [{ minimum: 3.5, exclusiveMaximum: 9.5 }, 0, 20],
  ])('reads the integers of %o', (range: Bounds, from, to) => {
    const all = Array.from({ length: to - from + 1 }, (_, i) => from + i)
    const good = all.filter((value) => isIn(value, range))
    const texts = [...all.map(String), '-0', '01', '1.0', '+1', '']
    expect(accepts({ type: 'integer', ...range }, ...texts).map(Number)).toEqual(good)
  })

  it.each([
    [{ minimum: 0.5, maximum: 2.25 }],
    [{ exclusiveMinimum: -1.5, maximum: 0 }],
    [{ minimum: -0.03, exclusiveMaximum: 10 }],
    [{ exclusiveMinimum: 0, maximum: 1 }],
    [{ minimum: 99.95 }],
    [{ maximum: 1e-7 }],
    [{ exclusiveMinimum: -1, exclusiveMaximum: 1, minimum: -1, maximum: 1 }],
  ])('reads the numbers of %o', (range: Bounds) => {
    const texts =
      '0 0.0 0.5 0.50 0.49 0.499999999 2.25 2.250 2.2500001 2.3 2 3 10 9.99 10.0 100 99.95 99.949 99.96 101 1 1.0 1.01 0.01 0.0000001 0.00000009 0.00000011 -0.03 -0.031 -0.0301 -1.5 -1.49 -1.500 -1 -0.99 -2 -0.5 -10 1000000'.split(
        ' ',
      )
    const good = texts.filter((text) => isIn(Number(text), range))
    expect(accepts({ type: 'number', ...range }, ...texts, '-0', '00', '1.', '.5', '1e1')).toEqual(good)
  })

  it('reads any number where there is no range', () => {
    const good = ['0', '-1', '1.5', '1e+21', '1.7976931348623157e+30', '0.1', '5e-7']
    expect(accepts({ type: 'number' }, ...good, '-0', '01', '1e', '1e400', '--1')).toEqual(good)
  })

  it('reads arrays by their number of items, enums, alternatives, and lists of types', () => {
    const array = { type: 'array', items: { enum: [1, 'a', null] }, minItems: 1, maxItems: 2 }
    expect(accepts(array, '[]', '[1]', '["a", null]', '[1,1,1]')).toEqual(['[1]', '["a", null]'])
    const either = { anyOf: [{ type: ['string', 'null'], maxLength: 1 }, { type: 'integer' }] }
    expect(accepts(either, 'null', '"a"', '12', '"ab"', '1.5')).toEqual(['null', '"a"', '12'])
    expect(accepts({ type: 'array', maxItems: 0 }, '[]', '[1]')).toEqual(['[]'])
  })

  it('reads recursive schemas, and maps', () => {
    const next = { next: { $ref: '#/$defs/list' } }
    const $defs = { list: { type: ['object', 'null'], properties: next, required: ['next'] } }
    const good = ['null', '{"next":{"next":null}}']
    expect(accepts({ $ref: '#/$defs/list', $defs }, ...good, '{"next":{}}')).toEqual(good)
    const map = { type: 'object', additionalProperties: { type: 'integer' } }
    expect(accepts(map, '{}', '{"a":1,"b c":2}', '{"a":"b"}')).toEqual(['{}', '{"a":1,"b c":2}'])
    const any = '{"a":[1,{"b":null},"c",true],"d":{}}'
    expect(accepts({ type: 'object' }, any, '[]', '{"a":}')).toEqual([any])
  })

  it('joins texts and schemas', () => {
    const text = (text: string) => ({ kind: 'text', text }) as const
    const options = [{ kind: 'schema', schema: { type: 'null' } } as const, text('é')]
    const tables = compileGrammar({ kind: 'all', parts: [text('<'), { kind: 'one', options }, text('>')] })
    expect(['<null>', '<é>', '<>'].filter((each) => reads(tables, each))).toEqual(['<null>', '<é>'])
  })

  const inside = (schema: object) => ({ type: 'object', properties: { a: schema } })
  const circle = { a: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/b' }] }, b: { $ref: '#/$defs/a' } }
  it.each<readonly [unknown, string]>([
    [{ not: {} }, '#/not'],
    [inside({ type: 'string', contentEncoding: 'base64' }), '#/properties/a/contentEncoding'],
    [inside({ type: 'array', uniqueItems: true }), '#/properties/a/uniqueItems'],
    [inside({ oneOf: [{ type: 'null' }] }), '#/properties/a/oneOf'],
    [{ anyOf: [{ type: 'null' }, { type: 'number', multipleOf: 0.5 }] }, '#/anyOf/1/multipleOf'],
    ...['(?=a)', '(a)\\1', '\\bword\\b', '[', '(', 'a)', '*', 'a{2', '(^a$)', '\\p{L}'].map(
      (pattern) => [{ type: 'string', pattern }, '#/pattern'] as const,
    ),
    [{ type: 'string', format: 'uri' }, '#/format'],
    [{ type: 'string', minimum: 3 }, '#/minimum'],
    [{ type: 'string', maxLength: 1e9 }, '#/maxLength'],
    [{ type: 'integer', minimum: 5, maximum: 4 }, '#'],
    [{ type: 'string', pattern: '^a{3}$', maxLength: 2 }, '#'],
    [{ $ref: '#' }, '#'],
    [{ $ref: '#/$defs/a', $defs: circle }, '#/$defs/a'],
    [{ $ref: '#/$defs/a', $defs: { a: { ...inside({ $ref: '#/$defs/a' }), required: ['a'] } } }, '#'],
    [{ $ref: 'https://example.com/a' }, '#/$ref'],
    [{ $ref: '#/$defs/missing' }, '#/$ref'],
    [{ type: 'object', required: ['a'] }, '#/required'],
    [{ type: 'object', properties: { 'a/b~': false } }, '#/properties/a~1b~0'],
    [{ properties: {} }, '#/properties'],
    [{ type: 'any' }, '#/type'],
    [{ type: 'integer', enum: ['a'] }, '#/enum'],
    [[], '#'],
    [{ ...inside({ type: 'null' }), additionalProperties: { type: 'null' } }, '#/additionalProperties'],
  ])('refuses %j by the path of the keyword', (schema, path) => {
    expect(() => of(schema)).toThrow(expect.objectContaining({ path, code: 'CONFIG' }))
  })
})
