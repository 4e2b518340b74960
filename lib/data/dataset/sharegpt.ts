/** Reads messages in the ShareGPT format: `from` and `value`, with its own role names. */
import { quote } from '../../core/quote.js'
import { isObject, type Json } from './columns.js'
import { parseExactJson, TEMPLATE_KEYS } from './exact-json.js'
import { RepeatedKey } from './json.js'
import { type RowPlace, rowError } from './place.js'

/** Standard roles by ShareGPT role. */
export const SHAREGPT_ROLES: ReadonlyMap<string, string> = new Map([
  ['system', 'system'],
  ['human', 'user'],
  ['user', 'user'],
  ['gpt', 'assistant'],
  ['assistant', 'assistant'],
  ['chatgpt', 'assistant'],
  ['bing', 'assistant'],
  ['bard', 'assistant'],
  ['model', 'assistant'],
  ['function_call', 'assistant'],
  ['observation', 'tool'],
  ['function_response', 'tool'],
  ['tool', 'tool'],
])

/** The message with standard keys; a `function_call` becomes a message with tool calls. */
export function shareGptMessage(message: Json, where: string, place: RowPlace): Json {
  const { from, value, ...rest } = message
  if (from !== 'function_call') return { ...rest, role: from, content: value }
  return { ...rest, role: 'assistant', content: null, tool_calls: toolCalls(value, where, place) }
}

function toolCalls(value: unknown, where: string, place: RowPlace): Json[] {
  let calls: unknown = value
  try {
    if (typeof value === 'string') calls = parseExactJson(value, TEMPLATE_KEYS)
  } catch (cause) {
    if (cause instanceof RepeatedKey)
      throw rowError(place, `in the function_call of ${where} ${cause.message}`, cause)
    // Text that is not JSON is refused below.
  }
  return [calls].flat().map((call) => {
    if (isObject(call) && typeof call.name === 'string')
      return { type: 'function', function: { name: call.name, arguments: call.arguments ?? {} } }
    throw rowError(
      place,
      `the function_call of ${where} must be JSON such as {"name": …, "arguments": …}, not ${quote(String(value))}`,
    )
  })
}
