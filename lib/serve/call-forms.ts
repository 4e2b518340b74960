/**
 * Tool calls as models write them. Each form has marks that open a call, and reads it in a text that may not have ended
 * yet; arguments become JSON.
 */
import { isRecord } from '../core/schema-shape.js'
import { jsonOf, Literals, Unreadable } from './literals.js'

/** A tool call; its arguments are the JSON of an object. */
export interface WrittenCall {
  name: string
  arguments: string
}

/** The schemas of the parameters of tools, by the names of the tools. */
export type Parameters = ReadonlyMap<string, unknown>

export interface CallForm {
  marks: readonly string[]
  /** True if calls are at the start of an answer only, and only of tools that there are. */
  leads?: boolean
  /** Reads the calls after a mark, or from a mark that begins them. */
  read(text: Literals, parameters: Parameters): WrittenCall[]
}

/** `{"name": …, "arguments": {…}}`, also as `parameters`. */
function objectCall(text: Literals): WrittenCall {
  const members = text.members()
  const name = members.get('name')
  const given = members.get('arguments') ?? members.get('parameters') ?? '{}'
  const known = ['name', 'arguments', 'parameters', 'id', 'type']
  if (
    !name?.startsWith('"') ||
    !given.startsWith('{') ||
    [...members.keys()].some((key) => !known.includes(key))
  )
    throw new Unreadable()
  return { name: JSON.parse(name) as string, arguments: given }
}

const objectCalls = (text: Literals) => text.list('[', ']', () => objectCall(text))

/** `name(key=value, …)` */
function pythonCall(text: Literals): WrittenCall {
  const name = text.name()
  const given = text.list('(', ')', () => {
    const key = text.name()
    text.white().take('=').white()
    return [key, text.value()] as const
  })
  return { name, arguments: jsonOf(distinct(given)) }
}

/** `<function=name>` and its `<parameter=key>`, whose values are bare texts. */
function taggedCall(text: Literals, parameters: Parameters): WrittenCall {
  text.take('<function=')
  const name = text.until('>')
  const given: [string, string][] = []
  while (!text.white().tries('</function>')) {
    text.take('<parameter=')
    const key = text.until('>')
    const value = text.until('</parameter>').replace(/^\n/, '').replace(/\n$/, '')
    given.push([key, bareValue(value, schemaOf(parameters.get(name), key))])
  }
  return { name, arguments: jsonOf(distinct(given)) }
}

function distinct(given: readonly (readonly [string, string])[]): ReadonlyMap<string, string> {
  const members = new Map(given)
  if (members.size < given.length) throw new Unreadable()
  return members
}

function schemaOf(parameters: unknown, key: string): unknown {
  const properties = isRecord(parameters) ? parameters.properties : undefined
  return isRecord(properties) && Object.hasOwn(properties, key) ? properties[key] : undefined
}

/** JSON of a text without quotes: a string where the schema wants one or where the text is no other literal. */
function bareValue(text: string, schema: unknown): string {
  const isText =
    isRecord(schema) &&
    (schema.type === 'string' ||
      typeof schema.const === 'string' ||
      (Array.isArray(schema.enum) && schema.enum.every((value) => typeof value === 'string')))
  if (isText) return JSON.stringify(text)
  try {
    const literals = new Literals(text, 0, true)
    const value = literals.white().value()
    if (literals.white().atEnd) return value
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error
  }
  return JSON.stringify(text)
}

/** The end of calls, which an answer may leave out. */
function closed(text: Literals, close: string, calls: WrittenCall[]): WrittenCall[] {
  if (calls.length === 0) throw new Unreadable()
  const end = text.at
  if (!text.white().tries(close)) text.at = end
  return calls
}

/** The forms of all templates, those with the more telling marks first. */
export const CALL_FORMS: readonly CallForm[] = [
  {
    marks: ['<tool_call>'],
    read(text, parameters) {
      const isObject = text.take('<tool_call>').white().peek() === '{'
      return closed(text, '</tool_call>', [isObject ? objectCall(text) : taggedCall(text, parameters)])
    },
  },
  {
    marks: ['<|tool_call_start|>'],
    read(text) {
      text.take('<|tool_call_start|>').white()
      return closed(
        text,
        '<|tool_call_end|>',
        text.list('[', ']', () => pythonCall(text)),
      )
    },
  },
  {
    marks: ['<function_calls>'],
    read(text) {
      text.take('<function_calls>')
      const calls: WrittenCall[] = []
      while (!text.white().tries('</function_calls>')) calls.push(pythonCall(text))
      return closed(text, '</function_calls>', calls)
    },
  },
  {
    marks: ['<|tool_call|>'],
    read: (text) => closed(text, '<|/tool_call|>', objectCalls(text.take('<|tool_call|>').white())),
  },
  {
    marks: ['[TOOL_CALLS]'],
    read(text) {
      if (text.take('[TOOL_CALLS]').white().peek() === '[') return objectCalls(text)
      const name = text.name()
      if (text.tries('[CALL_ID]')) text.until('[ARGS]')
      else text.take('[ARGS]')
      return [{ name, arguments: jsonOf(text.white().members()) }]
    },
  },
  {
    marks: ['<|python_tag|>', '{'],
    leads: true,
    read(text, parameters) {
      text.tries('<|python_tag|>')
      const call = objectCall(text.white())
      if (!parameters.has(call.name)) throw new Unreadable()
      return [call]
    },
  },
]
