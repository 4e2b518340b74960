/**
 * How templates of some models read reasoning, tools, and tool calls, which they drop in the usual form:
 * `reasoning_content`, `tools`, and `tool_calls`.
 */
import type { Adapt } from '../adapted-template.js'
import type { TemplateMessage as ChatMessage } from '../message.js'
import { PYTHON_WORDS, pythonJson } from '../python-text.js'
import { entriesOf } from '../python-values.js'

export interface Convention {
  family: string
  /** Strings that the model's own template must contain. */
  needs: readonly string[]
  adapt: Adapt
  /** Template variables with which the template keeps the reasoning of earlier turns, which it leaves out in use. */
  history?: Readonly<Record<string, unknown>>
  /** Special token that the template writes after the last turn of a chat only. */
  closing?: 'eos_token'
}

interface Call {
  name: string
  arguments: object
}

function callsOf(message: ChatMessage): Call[] {
  const calls = (message.tool_calls ?? []) as { function: Partial<Call> }[]
  return calls.map(({ function: { name = '', arguments: given = {} } }) => ({ name, arguments: given }))
}

/** The message with its tool calls written behind its content. */
function withCallsInContent(message: ChatMessage, write: (calls: readonly Call[]) => string): ChatMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message)
  return calls.length === 0 ? message : { ...rest, content: `${message.content ?? ''}${write(calls)}` }
}

/** The message with its tool calls as text under another key. */
function withCallsAt(message: ChatMessage, key: string, write: (call: Call) => string): ChatMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message)
  return calls.length === 0 ? message : { ...rest, [key]: calls.map(write).join('\n') }
}

/** Reasoning is a part of the content. */
const ministral3: Convention = {
  family: 'Ministral 3',
  needs: ['[THINK]', '[/THINK]', '[INST]'],
  adapt: ({ messages, options }) => ({ messages: messages.map(withThinkingPart), options }),
}

function withThinkingPart(message: ChatMessage): ChatMessage {
  const { reasoning_content: thinking, ...rest } = message
  if (message.role !== 'assistant' || typeof thinking !== 'string' || thinking === '') return message
  const { content } = message
  const answer = content ? [{ type: 'text', text: content }] : []
  return { ...rest, content: [{ type: 'thinking', thinking }, ...answer] }
}

/** Tools belong to the system message, and calls are text. */
const phi4Mini: Convention = {
  family: 'Phi-4-mini',
  needs: ['<|tool|>', '<|/tool|>', "message['tools']", 'eos_token'],
  closing: 'eos_token',
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: withTools(messages, tools).map((message) =>
      withCallsInContent(message, (calls) => `<|tool_call|>${pythonJson(calls)}<|/tool_call|>`),
    ),
    options,
  }),
}

function withTools(messages: readonly ChatMessage[], tools: readonly unknown[] | undefined): ChatMessage[] {
  if (!tools) return [...messages]
  const [first, ...rest] = messages
  const told = first?.role === 'system' ? first : { role: 'system', content: '' }
  const list = pythonJson(tools.map((tool) => (tool as { function?: unknown }).function ?? tool))
  return [{ ...told, tools: list }, ...(told === first ? rest : messages)]
}

/** Tools belong to a message, calls are Python, and their results come from the environment. */
const olmo3: Convention = {
  family: 'OLMo 3',
  needs: ['functions', 'function_calls', 'environment'],
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: withFunctions(messages, tools).map((message) => {
      if (message.role === 'tool') return { ...message, role: 'environment' }
      return withCallsAt(message, 'function_calls', (call) => pythonCall(call))
    }),
    options,
  }),
}

/** In use, the system prompt stands in the last question; in a chat that ends with an answer, it would be left out. */
const mistral: Convention = {
  family: 'Mistral',
  needs: ['[INST]', '[AVAILABLE_TOOLS]', 'loop.last and system_message is defined'],
  adapt: ({ messages, options }) => ({ messages: withSystemInLastQuestion(messages), options }),
}

