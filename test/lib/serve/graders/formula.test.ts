import { expect, test } from 'vitest'
import { parseFormula } from '../../../../lib/serve/graders/formula.js'

const values = { a: 0.25, b: 3, long_name_2: -2 }
const names = Object.keys(values)

test.each<[string, number]>([
  ['a', 0.25],
  ['1 + 2 * 3 - 4 / 8', 6.5],
  ['10 - 4 - 3', 3],
  ['24 / 4 / 2', 3],
  ['(1 + 2) * 3', 9],
  ['2 ^ 3 ^ 2', 512],
  ['-2 ^ 2', -4],
  ['(-2) ^ 2', 4],
  ['2 ^ -1', 0.5],
  ['2 * -b', -6],
  ['- - b', 3],
  ['+b', 3],
  ['--+-1', -1],
  ['.5 + 5. + 1e-1 + 2E+1', 25.6],
  ['min(a, b, long_name_2) + max(1, 2)', 0],
  ['max(7)', 7],
  ['abs(long_name_2)', 2],
  ['floor(-1.5) * ceil(1.2)', -4],
  ['exp(0) + sqrt(16) + log(exp(2))', 7],
  ['0.5*a+0.5 * ( b )\n', 1.625],
])('%s is %f', (text, expected) => {
  expect(parseFormula(text, names)(values)).toBeCloseTo(expected, 12)
})

test.each<[string, string]>([
  ['', 'the formula ends too early'],
  ['a +', 'the formula ends too early'],
  ['(a', 'the formula ends too early'],
  ['a b', '"b" is not expected at character 3'],
  ['a))', '")" is not expected at character 2'],
  ['1 2', '"2" is not expected at character 3'],
  ['a ** b', '"*" is not expected at character 4'],
  ['a % b', '"%" is not expected at character 3'],
  ['a;b', '";" is not expected at character 2'],
  ['c + 1', 'there is no grader "c", only a, b, long_name_2'],
  ['constructor', 'there is no grader "constructor"'],
  ['toString()', 'there is no grader "toString"'],
  ['process.exit(1)', 'there is no grader "process"'],
  ['a.b', '"." is not expected at character 2'],
  ['abs(a, b)', '"," is not expected at character 6'],
  ['min()', '")" is not expected at character 5'],
  ['abs', 'the formula ends too early'],
  ['1e', '"e" is not expected at character 2'],
  ['('.repeat(100) + ')'.repeat(100), 'nested more than 64 deep'],
  [`2${'^2'.repeat(100)}`, 'nested more than 64 deep'],
])('%s is refused', (text, message) => {
  expect(() => parseFormula(text, names)).toThrow(message)
})

test('long formulas are no deep ones', () => {
  expect(parseFormula(Array(500).fill('(a)').join('+'), names)(values)).toBe(125)
})
