/**
 * A conversation with a model: its turns, what of them fits the context, and the key/value cache that is kept from one
 * answer to the next, so that only what is new goes through the model.
 */
import * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../base/base.js'
import { checkedOptions, checkedText } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { integer } from '../core/schema.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import { Lifetime } from '../native/handles.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { Decoder } from '../train/decoder.js'
import {
  contextLength,
  decodeText,
  type GenerateControl,
  type GenerateOptions,
  type Generation,
  generateSchema,
  textSchema,
} from '../train/generate.js'
import {
  endIds,
  formatOf,
  isMessages,
  isRecorded,
  type KnownFormat,
  promptShape,
  renderPrompt,
  warnOfMismatch,
} from '../train/prompting.js'

/** Options of `Model.chat`; those of the answers can be changed for each. */
export interface ChatOptions extends Partial<GenerateOptions> {
  /** System prompt. Default: the system prompt that every row of the training had. */
  system?: string | null
  /**
   * True if turns go through the chat template. Default: as the adapter was trained, else true if the model has one.
   */
  chatTemplate?: boolean
  /** Turns that were there before, `user` and `assistant` by turns. */
  messages?: readonly ChatMessage[]
  /** Tokens of history and answer together. Default 4096, or what the model takes where that is less. */
  contextTokens?: number
}

/** An answer with its statistics. */
export interface ChatAnswer extends Generation {
  /** Tokens of the history with the question, as the model saw them. */
  promptTokens: number
  /** Prompt tokens that were in the cache already. */
  reusedTokens: number
  /** Messages, from the oldest on, that have been left out since they no longer fit the context. */
  droppedMessages: number
}

const CONTEXT_TOKENS = 4096
const schema = generateSchema.extend({
  // Longer than a generation's: an answer that breaks off is of no use.
  maxNewTokens: integer(1).default(512),
  contextTokens: integer(2).optional(),
  ...promptShape,
  messages: z
    .custom<readonly ChatMessage[]>(isMessages, {
      error: "a list of messages such as { role: 'user', content: 'Hello' }",
    })
    .default([]),
})
const sendSchema = textSchema.omit({ chatTemplate: true, system: true })

/** Chooses the adapters of an answer. @internal */
export type ChooseAdapters = () => ActiveAdapter[]

/** A conversation with a model: keeps the turns, and the key/value cache of what the model has read of them. */
export class Chat {
  /** Tokens of history and answer together. */
  readonly contextTokens: number
  /**
   * True if turns are passed as plain text, line after line: the model has no chat template, or the adapter was
   * trained on raw text.
   */
  readonly plain: boolean
  readonly #base: BaseModel
  readonly #tokenizer: WorkerTokenizer
  readonly #options: GenerateOptions
  /** Prompt format of the adapters that were active when the chat began. */
  readonly #format: KnownFormat
  readonly #adapters: ChooseAdapters
  readonly #lifetime: Lifetime
  readonly #closed: (chat: Chat) => void
  #system: string | null
  #messages: ChatMessage[]
  #dropped = 0
  #decoder: Decoder | undefined
  /** The adapters with which the cache was computed. */
  #filledBy: (ActiveAdapter & { version: number })[] | undefined
  #answering = false

