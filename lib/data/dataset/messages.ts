/** Reads lists of messages and of tools, with the names of any form. All results are validated. */
import { nearest } from '../../core/nearest.js'
import { quote } from '../../core/quote.js'
import { type DatasetMessage, ROLES } from '../../tokenizer/message.js'
import { valuesOf } from '../../tokenizer/python-values.js'
import { unclearReasoning } from '../../tokenizer/reasoning.js'
import { FORMS } from '../forms/index.js'
import type { Columns } from './columns.js'
import { parseExactJson, TEMPLATE_KEYS } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { describe, type RowPlace, rowError } from './place.js'
import { readToolCalls } from './tool-calls.js'
import { isObject, type Json, meant } from './value.js'

/** Names of messages that differ from the standard ones, by the column of the chats that have them. */
const OTHER_NAMES = FORMS.flatMap(({ chat }) =>
  chat?.names === undefined ? [] : [{ column: chat.column, ...chat.names }],
)

/** Tables cannot contain lists, so lists are JSON strings there. */
export function parsedText(value: unknown, key: string, place: RowPlace): unknown {
  if (typeof value !== 'string' || !/^\s*\[/.test(value)) return value
  try {
    return parseExactJson(value, key === 'tools' ? undefined : TEMPLATE_KEYS)
  } catch (cause) {
    if (cause instanceof RepeatedKey) throw rowError(place, `in "${key}" ${cause.message}`, cause)
    return value
  }
}

/** Deepest nesting of values that we and templates walk through. */
const DEEPEST = 64

function checkDepth(value: unknown, what: string, place: RowPlace): void {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEEPEST) throw rowError(place, `${what} is nested more than ${DEEPEST} deep`)
    level = level.flatMap(valuesOf)
  }
}

export function readTools(value: Json, place: RowPlace): { tools?: unknown[] } {
  if ('functions' in value && value.functions !== null)
    throw rowError(
      place,
      'the row has "functions", the older form of "tools"; write them as "tools": [{"type": "function", "function": {…}}]',
    )
  const tools = parsedText(value.tools, 'tools', place)
  if (tools === undefined || tools === null || tools === '') return {}
  if (!Array.isArray(tools)) throw rowError(place, `"tools" must be an array, not ${describe(tools)}`)
  checkDepth(tools, '"tools"', place)
  return tools.length === 0 ? {} : { tools }
}

export function readMessages(
  list: unknown[],
  key: string,
  columns: Columns,
  place: RowPlace,
): DatasetMessage[] {
  if (list.length === 0) throw rowError(place, `"${key}" is empty; expected at least one message`)
  checkDepth(list, `"${key}"`, place)
  return list.map((value, index) => {
    const where = `${key}[${index}]`
    if (!isObject(value)) {
      const parts = OTHER_NAMES.find(({ column }) => column === key)?.keys ?? '"role" and "content"'
      throw rowError(place, `${where} must be an object with ${parts}, not ${describe(value)}`)
    }
    return readMessage(named(value, columns), where, place)
  })
}

/**
 * The message with the usual names, and without empty fields, which tables have in all messages if any message
 * uses them.
 */
function named(message: Json, { role, content }: Columns): Json {
  const isEmpty = (key: string, value: unknown) =>
    (value === null && key !== 'content') ||
    (key === 'tool_calls' && Array.isArray(value) && value.length === 0)
  const kept = Object.fromEntries(Object.entries(message).filter(([key, value]) => !isEmpty(key, value)))
  for (const [name, source] of [
    ['role', role],
    ['content', content],
  ] as const) {
    if (source === undefined || !Object.hasOwn(kept, source)) continue
    const value = kept[source]
    delete kept[source]
    kept[name] = value
  }
  return kept
}

/** Keys whose value may be a weight; an image's "height" is none. */
const weightLike = (message: Json): string[] =>
  Object.entries(message).flatMap(([key, value]) =>
    typeof value === 'boolean' || (typeof value === 'number' && value >= 0 && value <= 1) ? key : [],
  )

function readMessage(message: Json, where: string, place: RowPlace): DatasetMessage {
  const names = OTHER_NAMES.find(({ has }) => has(message))
  const value = names?.standard(message, where, place) ?? message
  if ('function_call' in value || value.role === 'function_call')
    throw rowError(
      place,
      `${where} has a "function_call", the older form of "tool_calls"; write it as "tool_calls": [{"type": "function", "function": {"name": …, "arguments": …}}], and its result as a message of the role "tool"`,
    )
  const { role: given, content: _, weight: weighed, train, loss, ...rest } = value
  const weight = weighed ?? (train === false || loss === false ? 0 : undefined)
  const role = (ROLES as readonly unknown[]).includes(given) ? given : otherRole(given)
  if (given === undefined) throw rowError(place, `${where} has no "role"${meant(value, ['role'])}`)
  if (typeof role !== 'string') {
    const known = [...(names?.roles.keys() ?? ROLES)]
    const advice = given === 'function' ? '; the result of a call has the role "tool"' : ''
    throw rowError(
      place,
      `the role of ${where} must be one of ${known.join(', ')}, not ${describe(given)}${advice}`,
    )
  }
  const slip = weight === undefined ? nearest('weight', weightLike(rest), 2) : undefined
  if (slip !== undefined)
    throw rowError(place, `${where} has ${quote(slip)}, which is not used; did you mean "weight"?`)
  if (weight !== undefined && weight !== 0 && weight !== 1) {
    throw rowError(place, `the weight of ${where} must be 0 or 1, not ${describe(weight)}`)
  }
  const read: DatasetMessage = {
    ...rest,
    ...readToolCalls(rest, where, (message, cause) => rowError(place, message, cause)),
    // The two roles are equivalent; templates know the older name.
    role: role === 'developer' ? 'system' : role,
    content: readContent(value, 'tool_calls' in rest, where, place),
    ...(weight === 0 ? { weight } : {}),
  }
  const unclear = unclearReasoning(read)
  if (unclear !== undefined) throw rowError(place, `${where} ${unclear}`)
  return read
}

/** The standard role of one that a form has. */
const otherRole = (given: unknown): string | undefined =>
  OTHER_NAMES.flatMap(({ roles }) => roles.get(given as string) ?? [])[0]

/** Text, or a list of text parts; null only beside tool calls. */
function readContent(
  { content, ...rest }: Json,
  callsTools: boolean,
  where: string,
  place: RowPlace,
): string | null {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) {
    if (callsTools) return null
    const misspelled = meant(rest, ['content'])
    throw rowError(place, `${where} has no "content"${misspelled}`)
  }
  if (!Array.isArray(content)) {
    throw rowError(place, `the content of ${where} must be a string, not ${describe(content)}`)
  }
  return content
    .map((part) => {
      if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text
      const found = isObject(part) ? `type ${describe(part.type)}` : describe(part)
      throw rowError(
        place,
        `${where} has a content part of ${found}; only {"type": "text", "text": …} can be used`,
      )
    })
    .join('')
}
