/**
 * A conversation with a model: its messages, how they are truncated to fit the context, and the key/value cache that is
 * reused between answers, so that only new tokens go through the model.
 */
import * as z from 'zod'
import { type ActiveAdapter, type BaseModel, checkWritesText } from '../base/base.js'
import { checkedOptions, checkedText } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { integer } from '../core/schema.js'
import type { Tools } from '../data/prompt-tools.js'
import type { WorkerTokenizer } from '../data/worker-tokenizer.js'
import { Lifetime } from '../native/handles.js'
import type { ChatMessage } from '../tokenizer/message.js'
import {
  checkedPrompt,
  contextLength,
  decodeText,
  type GenerateControl,
  type GenerateOptions,
  type Generation,
  generateSchema,
  type Prompt,
  textSchema,
  withCalls,
} from '../train/answers/generate.js'
import { Decoder } from '../train/decoding/decoder.js'
import {
  checkedMessages,
  endIds,
  formatOf,
  isMessages,
  isRecorded,
  type KnownFormat,
  promptShape,
  renderPrompt,
  toolsInRawText,
  warnOfMismatch,
} from '../train/rows/prompting.js'

/** Options of `Model.chat`. Generation options can be overridden for each answer. */
export interface ChatOptions extends Partial<GenerateOptions> {
  /** System prompt. Default: the one shared by every row of the adapter's training data, if any. */
  system?: string | null
  /**
   * True to render messages with the chat template. Default: as in the adapter's training; otherwise true if the model
   * has a template.
   */
  chatTemplate?: boolean
  /** Schemas of the tools that the model may call: a list, or its JSON. Answers keep special tokens around calls. */
  tools?: Tools
  /** Earlier messages of the conversation. */
  messages?: readonly ChatMessage[]
  /** Maximum tokens of history and answer combined. Default: 4096, or the model's limit if that is lower. */
  contextTokens?: number
}

/** An answer with its statistics. */
export interface ChatAnswer extends Generation {
  /** Number of tokens in the rendered history, including the question. */
  promptTokens: number
  /** Number of prompt tokens that were already in the cache. */
  reusedTokens: number
  /** Number of oldest messages dropped so far because they no longer fit the context. */
  droppedMessages: number
}

const CONTEXT_TOKENS = 4096
const schema = generateSchema.extend({
  // Higher than the default of `generate`, since a truncated answer is useless in a chat.
  maxNewTokens: integer(1).default(512),
  contextTokens: integer(2).optional(),
  ...promptShape,
  messages: z
    .custom<readonly ChatMessage[]>(isMessages, {
      error: "a list of messages such as { role: 'user', content: 'Hello' }",
    })
    .default([]),
})
const sendSchema = textSchema.omit({ chatTemplate: true, system: true, tools: true })

/** Returns the adapters to use for an answer. @internal */
export type ChooseAdapters = () => ActiveAdapter[]

/** A conversation with a model. Keeps the messages and the key/value cache of the tokens the model has processed. */
export class Chat {
  /** Maximum tokens of history and answer combined. */
  readonly contextTokens: number
  /**
   * True if messages are passed as plain text, one per line, because the model has no chat template or the adapter was
   * trained on raw text.
   */
  readonly plain: boolean
  /** Schemas of the tools that the model may call; undefined without tools. */
  readonly tools: readonly unknown[] | undefined
  readonly #base: BaseModel
  readonly #tokenizer: WorkerTokenizer
  readonly #options: GenerateOptions
  /** Prompt format of the adapters that were active when the chat was created. */
  readonly #format: KnownFormat
  readonly #adapters: ChooseAdapters
  readonly #lifetime: Lifetime
  readonly #closed: (chat: Chat) => void
  #system: string | null
  #messages: ChatMessage[]
  #dropped = 0
  #decoder: Decoder | undefined
  /** The adapters used to compute the cache. */
  #filledBy: (ActiveAdapter & { version: number })[] | undefined
  #answering = false