function withSystemInLastQuestion(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const [system, ...rest] = messages
  const last = rest.findLastIndex(({ role }) => role === 'user')
  const question = rest[last]
  if (system?.role !== 'system' || question === undefined || last === rest.length - 1) return messages
  return rest.with(last, { ...question, content: `${system.content}\n\n${question.content}` })
}

/** Reasoning is a part of the content, whose opening tag is in the prompt. */
const olmo3Think: Convention = {
  family: olmo3.family,
  needs: [...olmo3.needs, '<think>'],
  adapt: ({ messages, options }) => olmo3.adapt({ messages: messages.map(withThoughtInContent), options }),
}

function withThoughtInContent(message: ChatMessage): ChatMessage {
  const { reasoning_content: thought, ...rest } = message
  if (message.role !== 'assistant' || typeof thought !== 'string' || thought === '') return message
  return { ...rest, content: `<think>${thought}</think>${message.content ?? ''}` }
}

function withFunctions(
  messages: readonly ChatMessage[],
  tools: readonly unknown[] | undefined,
): readonly ChatMessage[] {
  const [first, ...rest] = messages
  return tools && first ? [{ ...first, functions: pythonJson(tools) }, ...rest] : messages
}

/** `name(key=value, …)`, with values as JSON, or with other words for `true`, `false`, and `null`. */
function pythonCall({ name, arguments: given }: Call, words: Readonly<Record<string, string>> = {}): string {
  const list = entriesOf(given).map(([key, value]) => `${key}=${pythonJson(value, { words })}`)
  return `${name}(${list.join(', ')})`
}

/** Tools have another variable, and calls are text. */
const smollm3: Convention = {
  family: 'SmolLM3',
  needs: ['xml_tools', '<tool_call>', '/no_think'],
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: messages.map((message) => withCallsInContent(message, (calls) => calls.map(inTags).join('\n'))),
    options: tools ? { ...options, variables: { ...options.variables, xml_tools: tools } } : options,
  }),
}

const inTags = (call: Call) => `<tool_call>\n${pythonJson(call)}\n</tool_call>`

/** Calls are text before the content, in Python. */
const lfm2: Convention = {
  family: 'LFM2',
  needs: ['<|tool_list_start|>', '<|im_start|>'],
  adapt: ({ messages, options }) => ({ messages: messages.map(withPythonCalls), options }),
}

function withPythonCalls(message: ChatMessage): ChatMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message).map((call) => pythonCall(call, PYTHON_WORDS))
  if (calls.length === 0) return message
  const content = `<|tool_call_start|>[${calls.join(', ')}]<|tool_call_end|>${message.content ?? ''}`
  return { ...rest, content }
}

const KEEPS_THINKING = { keep_past_thinking: true, preserve_thinking: true }

/** Reasoning has another key. */
const lfm25: Convention = {
  family: 'LFM2.5',
  needs: ['<|tool_call_start|>', '<|im_start|>', 'message.thinking'],
  history: KEEPS_THINKING,
  adapt: ({ messages, options }) => ({ messages: messages.map(withThinkingKey), options }),
}

function withThinkingKey(message: ChatMessage): ChatMessage {
  const { reasoning_content: thinking, ...rest } = message
  return message.role === 'assistant' && typeof thinking === 'string' ? { ...rest, thinking } : message
}

/** The first revision: reasoning and calls are parts of the content. */
const lfm25Content: Convention = {
  family: lfm25.family,
  needs: ['keep_past_thinking', '<|im_start|>', '</think>'],
  history: KEEPS_THINKING,
  adapt: ({ messages, options }) => ({
    messages: messages.map((message) => withThoughtInContent(withPythonCalls(message))),
    options,
  }),
}

export const CONVENTIONS: readonly Convention[] = [
  ...[mistral, ministral3, phi4Mini, olmo3Think, olmo3, smollm3, lfm2, lfm25, lfm25Content],
]
