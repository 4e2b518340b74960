/** `/v1/responses`: requests of items, answers, and streams of events, as OpenAI's API has them. */
import * as z from 'zod'
import type { Answered } from './chat.js'
import { type ChatRequest, chosen, type Service } from './chat-request.js'
import { type Choices, type Ended, type Piece, sharedShape, type ToolCall, usageOf } from './choices.js'
import { seconds } from './clock.js'
import { ApiError, checked, invalid } from './errors.js'
import { formatShape, schemaShape } from './format-shape.js'
import { newId } from './ids.js'
import { entriesOf } from './log-probs.js'
import { type ForeignKeys, keysOf } from './request-keys.js'
import {
  type Item,
  itemOf,
  itemsOf,
  messagesOf,
  type OutputItem,
  type ResponseObject,
  type TextPart,
} from './response-items.js'
import type { StoredResponses } from './stored-responses.js'

const FOREIGN: ForeignKeys = {
  withoutEffect: [
    ...['user', 'safety_identifier', 'service_tier', 'reasoning', 'stream_options'],
    ...['prompt_cache_key', 'prompt_cache_options', 'prompt_cache_retention', 'max_tool_calls'],
  ],
  refused: {
    background: 'an answer is made while its client waits',
    conversation: 'name the answer before by previous_response_id',
    prompt: 'the server keeps no prompts',
    messages: 'give the items as input',
    max_tokens: 'it is max_output_tokens here',
    max_completion_tokens: 'it is max_output_tokens here',
    response_format: 'it is text.format here',
    ...Object.fromEntries(
      ['stop', 'n', 'frequency_penalty', 'presence_penalty', 'logit_bias'].map((key) => [
        key,
        'ask /v1/chat/completions',
      ]),
    ),
  },
}
const LOGPROBS = 'message.output_text.logprobs'

const responseSchema = z.looseObject({
  model: sharedShape.model,
  input: z.union([z.string(), z.array(z.looseObject({ type: z.string().nullish() }))], {
    error: 'expected a text, or a list of items',
  }),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  temperature: sharedShape.temperature,
  top_p: sharedShape.top_p,
  top_k: sharedShape.top_k,
  top_logprobs: z.int().min(0).max(20).nullish(),
  seed: sharedShape.seed,
  include: z.array(z.string()).nullish(),
  tools: z
    .array(
      z.looseObject({
        type: z.literal('function', { error: 'expected function; the server runs no tools of its own' }),
        name: z.string(),
        description: z.string().nullish(),
        parameters: z.looseObject({}).nullish(),
        strict: z.boolean().nullish(),
      }),
    )
    .nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['none', 'auto', 'required']),
        z.looseObject({ type: z.literal('function'), name: z.string() }),
      ],
      { error: 'expected none, auto, required, or {"type": "function", "name": …}' },
    )
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z
    .looseObject({
      format: formatShape(z.looseObject({ type: z.literal('json_schema'), ...schemaShape })),
    })
    .nullish(),
  store: z.boolean().nullish(),
  previous_response_id: z.string().nullish(),
  stream: sharedShape.stream,
  truncation: z.literal('disabled', { error: 'expected disabled; a prompt is never cut' }).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
})
type ResponseRequest = z.infer<typeof responseSchema>

/** The models, and the answers before. */
export interface ResponseService extends Service {
  responses: StoredResponses
}

export async function response(
  service: ResponseService,
  body: object,
  signal: AbortSignal,
): Promise<Answered> {
  const keys = keysOf(body, Object.keys(responseSchema.shape), FOREIGN)
  const request = checked(responseSchema, body)
  const items = itemsOf(request.input, request.previous_response_id, service.responses)
  const { choices, headers } = await named(() => chosen(service, chatOf(request, items), signal))
  const about = aboutOf(request)
  const events = eventsOf(about, choices, (done) => {
    if (request.store !== false) service.responses.keep(done, [...items, ...done.output.map(itemOf)])
  })
  const told = { ...keys, ...headers }
  if (request.stream) return { headers: told, stream: events, named: true }
  let whole: ResponseObject | undefined
  for await (const event of events) whole = event.response ?? whole
  return { headers: told, whole: whole as ResponseObject }
}

/** Errors of a chat, with the names of the keys here. */
async function named<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await task()
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const { param, message, code, status, headers } = error
    const own = param?.replace(/^messages\b.*/, 'input').replace(/^response_format\b/, 'text.format')
    const told = message.replace("'response_format'", "'text.format'")
    throw new ApiError(status, told, code, own ?? null, headers)
  }
}

/** The request as one for a chat. */
function chatOf(request: ResponseRequest, items: readonly Item[]): ChatRequest {
  const { instructions, tools, tool_choice: choice, text, include, top_logprobs } = request
  const format = text?.format
  const logprobs = include?.includes(LOGPROBS) === true
  if (top_logprobs && !logprobs)
    throw invalid('top_logprobs', `Invalid value for 'top_logprobs': it needs ${LOGPROBS} in include.`)
  return {
    ...{ model: request.model, temperature: request.temperature, top_p: request.top_p, top_k: request.top_k },
    seed: request.seed,
    messages: [
      ...(instructions ? [{ role: 'system' as const, content: instructions }] : []),
      ...messagesOf(items),
    ],
    max_completion_tokens: request.max_output_tokens,
    tools: tools?.map(({ type, ...described }) => ({ type, function: described })),
    tool_choice:
      typeof choice === 'object' && choice !== null
        ? { type: 'function', function: { name: choice.name } }
        : choice,
    parallel_tool_calls: request.parallel_tool_calls,
    response_format: format?.type === 'json_schema' ? { type: format.type, json_schema: format } : format,
    logprobs,
    ...(logprobs ? { top_logprobs } : {}),
  }
}