  private constructor(
    base: BaseModel,
    tokenizer: WorkerTokenizer,
    adapters: ChooseAdapters,
    { system, messages, chatTemplate, contextTokens, tools, ...options }: z.output<typeof schema>,
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
    if (this.plain && tools !== undefined) throw toolsInRawText('chat()')
    warnOfMismatch(base, this.#format, this.plain ? 'raw' : 'chat')
    this.#base = base
    this.#tokenizer = tokenizer
    this.tools = tools
    this.#options = withCalls(options, tools)
    this.#adapters = adapters
    this.#messages = [...checkedMessages(messages, 'chat()', 'messages')]
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
   * System prompt; may be changed between answers.
   * @throws {ConfigError} unless the value is a string or null
   */
  get system(): string | null {
    return this.#system
  }

  set system(system: string | null) {
    this.#system = system === null ? null : checkedText(system, 'chat', 'system', 'a text, or null for none')
  }

  /** All messages so far, including those that no longer fit the context. */
  get messages(): readonly ChatMessage[] {
    return this.#messages
  }

  /**
   * Sends a message to the model: yields the answer as it is generated and returns it with statistics. If generation is
   * interrupted, by the signal or by leaving the loop, the partial answer is kept.
   * @param prompt a text, which is a user message, or messages, such as the results of tool calls
   * @throws {ConfigError} for an option out of range, a text too long for the context, or when another answer is still
   * being generated
   * @throws {DataError} when the chat template rejects the messages
   * @example for await (const part of chat.send('Hello')) process.stdout.write(part)
   * @example for await (const part of chat.send([{ role: 'tool', content: '{"count": 16}' }])) process.stdout.write(part)
   */
  async *send(
    prompt: Prompt,
    options: Partial<GenerateOptions> & GenerateControl = {},
  ): AsyncGenerator<string, ChatAnswer, void> {
    this.#lifetime.check()
    this.#base.lifetime.check()
    if (this.#answering)
      throw new ConfigError('this chat is still answering; wait for the answer to end, or stop it.')
    const sent = this.#sent(prompt)
    const asked = checkedOptions(sendSchema, options, 'send()', this.#options)
    const { signal, onPromptProgress, ...chosen } = asked
    this.#answering = true
    const before = { length: this.#messages.length, dropped: this.#dropped }
    this.#messages.push(...sent)
    let answer = ''
    try {
      const ids = await this.#fitting(Math.min(chosen.maxNewTokens, this.contextTokens >> 2), signal)
      const limit = Math.min(chosen.maxNewTokens, this.contextTokens - ids.length)
      const decoder = await this.#lifetime.use(() => this.#decoderNow())
      const ends = await endIds(this.#tokenizer, this.#format)
      const control = { signal, onPromptProgress }
      const parts = decodeText(decoder, this.#tokenizer, ids, ends, limit, chosen, control)
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
          promptTokens: ids.length,
          reusedTokens: decoder.reused,
          droppedMessages: this.#dropped,
        }
      }
    } finally {
      this.#answering = false
      // Most templates reject two user messages in a row, so an unanswered question is removed.
      if (answer === '') {
        this.#messages.length = before.length
        this.#dropped = before.dropped
      } else this.#messages.push({ role: 'assistant', content: answer })
    }
  }

  /** Messages to send. */
  #sent(given: Prompt): readonly ChatMessage[] {
    const prompt = checkedPrompt(given, 'send()')
    if (typeof prompt === 'string') return [{ role: 'user', content: prompt }]
    if (this.plain)
      throw new ConfigError(
        'send(): this chat passes turns as plain text, which has no place for other roles, such as the results of tools; use a model with a chat template, and chatTemplate: true (--chat, not --raw).',
      )
    return prompt
  }

  /** Clears the messages but keeps the system prompt. */
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

  /** Same as `dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /**
   * Renders the prompt, dropping the oldest messages if fewer than `reserve` tokens would be left for the answer. It
   * then frees half of the context: dropping messages invalidates the cache, so it should not happen on every message.
   */
  async #fitting(reserve: number, signal: AbortSignal | undefined): Promise<Int32Array> {
    let prompt = await this.#prompt(signal)
    if (prompt.length + reserve <= this.contextTokens) return prompt
    // An answer to the results of tool calls needs the question before them.
    const last = this.#messages.findLastIndex(({ role }) => role === 'user')
    while (prompt.length > this.contextTokens >> 1 && this.#dropped < last) {
      // Drops up to the next question, since templates expect the first message to be one.
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
      : await renderPrompt(source, this.#format, messages, { system: this.system, tools: this.tools, signal })
    return this.#tokenizer.encode(text, { addSpecialTokens: this.plain })
  }

  #plainText(messages: readonly ChatMessage[]): string {
    const { prefix, suffix } = isRecorded(this.#format) ? this.#format : { prefix: '', suffix: '' }
    const turns = messages.map(({ role, content }) =>
      role === 'user' ? `${prefix}${content}${suffix}` : content,
    )
    return [...(this.system === null ? [] : [this.system]), ...turns].join('\n')
  }

  /** Returns the decoder with its cache, or a new one if the adapters or their values have changed. */
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

  /**
   * Frees the cache and its references to adapters, unless an answer is in progress; the next answer creates a new one.
   * @internal
   */
  releaseCache(): void {
    if (!this.#answering) this.#close()
  }

  async #close(): Promise<void> {
    const decoder = this.#decoder
    this.#decoder = undefined
    await decoder?.close()
  }
}
