import { describe, expect, it } from 'vitest'
import { JsonSyntaxError } from '../../../lib/io/json-scanner.js'
import { parseWritten, WrittenNumber, writtenFloat, writtenText } from '../../../lib/io/written-json.js'

const again = (text: string) => writtenText(parseWritten(text, 8))

describe('JSON that is read and written again', () => {
  it.each(['0.0', '-0.0', '1', '1.0', '1e-05', '1E+2', '12345678901234567890', '0.30'])(
    'keeps the number %s',
    (number) => {
      expect(again(number)).toBe(number)
      expect(again(`{"a":[${number}]}`)).toBe(`{\n  "a": [\n    ${number}\n  ]\n}`)
    },
  )

  it('is what JSON.stringify writes, but for the numbers', () => {
    const value = {
      text: 'a "b" \n é \u2028',
      none: null,
      yes: true,
      no: false,
      list: [1, [], {}, ['x']],
      inner: { a: { b: 2 } },
      __proto__x: {},
    }
    const text = JSON.stringify(value)
    expect(again(text)).toBe(JSON.stringify(value, null, 2))
    expect(again('{"__proto__":{"a":1}}')).toBe('{\n  "__proto__": {\n    "a": 1\n  }\n}')
  })

  it('omits what is undefined, and keeps the last of equal keys, as JSON.parse does', () => {
    expect(writtenText({ a: undefined, b: [undefined] })).toBe(JSON.stringify({ b: [null] }, null, 2))
    expect(again('{"a":1,"a":2.0}')).toBe('{\n  "a": 2.0\n}')
  })

  it('writes floats so that Python reads floats', () => {
    expect([6, 1e4, 1e-6, 0.5, -0, 1e21].map((value) => writtenFloat(value).text)).toEqual([
      '6.0',
      '10000.0',
      '0.000001',
      '0.5',
      '0.0',
      '1e+21',
    ])
  })

  it('refuses what is no JSON, or nested too deeply', () => {
    expect(parseWritten('[[1]]', 2)).toEqual([[new WrittenNumber('1')]])
    for (const text of ['', '[1,]', '{"a" 1}', '01', '[1] 2', 'nul', '"a', '[[[1]]]'])
      expect(() => parseWritten(text, 2), text).toThrow(JsonSyntaxError)
  })
})
