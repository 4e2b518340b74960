/** Choices of a request: answers one after the other, each as text and calls, whole or as chunks of a stream. */
import { randomInt } from 'node:crypto'
import * as z from 'zod'
import type { Generation } from '../train/answers/generate.js'
import { type AskOptions, answered, type Gate, type Prompted } from './answers.js'
import type { CallForm, WrittenCall } from './call-forms.js'
import { type AnswerPart, CallReader } from './call-reader.js'
import { newId } from './ids.js'
import { type PlacedEntry, TokenEntries } from './log-probs.js'
import type { Metrics } from './metrics.js'
import type { Answering } from './models.js'
import type { Tools } from './tools.js'

const SEEDS = 2 ** 32
const MOST_CHOICES = 16

const between = (low: number, high: number) =>
  z
    .number({ error: `expected a number from ${low} to ${high}` })
    .min(low)
    .max(high)

/** Keys of requests for chats and for raw texts. */
export const sharedShape = {
  model: z.string({ error: 'expected the name of a model' }).min(1),
  max_tokens: z.int().min(1).nullish(),
  temperature: between(0, 2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** Not of OpenAI's API; 0 is all tokens. */
  top_k: z.int().min(0).nullish(),
  n: z.int().min(1).max(MOST_CHOICES).nullish(),
  seed: z.int().nullish(),
  stop: z
    .union([z.string(), z.array(z.string()).max(4)], { error: 'expected a string, or at most 4' })
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  frequency_penalty: between(-2, 2).nullish(),
  presence_penalty: between(-2, 2).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/), between(-100, 100), {
      error: 'expected ids of tokens with numbers from -100 to 100',
    })
    .nullish(),
}

export interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details: { cached_tokens: number; audio_tokens: number }
  completion_tokens_details: Record<
    'reasoning_tokens' | 'audio_tokens' | 'accepted_prediction_tokens' | 'rejected_prediction_tokens',
    number
  >
}

/** The choices of a request; after the last one, its model is released. */
export interface Choices {
  prompts: readonly Prompted[]
  withLogProbs: boolean
  /** Pieces of one choice after the other, and its end. */
  pieces(): AsyncGenerator<Piece | { index: number; end: Ended }, void, void>
}

/** The end of a choice; `text` is what is not a call. */
export interface Ended extends Pick<Generation, 'text' | 'tokenIds'> {
  finishReason: Generation['finishReason'] | 'tool_calls'
  /** Tokens of the prompt that were computed before. */
  cachedTokens: number
}

/** A call of a tool, with its number among those of its answer. */
export interface ToolCall {
  index: number
  id: string
  type: 'function'
  function: WrittenCall
}

export interface Piece {
  index: number
  text: string
  /** Calls behind the text. */
  calls?: ToolCall[]
  /** The tokens that begin in the text, if their log-probabilities are wanted. */
  entries?: PlacedEntry[]
}

/** The queue before the models, and what counts their tokens. */
export interface Queue {
  gate: Gate
  metrics?: Pick<Metrics, 'answered'>
}

type Sampling = z.infer<z.ZodObject<typeof sharedShape>>

export function choicesOf(
  { gate, metrics }: Queue,
  answering: Answering,
  prompts: readonly Prompted[],
  request: Sampling,
  signal: AbortSignal,
  { calling, ...how }: Pick<AskOptions, 'grammar' | 'topLogProbs'> & { calling?: Calling | undefined } = {},
): Choices {
  const { temperature, top_p, top_k, stop } = request
  const seed = request.seed ?? randomInt(SEEDS)
  const options: Omit<AskOptions, 'seed'> = {
    ...{ temperature: temperature ?? 1, topP: top_p ?? 1, topK: top_k ?? 0, maxNewTokens: null },
    ...{ stop: [stop ?? []].flat().filter((text) => text !== ''), keepSpecialTokens: calling !== undefined },
    ...{ ...how, changes: changesOf(request) },
  }
  return {
    prompts,
    withLogProbs: how.topLogProbs !== undefined,
    async *pieces() {
      let leave: (() => void) | undefined
      try {
        leave = await gate.enter(signal)
        let index = 0
        for (const prompt of prompts)
          for (let choice = 0; choice < (request.n ?? 1); choice++, index++) {
            const own = { ...options, seed: seedOf(seed, choice) }
            const parts = await piecesOf(answering, prompt, own, signal)
            let end: Ended
            try {
              end = yield* textsOf(index, parts, calling)
            } finally {
              const isFirst = choice === 0
              metrics?.answered({
                ...{ prompt: isFirst ? prompt.ids.length : 0, cached: isFirst ? parts.cached() : 0 },
                completion: parts.drawn.length,
              })
            }
            yield { index, end }
          }
      } finally {
        leave?.()
        answering.release()
      }
    },
  }
}

/** Tools that an answer may call, in the form of its model. */
interface Calling extends Tools {
  form: CallForm
}

interface Parts {
  parts: AsyncGenerator<string, Generation, void>
  /** The tokens so far, without the end token. */
  drawn: number[]
  /** Tokens of the prompt that were computed before the answer, which is known once it has begun. */
  cached(): number
  /** The tokens of the pieces, if their log-probabilities are wanted. */
  entries: TokenEntries | undefined
}

