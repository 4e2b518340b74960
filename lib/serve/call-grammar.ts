/** The texts of calls that a model has to write, in the form of its template: as JSON, as Python, or in tags. */
import { isRecord } from '../core/schema-shape.js'
import type { GrammarPart } from '../grammar/grammar.js'
import { unsupported } from './errors.js'
import { Literals } from './literals.js'

/** The texts around the name of a tool and its arguments, and the form of these. */
export interface CallFrame {
  open: string
  between: string
  close: string
  /** @throws {ApiError} for parameters that arguments in this form cannot be held to */
  argumentsOf(name: string, parameters: unknown): GrammarPart[]
}

/** Names of arguments that the reader of Python accepts. */
const NAME = /^[A-Za-z_][\w.:/-]*$/

const text = (text: string): GrammarPart => ({ kind: 'text', text })
const END_OF_VALUE = '</parameter>'

/**
 * The frame of a call.
 * @param call as the template writes it
 * @param name of its tool
 * @param key of its first argument
 */
export function frameOf(call: string, name: string, key: string): CallFrame | undefined {
  const begin = call.indexOf(name)
  const open = call.slice(0, begin)
  const rest = call.slice(begin + name.length)
  if (rest.startsWith(`(${key}=`)) return pythonFrame(open, rest.slice(rest.lastIndexOf(')')))
  if (rest.startsWith(`>\n<parameter=${key}>\n`)) {
    const last = `\n${END_OF_VALUE}\n`
    const at = rest.lastIndexOf(last)
    return at < 0 ? undefined : taggedFrame(open, rest.slice(at + last.length))
  }
  const object = rest.indexOf('{')
  if (object < 0) return undefined
  const literals = new Literals(rest, object, true)
  literals.members()
  return jsonFrame(open, rest.slice(0, object), rest.slice(literals.at))
}

/** `name` between texts, then the JSON of all arguments. */
function jsonFrame(open: string, between: string, close: string): CallFrame {
  return {
    ...{ open, between, close },
    argumentsOf(_, given) {
      const schema = isRecord(given) && Object.keys(given).length > 0 ? given : { type: 'object' }
      return [{ kind: 'schema', schema }]
    },
  }
}

/** `name(key=value, …)`, with values as JSON, which is read like Python. */
function pythonFrame(open: string, close: string): CallFrame {
  return {
    ...{ open, between: '(', close },
    argumentsOf(name, given) {
      const [first, ...more] = parametersOf(name, given)
      const odd = [first, ...more].find((one) => one !== undefined && !NAME.test(one.key))
      if (odd !== undefined)
        throw notHeld(name, `this model writes arguments as Python, and the name ${JSON.stringify(odd.key)}`)
      const value = ({ key, schema }: Parameter): GrammarPart[] => [
        text(`${key}=`),
        { kind: 'schema', schema },
      ]
      const following = more.map((one) => optional(one, [text(', '), ...value(one)]))
      if (first === undefined) return []
      if (first.required) return [...value(first), ...following]
      // Without a required one, each may be the first, or there is none.
      const begun = [first, ...more].map((one, at) => all([...value(one), ...following.slice(at)]))
      return [{ kind: 'one', options: [text(''), ...begun] }]
    },
  }
}

/** `<parameter=key>`, the value on a line of its own, and the end of the tag. Texts are written as they are. */
function taggedFrame(open: string, close: string): CallFrame {
  return {
    ...{ open, between: '>\n', close },
    argumentsOf: (name, given) =>
      parametersOf(name, given).map((one) =>
        optional(one, [text(`<parameter=${one.key}>\n`), bareValue(name, one), text(`\n${END_OF_VALUE}\n`)]),
      ),
  }
}

/** The value of a parameter without quotes where it is a text. */
function bareValue(name: string, { key, schema }: Parameter): GrammarPart {
  const { type, enum: values, const: only } = schema
  const texts = Array.isArray(values) ? values : only === undefined ? undefined : [only]
  if (texts?.every((one) => typeof one === 'string'))
    return { kind: 'one', options: texts.map((one) => text(one)) }
  if (type !== 'string') return { kind: 'schema', schema }
  const bound = ['pattern', 'format', 'minLength', 'maxLength'].find((keyword) => keyword in schema)
  if (bound !== undefined)
    throw notHeld(name, `${key}: this model writes texts without quotes, and '${bound}'`)
  return { kind: 'without', stop: END_OF_VALUE }
}

interface Parameter {
  key: string
  required: boolean
  schema: Record<string, unknown>
}

/** Parameters of a tool, those that are required first. */
function parametersOf(name: string, given: unknown): Parameter[] {
  if (!isRecord(given)) return []
  const { properties = {}, required = [], $defs, definitions } = given
  if (!isRecord(properties) || !Array.isArray(required) || 'anyOf' in given || '$ref' in given)
    throw notHeld(
      name,
      'this model writes arguments one by one, and parameters that are not an object with properties',
    )
  const shared = {
    ...($defs === undefined ? {} : { $defs }),
    ...(definitions === undefined ? {} : { definitions }),
  }
  return Object.entries(properties)
    .map(([key, schema]) => ({
      ...{ key, required: required.includes(key) },
      schema: { ...(isRecord(schema) ? schema : {}), ...shared },
    }))
    .sort((a, b) => Number(b.required) - Number(a.required))
}

const all = (parts: GrammarPart[]): GrammarPart => ({ kind: 'all', parts })

const optional = ({ required }: Parameter, parts: GrammarPart[]): GrammarPart =>
  required ? all(parts) : { kind: 'one', options: [text(''), all(parts)] }

const notHeld = (name: string, why: string) =>
  unsupported('tool_choice', `a call of ${name} cannot be required: ${why} cannot be followed`)
