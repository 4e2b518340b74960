/**
 * Messages as some templates read them: reasoning and tool calls in another place than `reasoning_content` and
 * `tool_calls`. Families choose among these in their chat templates for training.
 */
import type { TemplateMessage } from './message.js'
import { pythonJson } from './python-text.js'
import { entriesOf } from './python-values.js'

/** A tool call of a message. */
export interface Call {
  name: string
  arguments: object
}

export function callsOf(message: TemplateMessage): Call[] {
  const calls = (message.tool_calls ?? []) as { function: Partial<Call> }[]
  return calls.map(({ function: { name = '', arguments: given = {} } }) => ({ name, arguments: given }))
}

/** The message with its tool calls written behind its content. */
export function withCallsInContent(
  message: TemplateMessage,
  write: (calls: readonly Call[]) => string,
): TemplateMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message)
  return calls.length === 0 ? message : { ...rest, content: `${message.content ?? ''}${write(calls)}` }
}

/** The message with its tool calls as text under another key. */
export function withCallsAt(
  message: TemplateMessage,
  key: string,
  write: (call: Call) => string,
): TemplateMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message)
  return calls.length === 0 ? message : { ...rest, [key]: calls.map(write).join('\n') }
}

/** The message with its reasoning in `<think>` before the content. */
export function withThoughtInContent(message: TemplateMessage): TemplateMessage {
  const { reasoning_content: thought, ...rest } = message
  if (message.role !== 'assistant' || typeof thought !== 'string' || thought === '') return message
  return { ...rest, content: `<think>${thought}</think>${message.content ?? ''}` }
}

/** `name(key=value, …)`, with values as JSON, or with other words for `true`, `false`, and `null`. */
export function pythonCall(
  { name, arguments: given }: Call,
  words: Readonly<Record<string, string>> = {},
): string {
  const list = entriesOf(given).map(([key, value]) => `${key}=${pythonJson(value, { words })}`)
  return `${name}(${list.join(', ')})`
}
