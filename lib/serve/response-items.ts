/** Items of `/v1/responses`: what was said and told, from their JSON to the messages of a chat. */
import * as z from 'zod'
import type { ChatRequest } from './chat-request.js'
import { ApiError, checked, invalid } from './errors.js'
import type { TokenEntry } from './log-probs.js'

const textPart = z.looseObject({
  type: z.enum(['input_text', 'output_text', 'text'], { error: 'expected a part of text' }),
  text: z.string(),
})
const refusalPart = z.looseObject({ type: z.literal('refusal'), refusal: z.string() })
const content = z.union([z.string(), z.array(z.union([textPart, refusalPart]))], {
  error: 'expected a string, or a list of text parts',
})
const messageItem = z.looseObject({
  type: z.literal('message').nullish(),
  role: z.enum(['system', 'developer', 'user', 'assistant'], {
    error: 'expected system, developer, user, or assistant',
  }),
  content,
})
const callItem = z.looseObject({
  type: z.literal('function_call'),
  call_id: z.string().min(1),
  name: z.string().min(1),
  arguments: z.string(),
})
const resultItem = z.looseObject({
  type: z.literal('function_call_output'),
  call_id: z.string().min(1),
  output: content,
})
const otherItem = z.looseObject({
  type: z.enum(['reasoning', 'item_reference'], {
    error: 'expected message, function_call, function_call_output, reasoning, or item_reference',
  }),
  id: z.string().nullish(),
})
/** A message, a call, or the result of a call in a request, with its text. */
export type Item =
  | { type: 'message'; role: z.infer<typeof messageItem>['role']; content: string }
  | { type: 'function_call'; call_id: string; name: string; arguments: string }
  | { type: 'function_call_output'; call_id: string; output: string }

/** A text or a call of an answer. */
export type OutputItem = { id: string; status: string } & (
  | { type: 'message'; role: 'assistant'; content: TextPart[] }
  | { type: 'function_call'; call_id: string; name: string; arguments: string }
)

export interface TextPart {
  type: 'output_text'
  text: string
  annotations: never[]
  logprobs: TokenEntry[]
}

/** The answer to a request, as clients see it. */
export interface ResponseObject {
  id: string
  status: 'in_progress' | 'completed' | 'incomplete'
  output: OutputItem[]
  [key: string]: unknown
}

/** The answers before, by their ids. */
export interface Said {
  /** All items up to the end of an answer. */
  itemsOf(id: string): readonly Item[]
  item(id: string, param: string): OutputItem
}

/**
 * The items of the answers before, and those of the input.
 * @param before the id of an answer
 * @throws {ApiError} for an item that cannot be read, naming the key
 */
export function itemsOf(
  input: string | readonly { type?: string | null | undefined }[],
  before: string | null | undefined,
  said: Said,
): Item[] {
  const items: Item[] = before ? [...said.itemsOf(before)] : []
  if (typeof input === 'string') return [...items, { type: 'message', role: 'user', content: input }]
  for (const [at, given] of input.entries()) {
    if (given.type === 'function_call') {
      const { call_id, name, arguments: written } = checkedItem(callItem, given, at)
      items.push({ type: 'function_call', call_id, name, arguments: written })
    } else if (given.type === 'function_call_output') {
      const { call_id, output } = checkedItem(resultItem, given, at)
      items.push({ type: 'function_call_output', call_id, output: textOf(output) })
    } else if (given.type === 'message' || given.type === null || given.type === undefined) {
      const { role, content } = checkedItem(messageItem, given, at)
      items.push({ type: 'message', role, content: textOf(content) })
    } else {
      const other = checkedItem(otherItem, given, at)
      // Reasoning of earlier answers is nothing that a template shows.
      if (other.type === 'item_reference') items.push(itemOf(said.item(other.id ?? '', `input[${at}].id`)))
    }
  }
  return items
}

/** An item of an answer, as a later request may give it. */
export function itemOf(item: OutputItem): Item {
  if (item.type === 'message') return { type: item.type, role: item.role, content: textOf(item.content) }
  const { type, call_id, name, arguments: written } = item
  return { type, call_id, name, arguments: written }
}

/** @throws {ApiError} naming the key within the input */
function checkedItem<T>(schema: z.ZodType<T>, item: unknown, at: number): T {
  try {
    return checked(schema, item)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const path = `input[${at}]${error.param ? `.${error.param}` : ''}`
    throw invalid(path, error.message.replace(`'${error.param}'`, `'${path}'`), error.code ?? undefined)
  }
}

/** Calls go to the turn of the assistant before them. */
export function messagesOf(items: readonly Item[]): ChatRequest['messages'] {
  const messages: ChatRequest['messages'] = []
  for (const item of items) {
    if (item.type === 'function_call_output') {
      messages.push({ role: 'tool', tool_call_id: item.call_id, content: item.output })
      continue
    }
    if (item.type !== 'function_call') {
      messages.push({ role: item.role, content: item.content })
      continue
    }
    const { call_id: id, name, arguments: given } = item
    let last = messages.at(-1)
    if (last?.role !== 'assistant') {
      last = { role: 'assistant', content: '' }
      messages.push(last)
    }
    last.tool_calls = [
      ...(last.tool_calls ?? []),
      { id, type: 'function', function: { name, arguments: given } },
    ]
  }
  return messages
}

function textOf(given: string | readonly ({ text: string } | { refusal: string })[]): string {
  if (typeof given === 'string') return given
  return given.map((part) => ('text' in part ? part.text : part.refusal)).join('')
}
