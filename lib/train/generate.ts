/**
 * Text from a model: the prompt goes through the network in chunks that fill a key/value cache, then one token at a
 * time until an end token or the limit. Text comes out as soon as its characters are whole.
 */
import * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../base/base.js'
import { abortSignal, badArgument, callback } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { flag, integer, numberWithin, text } from '../core/schema.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { type DecodeControl, Decoder, type PromptProgress } from './decoder.js'
import {
  endIds,
  formatOf,
  isMessages,
  type KnownFormat,
  type PromptOptions,
  promptIds,
  promptShape,
} from './prompting.js'

/** Options of a generation. */
export interface GenerateOptions {
  /** Tokens after which it stops. Default 128. */
  readonly maxNewTokens: number
  /** 0, the default, always takes the likeliest token; higher is more random. */
  readonly temperature: number
  /** Draw from the so many likeliest tokens; 0, the default, is all. */
  readonly topK: number
  /** Draw from the likeliest tokens that make up this share of the probability. Default 1: all. */
  readonly topP: number
  /** Default 0. The same seed gives the same text. */
  readonly seed: number
  /** Texts that end a generation; they are left out of it. */
  readonly stop: readonly string[]
  /** True if special tokens such as `<|im_end|>` stay in the text. Default false. */
  readonly keepSpecialTokens: boolean
}

/** Callbacks and signal of a generation. */
export interface GenerateControl {
  /** Stops it; the call then rejects with the signal's reason. */
  signal?: AbortSignal
  /** Called while the prompt goes through the model, which for a long one takes a while. */
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

/** Options of one generation, with what is not of the drawing. */
export const textSchema = generateSchema.extend({
  signal: abortSignal().optional(),
  onPromptProgress: callback<NonNullable<GenerateControl['onPromptProgress']>>().optional(),
  ...promptShape,
})

/** Result of a generation. */
export interface Generation {
  text: string
  /** Ids of the generated tokens, the end token left out. */
  tokenIds: number[]
  /** `stop` at an end token or stop text, `length` at the limit. */
  finishReason: 'stop' | 'length'
  /** Speed of decoding, prompt not counted. */
  tokensPerSecond: number
}

/**
 * A text goes in as the adapter was trained: as a turn of the user after the system prompt of its data, or as it is; so
 * it does where no adapter says anything. Messages go through the chat template.
 */
export type Prompt = string | readonly ChatMessage[]

/**
 * Generates, yielding text as it comes and returning the whole.
 * @param known how prompts are put; default: as the adapters were trained
 * @throws {ConfigError} for an option out of range or a prompt that is empty or too long
 * @throws {DataError} when the chat template refuses the messages
 */
export async function* generateText(
  base: BaseModel,
  adapters: readonly ActiveAdapter[],
  prompt: Prompt,
  given: GenerateOptions & GenerateControl & PromptOptions,
  known?: KnownFormat,
): AsyncGenerator<string, Generation, void> {
  checkWritesText(base, 'generate()')
  const { signal, onPromptProgress, chatTemplate, system, ...options } = given
  const tokenizer = await base.tokenizer()
  const format = known ?? formatOf(base, adapters)
  const ids = await promptIds(base, tokenizer, prompt, format, { chatTemplate, system, signal })
  const room = contextLength(base) - ids.length
  if (ids.length === 0) throw new ConfigError('generate(): the prompt is empty, expected at least one token.')
  if (room < 1)
    throw new ConfigError(
      `generate(): the prompt has ${ids.length} tokens, but the model supports at most ${contextLength(base)}, including the answer.`,
      { tokens: ids.length, limit: contextLength(base) },
    )
  const limit = Math.min(options.maxNewTokens, room)
  const decoder = await Decoder.open(base, adapters, ids.length + limit)
  try {
    const ends = await endIds(tokenizer, format)
    return yield* decodeText(decoder, tokenizer, ids, ends, limit, options, { signal, onPromptProgress })
  } finally {
    await decoder.close()
  }
}

/**
 * A template would say of others what no reader understands, or answer nothing at all.
 * @throws {ConfigError} for anything but a text or messages
 */
export function checkedPrompt(prompt: unknown, name: string): Prompt {
  if (typeof prompt === 'string' || (isMessages(prompt) && prompt.length > 0)) return prompt
  const expected =
    "a text, or a list of at least one message such as { role: 'user', content: 'Hello' }, without functions and symbols"
  throw badArgument(prompt, name, 'prompt', expected)
}

/** The whole of a generation, whose pieces nobody reads. */
export async function lastOf(text: AsyncGenerator<string, Generation, void>): Promise<Generation> {
  for (;;) {
    const { done, value } = await text.next()
    if (done) return value
  }
}

/** Draws tokens until an end token, a stop text or the limit, yielding their text. */
export async function* decodeText(
  decoder: Decoder,
  tokenizer: WorkerTokenizer,
  prompt: Int32Array,
  ends: ReadonlySet<number>,
  limit: number,
  options: GenerateOptions,
  control: DecodeControl,
): AsyncGenerator<string, Generation, void> {
  const { temperature, topK, topP, seed } = options
  const stream = tokenizer.decodeStream({ skipSpecialTokens: !options.keepSpecialTokens, continues: true })
  const gate = new StopGate(options.stop)
  const tokenIds: number[] = []
  let begin = performance.now()
  let finishReason: Generation['finishReason'] = 'length'
  let seconds: number
  let end: string | undefined
  try {
    for await (const token of decoder.tokens(prompt, limit, { temperature, topK, topP, seed }, control)) {
      // The first token belongs to the prompt's time.
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
    // The rest of a stream that was broken off is not read, nor is its error.
    if (end === undefined) stream.end().catch(() => undefined)
  }
  const rest = gate.stopped ? '' : gate.push(end) + gate.rest()
  if (rest !== '') yield rest
  const tokensPerSecond = tokenIds.length > 1 ? (tokenIds.length - 1) / seconds : 0
  return { text: gate.text, tokenIds, finishReason, tokensPerSecond }
}

/** Most tokens that the model takes, prompt and answer together. */
export function contextLength(base: BaseModel): number {
  const limit = base.files.config.max_position_embeddings
  return typeof limit === 'number' && limit > 0 ? limit : Number.MAX_SAFE_INTEGER
}

/** Holds back what may be the start of a stop text, and ends at a whole one. */
class StopGate {
  text = ''
  stopped = false
  #held = ''

  constructor(private readonly stops: readonly string[]) {}

  /** The text that is certain not to belong to a stop text. */
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

  /** Length of the longest end of the held text that a stop text starts with. */
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
