import { expect, test } from 'vitest'
import { collect, integerFlag, numberFlag } from '../../../lib/cli/help.js'

test.each(['', ' ', '-1', '1.5', '1e3', '0x10', 'ten', '99999999999999999999'])(
  '%j is no integer flag',
  (text) => {
    expect(() => integerFlag(0)(text)).toThrow('Expected an integer from 0.')
  },
)

test('an integer flag has a least value', () => {
  expect(integerFlag(2)('2')).toBe(2)
  expect(() => integerFlag(2)('1')).toThrow('Expected an integer from 2.')
})

test.each(['', ' ', 'x', '-0.1', '1.1', 'NaN', 'Infinity'])('%j is no number from 0 to 1', (text) => {
  expect(() => numberFlag(0, 1)(text)).toThrow('Expected a number from 0 to 1.')
})

test('a number flag takes its bounds and exponents', () => {
  expect(['0', '1', '2.5e-1'].map(numberFlag(0, 1))).toEqual([0, 1, 0.25])
})

test('a repeated flag gathers its values in order', () => {
  expect(collect('b', collect('a'))).toEqual(['a', 'b'])
})