async function piecesOf(
  answering: Answering,
  prompt: Prompted,
  options: AskOptions,
  signal: AbortSignal,
): Promise<Parts> {
  const drawn: number[] = []
  let cached: number | undefined
  const { topLogProbs, keepSpecialTokens } = options
  const entries =
    topLogProbs === undefined
      ? undefined
      : new TokenEntries(await (await answering.base.tokenizer()).table(), keepSpecialTokens)
  const onToken: AskOptions['onToken'] = (token, _, own) => {
    if (prompt.ends.has(token)) return
    drawn.push(token)
    if (own !== undefined) entries?.add(token, own)
  }
  const onPromptProgress: AskOptions['onPromptProgress'] = ({ tokens }) => {
    cached ??= tokens
  }
  const parts = answered(answering, prompt, { ...options, onToken, onPromptProgress }, signal)
  return { parts, drawn, cached: () => cached ?? 0, entries }
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
  { parts, drawn, cached, entries }: Parts,
  calling: Calling | undefined,
): AsyncGenerator<Piece, Ended, void> {
  const reader = calling && new CallReader(calling.form, calling.parameters)
  const ofCalls = calling?.named ? 'stop' : 'tool_calls'
  let text = ''
  let called = 0
  const pieces = function* (found: readonly AnswerPart[]): Generator<Piece, boolean, void> {
    for (const part of found) {
      if ('text' in part) {
        text += part.text
        yield { index, text: part.text, ...(entries && { entries: entries.take(part.text) }) }
        continue
      }
      // The tokens of calls have no log-probabilities.
      entries?.take(part.raw)
      const written = calling?.parallel === false ? part.calls.slice(0, 1) : part.calls
      const calls = written.map((call) => ({
        ...{ index: called++, id: newId('call_'), type: 'function' as const, function: call },
      }))
      yield { index, text: '', calls }
      if (calling?.parallel === false) return true
    }
    return false
  }
  let isOver = false
  try {
    for (;;) {
      const { done, value } = await parts.next()
      isOver = done === true
      if (done) {
        if (reader) yield* pieces(reader.end())
        const { tokenIds, finishReason } = value
        return {
          ...{ text, tokenIds, cachedTokens: cached() },
          finishReason: called > 0 && finishReason === 'stop' ? ofCalls : finishReason,
        }
      }
      if (yield* pieces(reader ? reader.push(value) : [{ text: value }]))
        return { text, tokenIds: drawn, cachedTokens: cached(), finishReason: ofCalls }
    }
  } finally {
    if (!isOver) await parts.return(undefined as never)
  }
}

/** Seeds may have 64 bits and be negative; the first choice has the seed itself. */
function seedOf(seed: number, choice: number): number {
  const folded = ((seed % SEEDS) + SEEDS) % SEEDS
  return (folded + choice * 0x9e3779b1) % SEEDS
}

interface Whole extends Ended {
  calls: ToolCall[]
  entries?: PlacedEntry[]
}

export async function wholeOf(choices: Choices): Promise<Whole[]> {
  const done: Whole[] = []
  const none = () => (choices.withLogProbs ? [] : undefined)
  let entries: PlacedEntry[] | undefined = none()
  let calls: ToolCall[] = []
  for await (const piece of choices.pieces()) {
    if ('end' in piece) {
      done.push({ ...piece.end, calls, ...(entries && { entries }) })
      entries = none()
      calls = []
    } else {
      entries?.push(...(piece.entries ?? []))
      if (piece.calls) calls.push(...piece.calls)
    }
  }
  return done
}

/** The choices of the chunks of a stream. */
interface StreamParts {
  /** Begins a choice; undefined begins it with its text. */
  opening(index: number, begin: Piece | undefined): object | undefined
  text(index: number, text: string, entries?: PlacedEntry[]): object
  calls?(index: number, calls: readonly ToolCall[]): object[]
  end(index: number, end: Ended): object
}

/** Chunks with one choice each, and a last one with the usage if the client asks for it. */
export async function* streamOf(
  about: object,
  choices: Choices,
  parts: StreamParts,
  options: Sampling['stream_options'],
): AsyncGenerator<object, void, void> {
  const withUsage = options?.include_usage === true
  const chunk = (choice: object) => ({ ...about, ...(withUsage ? { usage: null } : {}), choices: [choice] })
  const done: Ended[] = []
  let begun = -1
  for await (const piece of choices.pieces()) {
    const { index } = piece
    const opening = index > begun ? parts.opening(index, 'end' in piece ? undefined : piece) : undefined
    begun = index
    if (opening !== undefined) yield chunk(opening)
    if ('end' in piece) {
      done.push(piece.end)
      yield chunk(parts.end(index, piece.end))
    } else if (piece.calls) for (const call of parts.calls?.(index, piece.calls) ?? []) yield chunk(call)
    else yield chunk(parts.text(index, piece.text, piece.entries))
  }
  if (withUsage) yield { ...about, choices: [], usage: usageOf(choices.prompts, done) }
}

/** A prompt counts once for all of its choices. */
export function usageOf(prompts: readonly Prompted[], done: readonly Ended[]): Usage {
  const prompt_tokens = prompts.reduce((sum, { ids }) => sum + ids.length, 0)
  const completion_tokens = done.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
  const choices = done.length / prompts.length
  const cached_tokens = done.reduce((sum, one, at) => sum + (at % choices === 0 ? one.cachedTokens : 0), 0)
  return {
    ...{ prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
    prompt_tokens_details: { cached_tokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}
