/** Requests for a chat, of clients of the service and of programs that hold the model: what they may ask, and their choices. */
import * as z from 'zod'
import type { GrammarPart } from '../grammar/grammar.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { type Asked, prompted } from './answers.js'
import { type Choices, choicesOf, type Queue, sharedShape } from './choices.js'
import { invalid } from './errors.js'
import { formatShape, schemaShape } from './format-shape.js'
import { grammarOf } from './grammars.js'
import type { Answering, Models } from './models.js'
import { calledShape, callStyleOf, toolGrammar, toolShape, toolsOf } from './tools.js'

const textParts = z.array(
  z.looseObject({ type: z.literal('text', { error: 'expected text' }), text: z.string() }),
)
const messageSchema = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool'], {
    error: 'expected system, developer, user, assistant or tool',
  }),
  content: z
    .union([z.string(), textParts], { error: 'expected a string, or a list of text parts' })
    .nullish(),
  tool_calls: calledShape.nullish(),
  tool_call_id: z.string().nullish(),
})
export const chatSchema = z.looseObject({
  ...sharedShape,
  messages: z.array(messageSchema, { error: 'expected a list of messages' }).min(1),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  modalities: z.tuple([z.literal('text')], { error: 'expected ["text"]' }).nullish(),
  response_format: formatShape(
    z.looseObject({ type: z.literal('json_schema'), json_schema: z.looseObject(schemaShape) }),
  ),
  ...toolShape,
})

/** The models, and the queue before them. */
export interface Service extends Queue {
  models: Pick<Models, 'asked'>
}

export type ChatRequest = z.infer<typeof chatSchema>

/** The choices of a chat, of which the model is loaded and the prompt is known. */
export interface Chosen {
  answering: Answering
  choices: Choices
  /** Headers about the prompt. */
  headers: Record<string, string>
}

/** @throws {ApiError} for a request that its model cannot answer */
export async function chosen(service: Service, request: ChatRequest, signal: AbortSignal): Promise<Chosen> {
  const messages = request.messages.map(plainMessage)
  const tools = toolsOf(request)
  const format = formatPart(request.response_format)
  const asked: Asked = { kind: 'messages', messages, tools: tools?.schemas }
  const most = request.max_completion_tokens ?? request.max_tokens ?? null
  const { logprobs, top_logprobs } = request
  if (typeof top_logprobs === 'number' && logprobs !== true)
    throw invalid('top_logprobs', "Invalid value for 'top_logprobs': it needs logprobs: true.")
  const answering = await service.models.asked(request.model)
  const { prompts, ...how } = await released(answering, async () => {
    // A template without tools is told before it fails on them.
    const style = tools && (await callStyleOf(answering))
    return {
      calling: style && { ...tools, form: style.form },
      prompts: [await prompted(answering, asked, most, signal)],
      grammar: style
        ? await toolGrammar(answering, tools, style, format)
        : format && (await grammarOf(answering.base, format, 'response_format')),
      topLogProbs: logprobs ? (top_logprobs ?? 0) : undefined,
    }
  })
  const headers = isRecordedSystem(answering, messages) ? { 'x-lowrank-system': 'recorded' } : undefined
  return {
    answering,
    choices: choicesOf(service, answering, prompts, request, signal, how),
    headers: { ...headers },
  }
}

/** Does work for a request before its answer; if it fails, the model of the request is released. */
export async function released<T>(answering: Answering, task: () => Promise<T>): Promise<T> {
  try {
    return await task()
  } catch (error) {
    answering.release()
    throw error
  }
}

/** The grammar of `response_format`; undefined for any text. */
function formatPart(format: ChatRequest['response_format']): GrammarPart | undefined {
  if (format === null || format === undefined || format.type === 'text') return undefined
  const schema = format.type === 'json_object' ? { type: 'object' } : (format.json_schema.schema ?? {})
  return { kind: 'schema', schema }
}

/** True if the system prompt of the training stands before messages that have none. */
function isRecordedSystem({ adapters }: Answering, messages: readonly ChatMessage[]): boolean {
  const format = adapters[0]?.state.format
  const told = typeof format === 'object' && format?.form === 'chat' ? format.system : null
  return told !== null && told !== undefined && messages[0]?.role !== 'system'
}

/** The parts of a message that templates read. Those without content say '' beside calls, which templates join to text. */
function plainMessage(message: z.infer<typeof messageSchema>, at: number): ChatMessage {
  const { content, role, name, tool_calls, tool_call_id, reasoning_content } = message
  const text = Array.isArray(content) ? content.map((part) => part.text).join('') : content
  const calls = role === 'assistant' && tool_calls?.length ? tool_calls : undefined
  if ((text === null || text === undefined) && calls === undefined)
    throw invalid(
      `messages[${at}].content`,
      `Missing required parameter: 'messages[${at}].content'.`,
      'missing_required_parameter',
    )
  if (role === 'tool' && !tool_call_id)
    throw invalid(
      `messages[${at}].tool_call_id`,
      `Missing required parameter: 'messages[${at}].tool_call_id'.`,
      'missing_required_parameter',
    )
  return {
    ...{ role: role === 'developer' ? 'system' : role, content: text ?? '' },
    ...(typeof name === 'string' ? { name } : {}),
    ...(typeof reasoning_content === 'string' ? { reasoning_content } : {}),
    ...(calls === undefined ? {} : { tool_calls: calls }),
    ...(role === 'tool' ? { tool_call_id } : {}),
  }
}
