/** Chats in the form of ShareGPT: messages of `from` and `value`, with its own role names. Its rows become chats. */
import { quote } from '../../core/quote.js'
import { parseExactJson, TEMPLATE_KEYS } from '../dataset/exact-json.js'
import { RepeatedKey } from '../dataset/json.js'
import { type RowPlace, rowError } from '../dataset/place.js'
import { isObject, type Json } from '../dataset/value.js'
import type { Form } from './form.js'
import { readChat } from './turns.js'

const ROLES: ReadonlyMap<string, string> = new Map([
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

export const shareGpt: Form<never, 'sharegpt'> = {
  name: 'sharegpt',
  precedence: 30,
  expected: '{"conversations": [{"from": …, "value": …}, …]}',
  columns: { conversations: 'the turns' },
  optional: { system: 'the system prompt', tools: 'the tools' },
  chat: {
    column: 'conversations',
    names: {
      keys: '"from" and "value"',
      roles: ROLES,
      has: (message) => !('role' in message) && 'from' in message,
      standard,
    },
  },
  read: readChat('conversations'),
}

/** The message with standard keys; a `function_call` becomes a message with tool calls. */
function standard(message: Json, where: string, place: RowPlace): Json {
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