  private constructor(
    base: BaseModel,
    tokenizer: WorkerTokenizer,
    adapters: ChooseAdapters,
    { system, messages, chatTemplate, contextTokens, ...options }: z.output<typeof schema>,
    closed: (chat: Chat) => void,
  ) {
    const most = contextLength(base)
    if (contextTokens !== undefined && contextTokens > most)
      throw new ConfigError(
        `chat(): contextTokens is ${contextTokens}, but the model supports at most ${most}; lower it.`,
        { contextTokens, limit: most },
      )
    this.contextTokens = contextTokens ?? Math.min(CONTEXT_TOKENS, most)
    this.#format = formatOf(base, adapters())
    const recorded = isRecorded(this.#format) ? this.#format : undefined
    const hasTemplate = tokenizer.about.source.chatTemplate !== undefined || recorded?.template != null
    this.#system = system === undefined ? (recorded?.system ?? null) : system
    this.plain = !hasTemplate || !(chatTemplate ?? recorded?.form !== 'raw')
    warnOfMismatch(base, this.#format, this.plain ? 'raw' : 'chat')
    this.#base = base
    this.#tokenizer = tokenizer
    this.#options = options
    this.#adapters = adapters
    this.#messages = [...messages]
    this.#closed = closed
    this.#lifetime = new Lifetime(`The chat with ${base.name}`, 'start another with model.chat()')
  }

  /** @internal */
  static async open(
    base: BaseModel,
    adapters: ChooseAdapters,
    options: ChatOptions,
    closed: (chat: Chat) => void,
  ): Promise<Chat> {
    const given = checkedOptions(schema, options, 'chat()')
    checkWritesText(base, 'chat()')
    return new Chat(base, await base.tokenizer(), adapters, given, closed)
  }

  /**
   * System prompt; may be changed between two answers.
   * @throws {ConfigError} for anything but a text or null
   */
  get system(): string | null {
    return this.#system
  }

  set system(system: string | null) {
    this.#system = system === null ? null : checkedText(system, 'chat', 'system', 'a text, or null for none')
  }

  /** The turns so far, those included that no longer fit the context. */
  get messages(): readonly ChatMessage[] {
    return this.#messages
  }

  /**
   * Says something to the model: yields its answer as it comes and returns what it came to. An answer that is broken
   * off, by the signal or by leaving the loop, stays as far as it came.
   * @throws {ConfigError} for an option out of range, a text that is too long for the context, or while another answer
   * is being given
   * @throws {DataError} when the chat template refuses the messages
   * @example for await (const part of chat.send('Hello')) process.stdout.write(part)
   */
  async *send(
    text: string,
    options: Partial<GenerateOptions> & GenerateControl = {},
  ): AsyncGenerator<string, ChatAnswer, void> {
    this.#lifetime.check()
    this.#base.lifetime.check()
    if (this.#answering)
      throw new ConfigError('this chat is still answering; wait for the answer to end, or stop it.')
    checkedText(text, 'send()', 'text')
    const asked = checkedOptions(sendSchema, options, 'send()', this.#options)
    const { signal, onPromptProgress, ...chosen } = asked
    this.#answering = true
    const before = { length: this.#messages.length, dropped: this.#dropped }
    this.#messages.push({ role: 'user', content: text })
    let answer = ''
    try {
      const prompt = await this.#fitting(Math.min(chosen.maxNewTokens, this.contextTokens >> 2), signal)
      const limit = Math.min(chosen.maxNewTokens, this.contextTokens - prompt.length)
      const decoder = await this.#lifetime.use(() => this.#decoderNow())
      const ends = await endIds(this.#tokenizer, this.#format)
      const control = { signal, onPromptProgress }
      const parts = decodeText(decoder, this.#tokenizer, prompt, ends, limit, chosen, control)
      for (;;) {
        this.#lifetime.check()
        const { done, value } = await parts.next()
        if (!done) {
          answer += value
          yield value
          continue
        }
        return {
          ...value,
          promptTokens: prompt.length,
          reusedTokens: decoder.reused,
          droppedMessages: this.#dropped,
        }
      }
    } finally {
      this.#answering = false
      // A question without any answer would be one too many for most templates.
      if (answer === '') {
        this.#messages.length = before.length
        this.#dropped = before.dropped
      } else this.#messages.push({ role: 'assistant', content: answer })
    }
  }

  /** Forgets the turns; the system text stays. */
  reset(): void {
    if (this.#answering)
      throw new ConfigError('this chat is still answering; stop the answer before reset().')
    this.#messages = []
    this.#dropped = 0
  }

  /** Frees the cache. */
  async dispose(): Promise<void> {
    this.#closed(this)
    await this.#lifetime.dispose(() => this.#close())
  }

  /** The same as `dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /**
   * The prompt, once the oldest turns are dropped that leave no room for `reserve` tokens of an answer. Then half of
   * the context is made free: dropping a turn empties the cache, so it should not happen at every turn.
   */
  async #fitting(reserve: number, signal: AbortSignal | undefined): Promise<Int32Array> {
    let prompt = await this.#prompt(signal)
    if (prompt.length + reserve <= this.contextTokens) return prompt
    const last = this.#messages.length - 1
    while (prompt.length > this.contextTokens >> 1 && this.#dropped < last) {
      // Up to the next question: templates want one to begin with.
      do this.#dropped++
      while (this.#dropped < last && this.#messages[this.#dropped]?.role !== 'user')
      prompt = await this.#prompt(signal)
    }
    if (prompt.length < this.contextTokens) return prompt
    throw new ConfigError(
      `send(): the text has ${prompt.length} tokens with its template, but the context has ${this.contextTokens}; send a shorter text, or start the chat with more contextTokens.`,
      { tokens: prompt.length, contextTokens: this.contextTokens },
    )
  }

  async #prompt(signal: AbortSignal | undefined): Promise<Int32Array> {
    const messages = this.#messages.slice(this.#dropped)
    const { source } = this.#tokenizer.about
    const text = this.plain
      ? this.#plainText(messages)
      : await renderPrompt(source, this.#format, messages, this.system, signal)
    return this.#tokenizer.encode(text, { addSpecialTokens: this.plain })
  }

  #plainText(messages: readonly ChatMessage[]): string {
    const { prefix, suffix } = isRecorded(this.#format) ? this.#format : { prefix: '', suffix: '' }
    const turns = messages.map(({ role, content }) =>
      role === 'user' ? `${prefix}${content}${suffix}` : content,
    )
    return [...(this.system === null ? [] : [this.system]), ...turns].join('\n')
  }

  /** The cache, or a new one if it was filled with other adapters or other values of theirs. */
  async #decoderNow(): Promise<Decoder> {
    const filledBy = this.#adapters().map((active) => ({ ...active, version: active.state.version }))
    const same =
      this.#filledBy?.length === filledBy.length &&
      filledBy.every(({ state, weight, rank, version }, i) => {
        const other = this.#filledBy?.[i]
        const alike = other?.weight === weight && other.rank === rank
        return other?.state === state && alike && other.version === version
      })
    if (!same) await this.#close()
    this.#filledBy = filledBy
    this.#decoder ??= await Decoder.open(this.#base, filledBy, this.contextTokens)
    return this.#decoder
  }

  /** Frees the cache, with its hold on adapters, unless it is in use; the next answer makes a new one. @internal */
  releaseCache(): void {
    if (!this.#answering) this.#close()
  }

  async #close(): Promise<void> {
    const decoder = this.#decoder
    this.#decoder = undefined
    await decoder?.close()
  }
}
