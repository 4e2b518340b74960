/** Answers of a model: some at once, and a bounded queue. */
import { checkWritesText } from '../base/base.js'
import { addon, type NativeGrammar } from '../native/addon.js'
import type { ChatMessage } from '../tokenizer/message.js'
import {
  answerRoom,
  contextLength,
  decodeText,
  type GenerateOptions,
  type Generation,
  type LogitChanges,
} from '../train/answers/generate.js'
import type { DecodeControl } from '../train/decoding/decoder.js'
import { endIds, formatOf, promptIds } from '../train/rows/prompting.js'
import { invalid, overloaded } from './errors.js'
import type { Answering } from './models.js'

/** Requests that are answered at once. */
const MOST_AT_ONCE = 16
const MOST_WAITING = 256

/** A prompt: a raw text, token ids, or messages for the chat template. */
export type Asked =
  | { kind: 'text'; text: string }
  | { kind: 'tokens'; tokens: Int32Array }
  | { kind: 'messages'; messages: readonly ChatMessage[]; tools: readonly unknown[] | undefined }

export interface AskOptions extends Omit<GenerateOptions, 'maxNewTokens'> {
  /** Default: to the end of the context, at most `MOST_TOKENS`. */
  maxNewTokens: number | null
  /** Penalties and biases. */
  changes?: LogitChanges
  /** Tokens that would leave this grammar cannot be drawn. */
  grammar?: NativeGrammar | undefined
  onToken?: DecodeControl['onToken']
  onPromptProgress?: DecodeControl['onPromptProgress']
  topLogProbs?: number | undefined
}

/** The most tokens of an answer that asks for no limit. */
export const MOST_TOKENS = 4096

/** A prompt as tokens. */
export interface Prompted {
  ids: Int32Array
  limit: number
  ends: ReadonlySet<number>
}

/** Lets a few callers in at a time, in the order in which they came. */
export class Gate {
  #inside = 0
  readonly #waiting: (() => void)[] = []

  /** @param mostWaiting requests that may wait */
  constructor(private readonly mostWaiting = MOST_WAITING) {}

  /** Callers that are in. */
  get inside(): number {
    return this.#inside
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** @throws {ApiError} when too many wait */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#inside >= MOST_AT_ONCE) {
      if (this.#waiting.length >= this.mostWaiting)
        throw overloaded(`${this.mostWaiting} requests are waiting; try again later.`, 5)
      await new Promise<void>((resolve, reject) => {
        const turn = () => {
          signal.removeEventListener('abort', leave)
          resolve()
        }
        const leave = () => {
          const at = this.#waiting.indexOf(turn)
          if (at >= 0) this.#waiting.splice(at, 1)
          reject(signal.reason)
        }
        signal.addEventListener('abort', leave, { once: true })
        this.#waiting.push(turn)
      })
    } else this.#inside++
    return () => {
      const next = this.#waiting.shift()
      if (next === undefined) this.#inside--
      else next()
    }
  }
}

/**
 * The tokens of a prompt. Special tokens that a message has in its text are characters there.
 * @throws {ApiError} for a prompt that leaves no room for an answer
 */
export async function prompted(
  { base, adapters }: Answering,
  asked: Asked,
  most: number | null,
  signal: AbortSignal,
): Promise<Prompted> {
  checkWritesText(base, 'chat')
  const tokenizer = await base.tokenizer()
  const format = formatOf(base, adapters)
  const ends = await endIds(tokenizer, format)
  let ids: Int32Array
  if (asked.kind === 'tokens') ids = asked.tokens
  else if (asked.kind === 'text') ids = await tokenizer.encode(asked.text, { addSpecialTokens: true })
  else {
    const { messages, tools } = asked
    ids = await promptIds(base, tokenizer, messages, format, { tools, signal, escaping: true, name: 'chat' })
  }
  const limit = contextLength(base)
  if (ids.length >= limit)
    throw invalid(
      asked.kind === 'messages' ? 'messages' : 'prompt',
      `This model's maximum context length is ${limit} tokens, including the answer. However, your prompt has ${ids.length} tokens.`,
      'context_length_exceeded',
    )
  return { ids, limit: Math.min(most ?? MOST_TOKENS, answerRoom(base, ids, 'chat')), ends }
}

/** The text of an answer in pieces, and at its end the whole. */
export async function* answered(
  { base, decoder: open }: Answering,
  { ids, limit, ends }: Prompted,
  options: AskOptions,
  signal: AbortSignal,
): AsyncGenerator<string, Generation, void> {
  const tokenizer = await base.tokenizer()
  const decoder = await open(ids.length + limit)
  try {
    const { changes, grammar, onToken, onPromptProgress, topLogProbs, ...rest } = options
    const rules = grammar && { rules: addon().createMatcher(grammar, Int32Array.from(ends)) }
    const control = { signal, onToken, onPromptProgress, topLogProbs }
    const sampling = { ...rest, maxNewTokens: limit }
    const changed = { ...changes, ...rules }
    return yield* decodeText(decoder, tokenizer, ids, ends, limit, sampling, control, changed)
  } finally {
    await decoder.close()
  }
}
