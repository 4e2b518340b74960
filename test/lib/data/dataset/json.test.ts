import { describe, expect, it } from 'vitest'
import { parseJson, RepeatedKey } from '../../../../lib/data/dataset/json.js'

describe('JSON of a data set', () => {
  it.each([
    '{"a": 1, "b": {"a": 2}, "c": [{"a": 3}, {"a": 4}]}',
    '{"a" : "x\\": 1, \\"a\\": 2", "b"\n:\t"\\\\"}',
    '[[], {}, "\\ud83d", -1.5e3, null, "a:b\\":"]',
    '{"__proto__": {"a": 1}, "constructor": 2}',
    '"\\":"',
  ])('is what JSON.parse gives: %s', (text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text))
  })

  it.each([
    ['{"a": 1, "b": 2, "a": 1}', 'a'],
    ['{"x": [{"y": {"role": "user" , "content": "\\":", "role" : "tool"}}]}', 'role'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['[{"__proto__": 1, "__proto__": 2}]', '__proto__'],
    ['{"a": {"b": "\\\\"}, "c": "\\\\\\"", "c": []}', 'c'],
  ])('has no key twice: %s', (text, key) => {
    expect(() => parseJson(text)).toThrow(RepeatedKey)
    expect(() => parseJson(text)).toThrow(`the key "${key}" appears twice in one object`)
  })

  it('may be nested without end', () => {
    const deep = (inner: string) => `${'{"a":['.repeat(100_000)}${inner}${']}'.repeat(100_000)}`
    expect(() => parseJson(deep('{"b":1,"c":2}'))).not.toThrow()
    expect(() => parseJson(deep('{"b":1,"b":2}'))).toThrow('the key "b" appears twice')
  })

  it('is told to be none by JSON.parse', () => {
    expect(() => parseJson('{"a": 1,}')).toThrow(SyntaxError)
  })
})
