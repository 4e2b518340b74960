/**
 * Text generation: the prompt is processed in chunks that fill a key/value cache, then tokens are sampled one
 * at a time until an end token or the limit. Text is emitted as soon as its characters are complete.
 */
import * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../../base/base.js'
import { abortSignal, badArgument, callback } from '../../core/arguments.js'
import { ConfigError } from '../../core/errors.js'
import { flag, integer, numberWithin, text } from '../../core/schema.js'
import type { WorkerTokenizer } from '../../data/worker-tokenizer.js'
import type { ChatMessage } from '../../tokenizer/message.js'
import {
  type AnswerSampling,
  type DecodeControl,
  Decoder,
  type Decodes,
  type PromptProgress,
} from '../decoding/decoder.js'
import {
  type AnswerFormats,
  checkedMessages,
  endIds,
  formatsOf,
  isMessages,
  type PromptOptions,
  promptIds,
  promptShape,
} from '../rows/prompting.js'

/** Options of text generation. */
export interface GenerateOptions {
  /** The most tokens to generate. Default 128. */
  readonly maxNewTokens: number
  /** Sampling temperature. Default 0: always the likeliest token. */
  readonly temperature: number
  /** Sample from the `topK` likeliest tokens. Default 0: all. */
  readonly topK: number
  /** Sample from the likeliest tokens that make up this share of the probability. Default 1: all. */
  readonly topP: number
  /** Seed of the sampling; the same seed gives the same text. Default 0. */
  readonly seed: number
  /** Texts that end generation; the result does not include them. */
  readonly stop: readonly string[]
  /**
   * Keep special tokens such as `<|im_end|>` in the text. Default false; always true with tools. Those around reasoning,
   * such as `[THINK]`, always stay.
   */
  readonly keepSpecialTokens: boolean
}

/** Callbacks and signal for text generation. */
export interface GenerateControl {
  /** Stops generation; the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Called while the prompt is processed, which takes a while for a long one. */
  onPromptProgress?: (progress: PromptProgress) => void
}

export const generateSchema = z.strictObject({
  maxNewTokens: integer(1).default(128),
  temperature: numberWithin(0, 100, 'a number from 0 to 100').default(0),
  topK: integer(0).default(0),
  topP: numberWithin(Number.MIN_VALUE, 1, 'a number in (0, 1]').default(1),
  seed: integer(0).default(0),
  stop: z.array(text('a text')).default([]),
  keepSpecialTokens: flag().default(false),
}) satisfies z.ZodType<GenerateOptions>

/** Options of one call: sampling, signal, progress, and prompt format. */
export const textSchema = generateSchema.extend({
  signal: abortSignal().optional(),
  onPromptProgress: callback<NonNullable<GenerateControl['onPromptProgress']>>().optional(),
  ...promptShape,
})

/** Result of a generation. */
export interface Generation {
  text: string
  /** Ids of the generated tokens, without the end token. */
  tokenIds: number[]
  /** `stop` at an end token or stop text, `length` at the limit. */
  finishReason: 'stop' | 'length'
  /** Decoding speed, not counting the prompt. */
  tokensPerSecond: number
}

/**
 * A text or chat messages. A text is formatted as in the adapter's training: as a user turn after the system
 * prompt of its data, or as raw text. Without an adapter that records its format, it is raw text. Messages go
 * through the chat template.
 */
export type Prompt = string | readonly ChatMessage[]

/**
 * Generates text, yielding pieces as they come and returning the whole.
 * @param known default: as the adapters were trained
 * @throws {ConfigError} for an option out of range, or an empty or too long prompt
 * @throws {DataError} when the chat template rejects the messages
 */
export async function* generateText(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  prompt: Prompt,
  given: GenerateOptions & GenerateControl & PromptOptions,
  known?: AnswerFormats,
): AsyncGenerator<string, Generation, void> {
  checkWritesText(base, 'generate()')
  const { signal, onPromptProgress, chatTemplate, system, tools, ...sampling } = given
  const options = withCalls(sampling, tools)
  const tokenizer = await base.tokenizer()
  const { format, ends: ending } = known ?? formatsOf(base, adapters)
  const ids = await promptIds(base, tokenizer, prompt, format, { chatTemplate, system, tools, signal })
  const limit = Math.min(options.maxNewTokens, answerRoom(base, ids, 'generate()'))
  const decoder = await Decoder.open(base, adapters, ids.length + limit)
  try {
    const ends = await endIds(tokenizer, ending)
    return yield* decodeText(decoder, tokenizer, ids, ends, limit, options, { signal, onPromptProgress })
  } finally {
    await decoder.close()
  }
}

/** The options of an answer that may call tools: special tokens around calls are a part of it. */
export function withCalls<T extends Partial<GenerateOptions>>(options: T, tools: PromptOptions['tools']): T {
  return tools === undefined ? options : { ...options, keepSpecialTokens: true }
}

