/** `/v1/chat/completions` and `/v1/completions`: requests, answers, and streams in the shapes of OpenAI's API. */
import { createHash, randomInt } from 'node:crypto'
import * as z from 'zod'
import { nearest } from '../core/nearest.js'
import type { ChatMessage } from '../tokenizer/message.js'
import type { Generation } from '../train/answers/generate.js'
import { type Asked, type AskOptions, answered, type Gate, type Prompted, prompted } from './answers.js'
import { seconds } from './clock.js'
import { checked, invalid, unsupported } from './errors.js'
import { grammarOf } from './grammars.js'
import { newId } from './ids.js'
import { TokenEntries, type TokenEntry } from './log-probs.js'
import type { Answering, Models } from './models.js'

/** Keys without an effect on the text. */
const WITHOUT_EFFECT = [
  ...['user', 'safety_identifier', 'metadata', 'service_tier', 'store', 'verbosity', 'prediction'],
  ...[
    'prompt_cache_key',
    'prompt_cache_options',
    'prompt_cache_retention',
    'reasoning_effort',
    'parallel_tool_calls',
  ],
]
/** Keys that would change the text, each with what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  audio: 'answers are text',
  web_search_options: 'the server reads nothing from the web',
  functions: 'they were replaced by tools',
  function_call: 'it was replaced by tool_choice',
  tools: 'answers with tool calls are not supported yet',
  moderation: 'the server has no other model to ask',
  suffix: 'the model only continues a text',
  best_of: 'ask for n answers and choose among them',
}
const SEEDS = 2 ** 32
const MOST_CHOICES = 16

const number = (low: number, high: number) =>
  z
    .number({ error: `expected a number from ${low} to ${high}` })
    .min(low)
    .max(high)
const sharedShape = {
  model: z.string({ error: 'expected the name of a model' }).min(1),
  max_tokens: z.int().min(1).nullish(),
  temperature: number(0, 2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  n: z.int().min(1).max(MOST_CHOICES).nullish(),
  seed: z.int().nullish(),
  stop: z
    .union([z.string(), z.array(z.string()).max(4)], { error: 'expected a string, or at most 4' })
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  frequency_penalty: number(-2, 2).nullish(),
  presence_penalty: number(-2, 2).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/), number(-100, 100), {
      error: 'expected ids of tokens with numbers from -100 to 100',
    })
    .nullish(),
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
})
const chatSchema = z.looseObject({
  ...sharedShape,
  messages: z.array(messageSchema, { error: 'expected a list of messages' }).min(1),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  modalities: z.tuple([z.literal('text')], { error: 'expected ["text"]' }).nullish(),
  response_format: z
    .discriminatedUnion(
      'type',
      [
        z.looseObject({ type: z.literal('text') }),
        z.looseObject({ type: z.literal('json_object') }),
        z.looseObject({
          type: z.literal('json_schema'),
          json_schema: z.looseObject({
            name: z.string().regex(/^[\w-]{1,64}$/, 'expected at most 64 letters, digits, _ and -'),
            schema: z.unknown().optional(),
            strict: z.boolean().nullish(),
          }),
        }),
      ],
      { error: 'expected text, json_object, or json_schema' },
    )
    .nullish(),
  tool_choice: z
    .enum(['none', 'auto'], { error: 'expected none or auto, since there are no tools' })
    .nullish(),
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
export interface Service {
  models: Models
  gate: Gate
}

/** An answer to a request: an object, or a stream of them that ends with `[DONE]`; and headers. */
export interface Answered {
  headers: Record<string, string>
  whole?: object
  stream?: AsyncGenerator<object, void, void>
}

interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details: { cached_tokens: number; audio_tokens: number }
  completion_tokens_details: Record<
    'reasoning_tokens' | 'audio_tokens' | 'accepted_prediction_tokens' | 'rejected_prediction_tokens',
    number
  >
}

