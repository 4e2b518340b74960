/** What the native side says of objects that are not as native/boundary.json states them. */
import { describe, expect, test } from 'vitest'
import { addon } from '../../../lib/native/addon.js'

const ids = (...values: number[]) => Int32Array.from(values)
const tokens = { bytes: Uint8Array.of(97), ends: ids(1), special: Uint8Array.of(0) }
const tables = {
  start: 0,
  ...{ edgeBegin: ids(0, 1, 1), edgeLow: ids(97), edgeHigh: ids(97), edgeTo: ids(1) },
  ...{ callBegin: ids(0, 0, 0), callStart: ids(), callTo: ids(), accepts: ids(0, 1) },
}

describe('a wrong value is named with what it must be', () => {
  test.each([
    [7, 'tokens must be an object, not 7'],
    [{ ...tokens, ends: undefined }, 'tokens.ends must be an Int32Array, not undefined'],
    [{ ...tokens, ends: [1] }, 'tokens.ends must be an Int32Array, not an array'],
    [{ ...tokens, bytes: 'a' }, "tokens.bytes must be a Uint8Array, not 'a'"],
  ])('in a table of tokens: %o', (wrong, message) => {
    expect(() => addon().createVocabulary(wrong as never)).toThrow(new TypeError(`lowrank: ${message}`))
  })

  test.each([
    [{ start: '0' }, "tables.start must be a number, not '0'"],
    [{ start: 0.5 }, 'tables.start must be an integer below 2^53, not 0.5'],
    [{ start: 2 ** 31 }, 'tables.start must be an integer of 32 bits, not 2147483648'],
    [{ start: null }, 'tables.start must be a number, not null'],
    [{ accepts: {} }, 'tables.accepts must be an Int32Array, not an object'],
  ])('in the tables of a grammar: %o', (wrong, message) => {
    const vocabulary = addon().createVocabulary(tokens)
    expect(() => addon().createGrammar(vocabulary, { ...tables, ...(wrong as object) })).toThrow(
      new TypeError(`lowrank: ${message}`),
    )
    expect(() => addon().createGrammar(vocabulary, tables)).not.toThrow()
  })
})
