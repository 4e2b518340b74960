/** `/v1/chat/completions` and `/v1/completions`: requests, answers, and streams in the shapes of OpenAI's API. */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import type { ChatMessage } from '../tokenizer/message.js'
import { type Asked, type Prompted, prompted } from './answers.js'
import {
  type Choices,
  choicesOf,
  type Ended,
  type Piece,
  type Queue,
  sharedShape,
  streamOf,
  type ToolCall,
  usageOf,
  wholeOf,
} from './choices.js'
import { seconds } from './clock.js'
import { checked, invalid, unsupported } from './errors.js'
import { formatShape, schemaShape } from './format-shape.js'
import { grammarOf } from './grammars.js'
import { newId } from './ids.js'
import type { TokenEntry } from './log-probs.js'
import type { Answering, Models } from './models.js'
import { type ForeignKeys, keysOf } from './request-keys.js'
import { calledShape, callStyleOf, forcedCall, toolShape, toolsOf } from './tools.js'

const FOREIGN: ForeignKeys = {
  withoutEffect: [
    ...['user', 'safety_identifier', 'metadata', 'service_tier', 'store', 'verbosity', 'prediction'],
    ...['prompt_cache_key', 'prompt_cache_options', 'prompt_cache_retention', 'reasoning_effort'],
  ],
  refused: {
    audio: 'answers are text',
    web_search_options: 'the server reads nothing from the web',
    functions: 'they were replaced by tools',
    function_call: 'it was replaced by tool_choice',
    moderation: 'the server has no other model to ask',
    suffix: 'the model only continues a text',
    best_of: 'ask for n answers and choose among them',
  },
}

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
const chatSchema = z.looseObject({
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
const ids = z.array(z.int().min(0))
const completionSchema = z.looseObject({
  ...sharedShape,
  prompt: z.union([z.string(), z.array(z.string()).min(1), ids.min(1), z.array(ids.min(1)).min(1)], {
    error: 'expected a text, tokens, or a list of them',
  }),
  echo: z.boolean().nullish(),
  logprobs: z.null({ error: 'expected null; they are not supported yet' }).optional(),
})

/** The models, and the queue before them. */
export interface Service extends Queue {
  models: Models
}

/** An answer to a request: an object, or a stream of them that ends with `[DONE]`; and headers. */
export interface Answered {
  headers: Record<string, string>
  whole?: object
  /** True if the objects of the stream are events with names and numbers, of which the last one is the end. */
  named?: boolean
  stream?: AsyncGenerator<object, void, void>
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
  if (tools !== undefined && request.response_format && request.response_format.type !== 'text')
    throw unsupported('response_format', 'an answer that may call tools has no format of its own')
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
        ? await forcedCall(answering, tools, style)
        : await responseGrammar(answering, request.response_format),
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

export async function chat(service: Service, body: unknown, signal: AbortSignal): Promise<Answered> {
  const keys = keysOf(body, Object.keys(chatSchema.shape), FOREIGN)
  const request = checked(chatSchema, body)
  const id = newId('chatcmpl-')
  const { answering, choices, headers } = await chosen(service, request, signal)
  const told = { ...keys, ...headers }
  const about = { id, created: seconds(), model: request.model, system_fingerprint: fingerprint(answering) }
  if (request.stream) {
    const part = (index: number, delta: object, finish_reason: string | null, entries?: TokenEntry[]) => ({
      ...{ index, delta, logprobs: entries ? { content: entries, refusal: null } : null, finish_reason },
    })
    const parts = {
      opening: (index: number, begin: Piece | undefined) =>
        part(index, { role: 'assistant', content: begin?.calls ? null : '', refusal: null }, null),
      text: (index: number, content: string, entries?: TokenEntry[]) =>
        part(index, { content }, null, entries),
      calls: (index: number, calls: readonly ToolCall[]) =>
        calls
          .flatMap(({ index: at, id, function: { name, arguments: given } }) => [
            { index: at, id, type: 'function', function: { name, arguments: '' } },
            { index: at, function: { arguments: given } },
          ])
          .map((call) => part(index, { tool_calls: [call] }, null)),
      end: (index: number, { finishReason }: Ended) => part(index, {}, finishReason),
    }
    const chunk = { ...about, object: 'chat.completion.chunk' }
    return { headers: told, stream: streamOf(chunk, choices, parts, request.stream_options) }
  }
  const done = await wholeOf(choices)
  return {
    headers: told,
    whole: {
      ...about,
      object: 'chat.completion',
      choices: done.map(({ text, finishReason, entries, calls }, index) => ({
        index,
        message: {
          ...{ role: 'assistant', content: calls.length > 0 && text === '' ? null : text },
          ...{ refusal: null, annotations: [] },
          ...(calls.length > 0 ? { tool_calls: calls.map(({ index: _, ...call }) => call) } : {}),
        },
        logprobs: entries ? { content: entries, refusal: null } : null,
        finish_reason: finishReason,
      })),
      usage: usageOf(choices.prompts, done),
      service_tier: 'default',
    },
  }
}

export async function completion(service: Service, body: unknown, signal: AbortSignal): Promise<Answered> {
  const headers = keysOf(body, Object.keys(completionSchema.shape), FOREIGN)
  const request = checked(completionSchema, body)
  const { prompt: given, echo, max_tokens: most } = request
  const list: Asked[] = textsOrTokens(given)
  const id = newId('cmpl-')
  const answering = await service.models.asked(request.model)
  const prompts = await released(answering, async () => {
    const prompts: Prompted[] = []
    for (const one of list) prompts.push(await prompted(answering, one, most ?? 16, signal))
    return prompts
  })
  const about = { id, object: 'text_completion', created: seconds(), model: request.model }
  const choices = choicesOf(service, answering, prompts, request, signal)
  const n = request.n ?? 1
  const before = (index: number) => {
    const one = list[Math.floor(index / n)]
    return echo && one?.kind === 'text' ? one.text : ''
  }
  if (request.stream) {
    const part = (index: number, text: string, finish_reason: string | null) => ({
      ...{ text, index, logprobs: null, finish_reason },
    })
    const parts = {
      opening: (index: number) => (before(index) === '' ? undefined : part(index, before(index), null)),
      text: (index: number, text: string) => part(index, text, null),
      end: (index: number, { finishReason }: Ended) => part(index, '', finishReason),
    }
    return { headers, stream: streamOf(about, choices, parts, request.stream_options) }
  }
  const done = await wholeOf(choices)
  return {
    headers,
    whole: {
      ...about,
      choices: done.map(({ text, finishReason }, index) => ({
        ...{ text: before(index) + text, index, logprobs: null, finish_reason: finishReason },
      })),
      usage: usageOf(prompts, done),
    },
  }
}

/** Does work for a request before its answer; if it fails, the model of the request is released. */
async function released<T>(answering: Answering, task: () => Promise<T>): Promise<T> {
  try {
    return await task()
  } catch (error) {
    answering.release()
    throw error
  }
}

/** The grammar of `response_format`; undefined for any text. */
async function responseGrammar({ base }: Answering, format: z.infer<typeof chatSchema>['response_format']) {
  if (format === null || format === undefined || format.type === 'text') return undefined
  const schema = format.type === 'json_object' ? { type: 'object' } : (format.json_schema.schema ?? {})
  return grammarOf(base, { kind: 'schema', schema }, 'response_format')
}

/** Identifies the weights: equal fingerprints, seeds, and requests give equal answers. */
function fingerprint({ base, revision }: Answering): string {
  const of = JSON.stringify([base.files.fingerprint, base.quantization, base.precision, revision])
  return `fp_${createHash('sha256').update(of).digest('hex').slice(0, 10)}`
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

function textsOrTokens(prompt: z.infer<typeof completionSchema>['prompt']): Asked[] {
  const asText = (text: string): Asked => ({ kind: 'text', text })
  const asTokens = (tokens: number[]): Asked => ({ kind: 'tokens', tokens: Int32Array.from(tokens) })
  if (typeof prompt === 'string') return [asText(prompt)]
  if (typeof prompt[0] === 'string') return (prompt as string[]).map(asText)
  return typeof prompt[0] === 'number' ? [asTokens(prompt as number[])] : (prompt as number[][]).map(asTokens)
}