export async function chat(service: Service, body: unknown, signal: AbortSignal): Promise<Answered> {
  const given = withoutEmptyTools(body)
  const headers = keysOf(given, Object.keys(chatSchema.shape))
  const request = checked(chatSchema, given)
  const { max_completion_tokens, max_tokens, stream_options } = request
  const messages = request.messages.map(plainMessage)
  const asked: Asked = { kind: 'messages', messages, tools: undefined }
  const most = max_completion_tokens ?? max_tokens ?? null
  const { logprobs, top_logprobs } = request
  if (typeof top_logprobs === 'number' && logprobs !== true)
    throw invalid('top_logprobs', "Invalid value for 'top_logprobs': it needs logprobs: true.")
  const id = newId('chatcmpl-')
  const { answering, prompts } = await begun(service, request.model, [asked], most, signal)
  const how = await released(answering, async () => ({
    grammar: await responseGrammar(answering, request.response_format),
    topLogProbs: logprobs ? (top_logprobs ?? 0) : undefined,
  }))
  const told = isRecordedSystem(answering, messages)
    ? { ...headers, 'x-lowrank-system': 'recorded' }
    : headers
  const about = { id, created: seconds(), model: request.model, system_fingerprint: fingerprint(answering) }
  const choices = choicesOf(service.gate, answering, prompts, request, signal, how)
  if (request.stream) {
    const part = (index: number, delta: object, finish_reason: string | null, entries?: TokenEntry[]) => ({
      ...{ index, delta, logprobs: entries ? { content: entries, refusal: null } : null, finish_reason },
    })
    const parts = {
      opening: (index: number) => part(index, { role: 'assistant', content: '', refusal: null }, null),
      text: (index: number, content: string, entries?: TokenEntry[]) =>
        part(index, { content }, null, entries),
      end: (index: number, { finishReason }: Generation) => part(index, {}, finishReason),
    }
    const chunk = { ...about, object: 'chat.completion.chunk' }
    return { headers: told, stream: streamOf(chunk, choices, parts, stream_options) }
  }
  const done = await wholeOf(choices)
  return {
    headers: told,
    whole: {
      ...about,
      object: 'chat.completion',
      choices: done.map(({ text, finishReason, entries }, index) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null, annotations: [] },
        logprobs: entries ? { content: entries, refusal: null } : null,
        finish_reason: finishReason,
      })),
      usage: usageOf(prompts, done),
      service_tier: 'default',
    },
  }
}