/** The answer before anything is said. */
function aboutOf(request: ResponseRequest): ResponseObject {
  return {
    ...{ id: newId('resp_'), object: 'response', created_at: seconds(), status: 'in_progress', error: null },
    ...{ incomplete_details: null, instructions: request.instructions ?? null },
    ...{ max_output_tokens: request.max_output_tokens ?? null, model: request.model, output: [] },
    ...{ parallel_tool_calls: request.parallel_tool_calls ?? true, store: request.store ?? true },
    previous_response_id: request.previous_response_id ?? null,
    reasoning: { effort: null, summary: null },
    ...{ temperature: request.temperature ?? 1, top_p: request.top_p ?? 1 },
    text: { format: request.text?.format ?? { type: 'text' } },
    ...{ tool_choice: request.tool_choice ?? 'auto', tools: request.tools ?? [], truncation: 'disabled' },
    ...{ usage: null, user: null, metadata: request.metadata ?? {} },
  }
}

interface Event {
  type: string
  sequence_number: number
  response?: ResponseObject
}

/** Events of an answer; those that have the whole of it are its beginning and its end. */
async function* eventsOf(
  about: ResponseObject,
  choices: Choices,
  keep: (done: ResponseObject) => void,
): AsyncGenerator<Event, void, void> {
  let number = 0
  const event = <T extends object>(type: string, rest: T) => ({ type, sequence_number: number++, ...rest })
  const all = (list: readonly Named[] = []) => list.map(([type, rest]) => event(type, rest))
  const output: OutputItem[] = []
  let end: Ended | undefined
  let text: TextOfItem | undefined
  for await (const piece of choices.pieces()) {
    // A reader may leave after any event, and only begun choices let their model go.
    if (number === 0)
      for (const type of ['created', 'in_progress']) yield event(`response.${type}`, { response: about })
    if ('end' in piece) {
      end = piece.end
      continue
    }
    if (piece.calls === undefined) {
      if (piece.text === '' && !piece.entries?.length) continue
      if (text === undefined) {
        text = new TextOfItem(output.length)
        yield* all(text.begin())
      }
      yield event('response.output_text.delta', text.add(piece))
      continue
    }
    yield* all(text?.end(output, 'completed'))
    text = undefined
    for (const call of piece.calls) yield* all(callOf(call, output))
  }
  const isCut = end?.finishReason === 'length'
  if (text === undefined && output.length === 0) {
    text = new TextOfItem(0)
    yield* all(text.begin())
  }
  yield* all(text?.end(output, isCut ? 'incomplete' : 'completed'))
  const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = usageOf(
    choices.prompts,
    end ? [end] : [],
  )
  const done: ResponseObject = {
    ...about,
    status: isCut ? 'incomplete' : 'completed',
    ...(isCut ? { incomplete_details: { reason: 'max_output_tokens' } } : { completed_at: seconds() }),
    output,
    usage: {
      input_tokens: prompt_tokens,
      input_tokens_details: { cached_tokens: prompt_tokens_details.cached_tokens },
      output_tokens: completion_tokens,
      ...{ output_tokens_details: { reasoning_tokens: 0 }, total_tokens },
    },
  }
  keep(done)
  yield event(`response.${done.status}`, { response: done })
}

type Named = [type: string, rest: object]

/** The text of a message while it is said. */
class TextOfItem {
  readonly #index: number
  readonly #id = newId('msg_')
  readonly #part: TextPart = { type: 'output_text', text: '', annotations: [], logprobs: [] }

  constructor(index: number) {
    this.#index = index
  }

  begin(): Named[] {
    const part = { ...this.#part, logprobs: [] }
    return [
      ['response.output_item.added', this.#item('in_progress', [])],
      ['response.content_part.added', { ...this.#place, part }],
    ]
  }

  add({ text, entries = [] }: Piece): object {
    this.#part.text += text
    const logprobs = entriesOf(entries)
    this.#part.logprobs.push(...logprobs)
    return { ...this.#place, delta: text, logprobs }
  }

  end(output: OutputItem[], status: string): Named[] {
    const { text, logprobs } = this.#part
    const told = this.#item(status, [this.#part])
    output.push(told.item)
    return [
      ['response.output_text.done', { ...this.#place, text, logprobs }],
      ['response.content_part.done', { ...this.#place, part: this.#part }],
      ['response.output_item.done', told],
    ]
  }

  get #place() {
    return { item_id: this.#id, output_index: this.#index, content_index: 0 }
  }

  #item(status: string, content: TextPart[]): { output_index: number; item: OutputItem } {
    const item = { id: this.#id, type: 'message' as const, status, role: 'assistant' as const, content }
    return { output_index: this.#index, item }
  }
}

/** A call, which is whole when it is known to be one. */
function callOf(call: ToolCall, output: OutputItem[]): Named[] {
  const { name, arguments: given } = call.function
  const item: OutputItem = {
    ...{ id: newId('fc_'), type: 'function_call', status: 'completed', call_id: call.id },
    ...{ name, arguments: given },
  }
  const place = { item_id: item.id, output_index: output.length }
  output.push(item)
  const begun = { ...item, status: 'in_progress', arguments: '' }
  return [
    ['response.output_item.added', { output_index: place.output_index, item: begun }],
    ['response.function_call_arguments.delta', { ...place, delta: given }],
    ['response.function_call_arguments.done', { ...place, name, arguments: given }],
    ['response.output_item.done', { output_index: place.output_index, item }],
  ]
}