/**
 * Checks the prompt here because a chat template would fail on other values with an obscure error, or render
 * nothing.
 * @throws {ConfigError} for anything but a text or messages
 */
export function checkedPrompt(prompt: unknown, name: string, argument = 'prompt'): Prompt {
  if (typeof prompt === 'string') return prompt
  if (isMessages(prompt) && prompt.length > 0) return checkedMessages(prompt, name, argument)
  const expected =
    "a text, or a list of at least one message such as { role: 'user', content: 'Hello' }, without functions and symbols"
  throw badArgument(prompt, name, argument, expected)
}

/** Runs a generation to its end, ignoring the pieces. */
export async function lastOf(text: AsyncGenerator<string, Generation, void>): Promise<Generation> {
  for (;;) {
    const { done, value } = await text.next()
    if (done) return value
  }
}

/** Penalties, biases, and rules, which change the logits before a token is drawn. */
export type LogitChanges = Omit<AnswerSampling, 'temperature' | 'topK' | 'topP' | 'seed'>

/** Samples tokens until an end token, a stop text, or the limit, yielding their text. */
export async function* decodeText(
  decoder: Decodes,
  tokenizer: WorkerTokenizer,
  prompt: Int32Array,
  ends: ReadonlySet<number>,
  limit: number,
  options: GenerateOptions,
  control: DecodeControl,
  changes: LogitChanges = {},
): AsyncGenerator<string, Generation, void> {
  const { temperature, topK, topP, seed } = options
  const sampling = { temperature, topK, topP, seed, ...changes }
  const stream = tokenizer.decodeStream({ skipSpecialTokens: !options.keepSpecialTokens, continues: true })
  const gate = new StopGate(options.stop)
  const tokenIds: number[] = []
  let begin = performance.now()
  let finishReason: Generation['finishReason'] = 'length'
  let seconds: number
  let end: string | undefined
  try {
    for await (const token of decoder.tokens(prompt, limit, sampling, { ...control, ends })) {
      // The first token counts as prompt processing time.
      if (tokenIds.length === 0) begin = performance.now()
      if (ends.has(token)) {
        finishReason = 'stop'
        break
      }
      tokenIds.push(token)
      const part = gate.push(await stream.push(token))
      if (part !== '') yield part
      if (gate.stopped) {
        finishReason = 'stop'
        break
      }
      if (tokenIds.length === limit) break
    }
    seconds = (performance.now() - begin) / 1000
    end = await stream.end()
  } finally {
    // If the stream was interrupted, ignore the rest of it and any error.
    if (end === undefined) stream.end().catch(() => undefined)
  }
  const rest = gate.stopped ? '' : gate.push(end) + gate.rest()
  if (rest !== '') yield rest
  const tokensPerSecond = tokenIds.length > 1 ? (tokenIds.length - 1) / seconds : 0
  return { text: gate.text, tokenIds, finishReason, tokensPerSecond }
}

/**
 * The most tokens that an answer to a prompt can have.
 * @param name the public function that received the prompt
 * @throws {ConfigError} for an empty prompt, or one that leaves no room
 */
export function answerRoom(base: BaseModel, { length: tokens }: Int32Array, name: string): number {
  if (tokens === 0) throw new ConfigError(`${name}: the prompt is empty, expected at least one token.`)
  const limit = contextLength(base)
  if (tokens < limit) return limit - tokens
  throw new ConfigError(
    `${name}: the prompt has ${tokens} tokens, but the model supports at most ${limit}, including the answer.`,
    { tokens, limit },
  )
}

/** The model's context length: prompt and answer together. */
export function contextLength(base: BaseModel): number {
  const limit = base.files.config.max_position_embeddings
  return typeof limit === 'number' && limit > 0 ? limit : Number.MAX_SAFE_INTEGER
}

/** Withholds text that may be the start of a stop text, and stops at a complete one. */
class StopGate {
  text = ''
  stopped = false
  #held = ''

  constructor(private readonly stops: readonly string[]) {}

  /** Returns the text that cannot belong to a stop text. */
  push(part: string): string {
    this.#held += part
    const found = this.stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0)
    if (found.length > 0) {
      this.stopped = true
      return this.#release(Math.min(...found))
    }
    return this.#release(this.#held.length - this.#doubtful())
  }

  rest(): string {
    return this.#release(this.#held.length)
  }

  /** Length of the longest suffix of the held text that is a prefix of a stop text. */
  #doubtful(): number {
    const longest = Math.min(this.#held.length, Math.max(0, ...this.stops.map((stop) => stop.length - 1)))
    for (let length = longest; length > 0; length--)
      if (this.stops.some((stop) => stop.startsWith(this.#held.slice(-length)))) return length
    return 0
  }

  #release(length: number): string {
    const part = this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    this.text += part
    return part
  }
}
