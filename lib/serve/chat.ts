/** `/v1/chat/completions` and `/v1/completions`: requests, answers, and streams in the shapes of OpenAI's API. */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { type Asked, type Prompted, prompted } from './answers.js'
import { chatSchema, chosen, released, type Service } from './chat-request.js'
import {
  choicesOf,
  type Ended,
  type Piece,
  sharedShape,
  streamOf,
  type ToolCall,
  usageOf,
  wholeOf,
} from './choices.js'
import { seconds } from './clock.js'
import { checked, unsupported } from './errors.js'
import { newId } from './ids.js'
import { type CompletionLogProbs, completionLogProbs, entriesOf, type PlacedEntry } from './log-probs.js'
import type { Answering } from './models.js'
import { type ForeignKeys, keysOf } from './request-keys.js'

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

/** The most of the likeliest tokens of `/v1/completions`. */
const MOST_LOG_PROBS = 5
const ids = z.array(z.int().min(0))
const completionSchema = z.looseObject({
  ...sharedShape,
  prompt: z.union([z.string(), z.array(z.string()).min(1), ids.min(1), z.array(ids.min(1)).min(1)], {
    error: 'expected a text, tokens, or a list of them',
  }),
  echo: z.boolean().nullish(),
  logprobs: z.int({ error: 'expected an integer from 0 to 5' }).min(0).max(MOST_LOG_PROBS).nullish(),
})

/** An answer to a request: an object, or a stream of them that ends with `[DONE]`; and headers. */
export interface Answered {
  headers: Record<string, string>
  whole?: object
  /** True if the objects of the stream are events with names and numbers, of which the last one is the end. */
  named?: boolean
  stream?: AsyncGenerator<object, void, void>
}

export async function chat(service: Service, body: object, signal: AbortSignal): Promise<Answered> {
  const keys = keysOf(body, Object.keys(chatSchema.shape), FOREIGN)
  const request = checked(chatSchema, body)
  const id = newId('chatcmpl-')
  const { answering, choices, headers } = await chosen(service, request, signal)
  const told = { ...keys, ...headers }
  const about = { id, created: seconds(), model: request.model, system_fingerprint: fingerprint(answering) }
  if (request.stream) {
    const part = (index: number, delta: object, finish_reason: string | null, entries?: PlacedEntry[]) => ({
      ...{ index, delta, logprobs: chatLogProbs(entries), finish_reason },
    })
    const parts = {
      opening: (index: number, begin: Piece | undefined) =>
        part(index, { role: 'assistant', content: begin?.calls ? null : '', refusal: null }, null),
      text: (index: number, content: string, entries?: PlacedEntry[]) =>
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
        logprobs: chatLogProbs(entries),
        finish_reason: finishReason,
      })),
      usage: usageOf(choices.prompts, done),
      service_tier: 'default',
    },
  }
}

export async function completion(service: Service, body: object, signal: AbortSignal): Promise<Answered> {
  const headers = keysOf(body, Object.keys(completionSchema.shape), FOREIGN)
  const request = checked(completionSchema, body)
  const { prompt: given, echo, max_tokens: most } = request
  const topLogProbs = request.logprobs ?? undefined
  if (echo && topLogProbs !== undefined)
    throw unsupported('logprobs', 'those of the prompt are not computed; ask without echo')
  const list: Asked[] = textsOrTokens(given)
  const id = newId('cmpl-')
  const answering = await service.models.asked(request.model)
  const prompts = await released(answering, async () => {
    const prompts: Prompted[] = []
    for (const one of list) prompts.push(await prompted(answering, one, most ?? 16, signal))
    return prompts
  })
  const about = { id, object: 'text_completion', created: seconds(), model: request.model }
  const choices = choicesOf(service, answering, prompts, request, signal, { topLogProbs })
  const n = request.n ?? 1
  const before = (index: number) => {
    const one = list[Math.floor(index / n)]
    return echo && one?.kind === 'text' ? one.text : ''
  }
  if (request.stream) {
    const part = (
      index: number,
      text: string,
      finish_reason: string | null,
      logprobs: CompletionLogProbs | null = null,
    ) => ({ text, index, logprobs, finish_reason })
    const texts: string[] = []
    const parts = {
      opening: (index: number) => (before(index) === '' ? undefined : part(index, before(index), null)),
      text: (index: number, text: string, entries?: PlacedEntry[]) => {
        const whole = (texts[index] ?? '') + text
        texts[index] = whole
        return part(index, text, null, entries && completionLogProbs(entries, whole))
      },
      end: (index: number, { finishReason }: Ended) => part(index, '', finishReason),
    }
    return { headers, stream: streamOf(about, choices, parts, request.stream_options) }
  }
  const done = await wholeOf(choices)
  return {
    headers,
    whole: {
      ...about,
      choices: done.map(({ text, finishReason, entries }, index) => ({
        ...{ text: before(index) + text, index, finish_reason: finishReason },
        logprobs: entries ? completionLogProbs(entries, text) : null,
      })),
      usage: usageOf(prompts, done),
    },
  }
}

/** Identifies the weights: equal fingerprints, seeds, and requests give equal answers. */
function fingerprint({ base, revision }: Answering): string {
  const of = JSON.stringify([base.files.fingerprint, base.quantization, base.precision, revision])
  return `fp_${createHash('sha256').update(of).digest('hex').slice(0, 10)}`
}

function textsOrTokens(prompt: z.infer<typeof completionSchema>['prompt']): Asked[] {
  const asText = (text: string): Asked => ({ kind: 'text', text })
  const asTokens = (tokens: number[]): Asked => ({ kind: 'tokens', tokens: Int32Array.from(tokens) })
  if (typeof prompt === 'string') return [asText(prompt)]
  if (typeof prompt[0] === 'string') return (prompt as string[]).map(asText)
  return typeof prompt[0] === 'number' ? [asTokens(prompt as number[])] : (prompt as number[][]).map(asTokens)
}

const chatLogProbs = (entries: readonly PlacedEntry[] | undefined) =>
  entries ? { content: entriesOf(entries), refusal: null } : null
