import { expect, test } from 'vitest'
import { digits, facts, fittedTable, formatCount, formatDuration, table } from '../../../lib/cli/format.js'

test('counts have thousands separators in every locale', () => {
  expect(formatCount(134515008)).toBe('134,515,008')
})

test('numbers have three digits or so', () => {
  expect([0.1234, 1.234, 12.34, 123.4, 1234.5].map(digits)).toEqual(['0.12', '1.23', '12.3', '123', '1235'])
})

test('durations use the two largest units', () => {
  expect([0.4, 59.4, 59.6, 605, 3599.6, 7500].map(formatDuration)).toEqual([
    '0 s',
    '59 s',
    '1 min 00 s',
    '10 min 05 s',
    '1 h 00 min',
    '2 h 05 min',
  ])
})

test('columns of a table line up and lines have no trailing space', () => {
  const rows = [
    ['name', 'bytes', ''],
    ['x', '10', ''],
  ]
  expect(table(rows, [1])).toBe('name  bytes\nx        10')
})

test('a table that is too wide becomes a list for each row', () => {
  const rows = [
    ['NAME', 'PAPER', 'RATE'],
    ['lora', 'arXiv 1', '0.1'],
    ['vera', 'arXiv 2', ''],
  ]
  expect(fittedTable(rows, 19)).toBe(table(rows))
  expect(fittedTable(rows, 18)).toBe('lora\n  PAPER  arXiv 1\n  RATE   0.1\n\nvera\n  PAPER  arXiv 2')
})

test('facts without a value are left out', () => {
  expect(
    facts([
      ['a', 1],
      ['bb', undefined],
      ['ccc', ''],
    ]),
  ).toBe('a  1')
})
