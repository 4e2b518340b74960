/** Functions that every template can call. */
import { strftime } from '../strftime.js'
import {
  type Arguments,
  asInteger,
  asText,
  Fields,
  itemsOf,
  take,
  textOf,
  type Value,
  viewOf,
} from './values.js'

/** Thrown by the template's own `raise_exception`. */
export class Raised extends Error {}

/** No template needs more, and a list of 1e9 numbers would exhaust memory before the time limit. */
const LONGEST_RANGE = 1 << 20

/** @param now the time of `strftime_now` */
export function functions(now: Date): Record<string, (args: Arguments) => Value> {
  return {
    range,
    dict: (args) => new Map(entries(args, 'dict()')),
    namespace: (args) => new Fields('namespace', new Map(entries(args, 'namespace()'))),
    joiner,
    raise_exception: (args) => {
      throw new Raised(textOf(take(args, 'raise_exception()', ['message', ''])[0]))
    },
    strftime_now: (args) =>
      strftime(now, asText(take(args, 'strftime_now()', ['format'])[0], 'strftime_now()')),
  }
}

function range({ positional }: Arguments): Value {
  const [first = 0, last, step = 1] = positional.map((value) => asInteger(value, 'range()'))
  if (step === 0) throw new Error('range() needs a step other than 0')
  const [start, stop] = last === undefined ? [0, first] : [first, last]
  const count = Math.max(0, Math.ceil((stop - start) / step))
  if (!(count <= LONGEST_RANGE))
    throw new Error(`range() of ${count} numbers is longer than ${LONGEST_RANGE}`)
  const numbers = Array.from({ length: count }, (_, index) => start + index * step)
  return viewOf('range', numbers)
}

/** A function that returns nothing at its first call, and the separator at others. */
function joiner(args: Arguments): Value {
  const [separator] = take(args, 'joiner()', ['sep', ', '])
  let used = false
  return () => {
    const text = used ? separator : ''
    used = true
    return text
  }
}

/** The entries of a mapping or of pairs, and of named arguments. */
function entries({ positional: [given], named }: Arguments, name: string): [string, Value][] {
  if (given === undefined) return [...named]
  const pairs = given instanceof Map ? [...given] : itemsOf(given).map(itemsOf)
  return [...pairs, ...named].map(([key, value]) => [asText(key, name), value])
}
