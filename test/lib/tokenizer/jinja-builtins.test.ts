/**
 * Every builtin filter and test of Jinja, operators, and methods of Python, on values of each kind: what templates render
 * has the hash of what Jinja renders, and anything else is refused with words that name it.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parseExactJson } from '../../../lib/data/dataset/exact-json.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import { swept } from '../../sweep.js'

interface Group {
  receivers: string
  ends: string[]
  results: string
}

const golden = JSON.parse(readFileSync('test/parity/jinja_builtins.json', 'utf8')) as {
  special_tokens: Record<string, string>
  variables: string
  receivers: Record<string, string[]>
  groups: Record<string, Group>
}
const variables = parseExactJson(golden.variables) as Record<string, unknown>

/** Expressions of a group in `npm test`. */
const FEW = 16

/** How messages begin that refuse what Jinja renders. */
const REFUSALS = [
  /it uses the (filter|test) "\w+", which is unknown/,
  /it calls .*\(\), which is not a known function/,
  /it (uses|reads) .*, which is not supported/,
  /a value of type (function|generator|range|dict_\w+) cannot be written as text/,
  /a power of or by a fraction is not supported/,
  /a text is formatted by .*, which is not supported/,
  /a text has fewer places than values by "%"/,
  /(find|startswith|count)\(\) takes at most 1 arguments/,
  /"-" does not take values of types \w+ and \w+/,
  /\w+ of an item is not defined/,
  /missing is not defined/,
  /comparisons in a chain, .*, are not supported/,
  /the chat template is not valid: (Parser Error|Unexpected token|nothing is between)/,
]

const expressionsOf = ({ receivers, ends }: Group): string[] =>
  (golden.receivers[receivers] ?? []).flatMap((one) => ends.map((end) => `(${one})${end}`))

const digest = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 4)

/** What is wrong with an expression; undefined if nothing is. */
function fault(expression: string, result: string): string | undefined {
  try {
    const template = new ChatTemplate(`{{ ${expression} }}`, golden.special_tokens)
    const text = template.render([{ role: 'user', content: '' }], { variables })
    return digest(text) === result ? undefined : `${expression} is ${text}`
  } catch (error) {
    const { message } = error as Error
    return result === '----' || REFUSALS.some((refusal) => refusal.test(message))
      ? undefined
      : `${expression}: ${message}`
  }
}

it.each(Object.entries(golden.groups))('%s', (_, group) => {
  const expressions = expressionsOf(group)
  expect(group.results).toHaveLength(4 * expressions.length)
  const places = swept([...expressions.keys()], FEW)
  const faults = places.map((at) => fault(expressions[at] as string, group.results.slice(4 * at, 4 * at + 4)))
  expect(faults.filter((one) => one !== undefined)).toEqual([])
})