export async function completion(service: Service, body: unknown, signal: AbortSignal): Promise<Answered> {
  const headers = keysOf(body, Object.keys(completionSchema.shape))
  const request = checked(completionSchema, body)
  const { prompt: given, echo, max_tokens: most } = request
  const list: Asked[] = textsOrTokens(given)
  const id = newId('cmpl-')
  const { answering, prompts } = await begun(service, request.model, list, most ?? 16, signal)
  const about = { id, object: 'text_completion', created: seconds(), model: request.model }
  const choices = choicesOf(service.gate, answering, prompts, request, signal)
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
      end: (index: number, { finishReason }: Generation) => part(index, '', finishReason),
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

/** The model of a request and the tokens of its prompts. */
async function begun(
  { models }: Service,
  model: string,
  asked: readonly Asked[],
  most: number | null,
  signal: AbortSignal,
) {
  const answering = await models.asked(model)
  const prompts: Prompted[] = []
  await released(answering, async () => {
    for (const one of asked) prompts.push(await prompted(answering, one, most, signal))
  })
  return { answering, prompts }
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

/** The choices of a request; after the last one, its model is released. */
interface Choices {
  prompts: readonly Prompted[]
  /** Pieces of one choice after the other, and its end. */
  pieces(): AsyncGenerator<Piece | { index: number; end: Generation }, void, void>
}

interface Piece {
  index: number
  text: string
  /** The tokens that begin in the text, if their log-probabilities are wanted. */
  entries?: TokenEntry[]
}

type Sampling = z.infer<z.ZodObject<typeof sharedShape>>

function choicesOf(
  gate: Gate,
  answering: Answering,
  prompts: readonly Prompted[],
  request: Sampling,
  signal: AbortSignal,
  how: Pick<AskOptions, 'grammar' | 'topLogProbs'> = {},
): Choices {
  const { temperature, top_p, stop } = request
  const seed = request.seed ?? randomInt(SEEDS)
  const options: Omit<AskOptions, 'seed'> = {
    ...{ temperature: temperature ?? 1, topP: top_p ?? 1, topK: 0, maxNewTokens: null },
    ...{ stop: [stop ?? []].flat().filter((text) => text !== ''), keepSpecialTokens: false },
    ...{ ...how, changes: changesOf(request) },
  }
  return {
    prompts,
    async *pieces() {
      let leave: (() => void) | undefined
      try {
        leave = await gate.enter(signal)
        let index = 0
        for (const prompt of prompts)
          for (let choice = 0; choice < (request.n ?? 1); choice++, index++) {
            const own = { ...options, seed: seedOf(seed, choice) }
            const end = yield* textsOf(index, await piecesOf(answering, prompt, own, signal))
            yield { index, end }
          }
      } finally {
        leave?.()
        answering.release()
      }
    },
  }
}

/** The answer to a prompt, with the tokens of its pieces if their log-probabilities are wanted. */
async function piecesOf(
  answering: Answering,
  prompt: Prompted,
  options: AskOptions,
  signal: AbortSignal,
): Promise<{ parts: AsyncGenerator<string, Generation, void>; entries: TokenEntries | undefined }> {
  if (options.topLogProbs === undefined)
    return { parts: answered(answering, prompt, options, signal), entries: undefined }
  const entries = new TokenEntries(await (await answering.base.tokenizer()).table())
  const onToken: AskOptions['onToken'] = (token, _, own) => {
    if (own !== undefined && !prompt.ends.has(token)) entries.add(token, own)
  }
  return { parts: answered(answering, prompt, { ...options, onToken }, signal), entries }
}

/** Penalties and biases of a request. */
function changesOf({ frequency_penalty, presence_penalty, logit_bias }: Sampling): AskOptions['changes'] {
  const biases = Object.entries(logit_bias ?? {})
  return {
    ...(frequency_penalty ? { frequencyPenalty: frequency_penalty } : {}),
    ...(presence_penalty ? { presencePenalty: presence_penalty } : {}),
    ...(biases.length === 0
      ? {}
      : {
          logitBias: {
            ids: Int32Array.from(biases, ([id]) => Number(id)),
            values: Float32Array.from(biases, ([, bias]) => bias),
          },
        }),
  }
}

/** The pieces of one choice. A reader that leaves early ends the answer, which frees its cache. */
async function* textsOf(
  index: number,
  { parts, entries }: Awaited<ReturnType<typeof piecesOf>>,
): AsyncGenerator<Piece, Generation, void> {
  let end: Generation | undefined
  try {
    for (;;) {
      const { done, value } = await parts.next()
      if (done) {
        end = value
        return value
      }
      yield { index, text: value, ...(entries && { entries: entries.take(value) }) }
    }
  } finally {
    if (end === undefined) await parts.return(undefined as never)
  }
}

/** Seeds may have 64 bits and be negative; the first choice has the seed itself. */
function seedOf(seed: number, choice: number): number {
  const folded = ((seed % SEEDS) + SEEDS) % SEEDS
  return (folded + choice * 0x9e3779b1) % SEEDS
}

async function wholeOf(choices: Choices): Promise<(Generation & { entries?: TokenEntry[] })[]> {
  const done: (Generation & { entries?: TokenEntry[] })[] = []
  let entries: TokenEntry[] | undefined
  for await (const piece of choices.pieces()) {
    if ('end' in piece) {
      done.push(entries ? { ...piece.end, entries } : piece.end)
      entries = undefined
    } else if (piece.entries) entries = [...(entries ?? []), ...piece.entries]
  }
  return done
}

/** The choices of the chunks of a stream. */
interface StreamParts {
  /** Begins a choice; undefined begins it with its text. */
  opening(index: number): object | undefined
  text(index: number, text: string, entries?: TokenEntry[]): object
  end(index: number, end: Generation): object
}

/** Chunks with one choice each, and a last one with the usage if the client asks for it. */
async function* streamOf(
  about: object,
  choices: Choices,
  parts: StreamParts,
  options: Sampling['stream_options'],
): AsyncGenerator<object, void, void> {
  const withUsage = options?.include_usage === true
  const chunk = (choice: object) => ({ ...about, ...(withUsage ? { usage: null } : {}), choices: [choice] })
  const done: Generation[] = []
  let begun = -1
  for await (const piece of choices.pieces()) {
    const { index } = piece
    const opening = index > begun ? parts.opening(index) : undefined
    begun = index
    if (opening !== undefined) yield chunk(opening)
    if ('end' in piece) done.push(piece.end)
    yield chunk('end' in piece ? parts.end(index, piece.end) : parts.text(index, piece.text, piece.entries))
  }
  if (withUsage) yield { ...about, choices: [], usage: usageOf(choices.prompts, done) }
}

/** A prompt counts once for all of its choices. */
function usageOf(prompts: readonly Prompted[], done: readonly Generation[]): Usage {
  const prompt_tokens = prompts.reduce((sum, { ids }) => sum + ids.length, 0)
  const completion_tokens = done.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
  return {
    ...{ prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
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

/** Clients send empty tools where they mean none. */
function withoutEmptyTools(body: unknown): unknown {
  const given = body as Record<string, unknown> | null
  if (!Array.isArray(given?.tools) || given.tools.length > 0) return body
  const { tools: _, ...rest } = given
  return rest
}

/**
 * Headers that name the keys without an effect here.
 * @throws {ApiError} for keys that would have one, and for misspelled ones
 */
function keysOf(body: unknown, known: readonly string[]): Record<string, string> {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw invalid('body', 'Expected a JSON object.', 'invalid_body')
  const ignored: string[] = []
  for (const [key, value] of Object.entries(body)) {
    if (known.includes(key)) continue
    if (value === null || value === undefined) continue
    const advice = Object.hasOwn(REFUSED, key) ? REFUSED[key] : undefined
    if (advice !== undefined) throw unsupported(key, advice)
    const near = WITHOUT_EFFECT.includes(key) ? undefined : nearest(key, known)
    if (near !== undefined)
      throw invalid(
        key,
        `Unrecognized request argument supplied: ${key}; did you mean ${near}?`,
        'unknown_parameter',
      )
    ignored.push(key)
  }
  const printable = ignored.filter((key) => /^[\w.-]{1,64}$/.test(key)).slice(0, 16)
  return printable.length === 0 ? {} : { 'x-lowrank-ignored': printable.join(',') }
}

function plainMessage({ content, role, ...rest }: z.infer<typeof messageSchema>): ChatMessage {
  const text = Array.isArray(content) ? content.map((part) => part.text).join('') : content
  return { ...rest, role: role === 'developer' ? 'system' : role, content: text ?? null }
}

function textsOrTokens(prompt: z.infer<typeof completionSchema>['prompt']): Asked[] {
  const asText = (text: string): Asked => ({ kind: 'text', text })
  const asTokens = (tokens: number[]): Asked => ({ kind: 'tokens', tokens: Int32Array.from(tokens) })
  if (typeof prompt === 'string') return [asText(prompt)]
  if (typeof prompt[0] === 'string') return (prompt as string[]).map(asText)
  return typeof prompt[0] === 'number' ? [asTokens(prompt as number[])] : (prompt as number[][]).map(asTokens)
}
