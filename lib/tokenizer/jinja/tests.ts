/** Tests of templates: `x is defined`, and those that filters such as `select` name. */

import { isWholeFloat } from '../python-values.js'
import { OPERATORS } from './operators.js'
import {
  contains,
  Fields,
  isCallable,
  isEqual,
  isInteger,
  numberOf,
  order,
  Stream,
  textOf,
  Undefined,
  type Value,
  View,
} from './values.js'

type Test = (value: Value, argument: Value) => boolean

const isCased = (text: string) => text.toLowerCase() !== text.toUpperCase()
const remainder = (value: Value, by: Value) => OPERATORS['%']?.(value, by)
const isIterable = (value: Value) =>
  !(value === null || value instanceof Fields || isCallable(value) || numberOf(value) !== undefined)

const EQUAL: Test = isEqual
const UNEQUAL: Test = (value, other) => !isEqual(value, other)
const LESS: Test = (value, other) => order(value, other) < 0
const AT_MOST: Test = (value, other) => order(value, other) <= 0
const GREATER: Test = (value, other) => order(value, other) > 0
const AT_LEAST: Test = (value, other) => order(value, other) >= 0

/** Tests that compare with an argument. */
const COMPARISONS: Readonly<Record<string, Test>> = {
  ...{ eq: EQUAL, equalto: EQUAL, '==': EQUAL, ne: UNEQUAL, '!=': UNEQUAL },
  ...{ lt: LESS, lessthan: LESS, '<': LESS, le: AT_MOST, '<=': AT_MOST },
  ...{ gt: GREATER, greaterthan: GREATER, '>': GREATER, ge: AT_LEAST, '>=': AT_LEAST },
  divisibleby: (value, by) => isEqual(remainder(value, by), 0),
  in: (value, container) => contains(container, value),
  sameas: (value, other) => value === other,
}

const TESTS: Readonly<Record<string, Test>> = {
  boolean: (value) => typeof value === 'boolean',
  // Jinja can call what is not defined, to say so.
  callable: (value) => isCallable(value) || value instanceof Undefined,
  defined: (value) => !(value instanceof Undefined),
  even: (value) => isEqual(remainder(value, 2), 0),
  false: (value) => value === false,
  float: (value) => (typeof value === 'number' && !Number.isInteger(value)) || isWholeFloat(value),
  integer: isInteger,
  iterable: isIterable,
  lower: (value) => isCased(textOf(value)) && textOf(value) === textOf(value).toLowerCase(),
  mapping: (value) => value instanceof Map,
  none: (value) => value === null,
  number: (value) => numberOf(value) !== undefined,
  odd: (value) => isEqual(remainder(value, 2), 1),
  sequence: (value) =>
    isIterable(value) && !(value instanceof Stream || (value instanceof View && value.kind !== 'range')),
  string: (value) => typeof value === 'string',
  true: (value) => value === true,
  undefined: (value) => value instanceof Undefined,
  upper: (value) => isCased(textOf(value)) && textOf(value) === textOf(value).toUpperCase(),
}

/** The test of this name. */
export function testNamed(name: string): Test {
  const comparison = Object.hasOwn(COMPARISONS, name) ? COMPARISONS[name] : undefined
  if (comparison !== undefined)
    return (value, argument) => {
      if (argument === undefined) throw new Error(`the test "${name}" has no argument`)
      return comparison(value, argument)
    }
  const test = Object.hasOwn(TESTS, name) ? TESTS[name] : undefined
  if (test === undefined) throw new Error(`it uses the test "${name}", which is unknown`)
  return test
}
