/**
 * A model's tokenizer for programs: token ids of texts and chats, and texts of token ids. It works in a process of its
 * own, so every method is a promise.
 */
import * as z from 'zod'
import type { BaseModel } from '../base/base.js'
import { badArgument, checkedOptions, checkedText } from '../core/arguments.js'
import { DataError } from '../core/errors.js'
import { flag, integer, word } from '../core/schema.js'
import { readRow } from '../data/dataset/read-row.js'
import { IGNORE, TRAIN_ON, type TrainOn } from '../data/encoded-row.js'
import { formOf } from '../data/forms/index.js'
import { type Tools, toolSchemas, withReadCalls } from '../data/prompt-tools.js'
import { renderChat } from '../data/render-chat.js'
import type { ChatMessage } from '../tokenizer/message.js'
import { withTemplate } from '../tokenizer/source.js'
import { specialTokensOf } from '../tokenizer/tokenizer.js'
import { checkedMessages, isMessages, noteTokens, promptShape } from '../train/rows/prompting.js'

/** Facts of a tokenizer. */
export interface TokenizerInfo {
  /** Largest token id plus one. */
  vocabSize: number
  /** Ids of the tokens that end a generation. */
  eosTokenIds: readonly number[]
  /** Special tokens by role: `bos_token`, `eos_token`, `pad_token`, … */
  specialTokens: Readonly<Record<string, string>>
  /** Jinja source of the chat template; null if there is none. */
  chatTemplate: string | null
}

/** Token ids of a chat, and the tokens that training learns. */
export interface ChatTokens {
  /** `[T]`: token ids. */
  tokens: Int32Array
  /** `[T]`: 1 for tokens of assistant turns, with the tokens that end them, else 0; the `weights` of a row. */
  assistantMask: Uint8Array
}

/** Options of `ModelTokenizer.applyChatTemplate`. */
export interface ChatTemplateOptions {
  /** End with the opening of an assistant turn, as a prompt does. Default true. */
  addGenerationPrompt?: boolean
  /** Schemas of tools that the template shows: a list, or its JSON. Default: none. */
  tools?: Tools
  /** Jinja source of a template that replaces the model's. */
  chatTemplate?: string
}

/** Options of `ModelTokenizer.encodeChat`; names and defaults match those of training. */
export interface EncodeChatOptions extends Pick<ChatTemplateOptions, 'tools' | 'chatTemplate'> {
  /** Tokens beyond this length are cut off at the end. Default: no limit. */
  maxSeqLength?: number
  /** The turns in the mask: every assistant turn, the last one, or all tokens. Default completions. */
  trainOn?: TrainOn
}

const MESSAGES = "a list of messages such as { role: 'user', content: 'Hello' }"
const template = z.string({ error: 'the Jinja source of a chat template' }).optional()
const encodeSchema = z.strictObject({ addSpecialTokens: flag().default(true) })
const decodeSchema = z.strictObject({ skipSpecialTokens: flag().default(false) })
const templateSchema = z.strictObject({
  addGenerationPrompt: flag().default(true),
  tools: promptShape.tools,
  chatTemplate: template,
})
const chatSchema = z.strictObject({
  maxSeqLength: integer(2).default(2 ** 31 - 1),
  trainOn: word(TRAIN_ON).default('completions'),
  tools: promptShape.tools,
  chatTemplate: template,
})

/** The tokenizer of a loaded model. */
export class ModelTokenizer {
  readonly #base: BaseModel

  /** @internal */
  constructor(base: BaseModel) {
    this.#base = base
  }

  /** Size of the vocabulary, special tokens, and the chat template. */
  async info(): Promise<TokenizerInfo> {
    const { about } = await this.#base.tokenizer()
    return {
      vocabSize: about.vocabSize,
      eosTokenIds: about.eosIds,
      specialTokens: specialTokensOf(about.source),
      chatTemplate: about.source.chatTemplate ?? null,
    }
  }

  /**
   * Token ids of a text.
   * @param options.addSpecialTokens add the tokens that the tokenizer puts around a text, such as BOS. Default true
   * @example const ids = await model.tokenizer.encode('Hello')
   */
  async encode(text: string, options: { addSpecialTokens?: boolean } = {}): Promise<Int32Array> {
    const given = checkedOptions(encodeSchema, options, 'encode()')
    checkedText(text, 'encode()', 'text')
    return (await this.#base.tokenizer()).encode(text, given)
  }

  /**
   * Text of token ids.
   * @param options.skipSpecialTokens leave out tokens such as `<|im_end|>`. Default false
   * @throws {ConfigError} for an id outside the vocabulary
   */
  async decode(
    tokens: readonly number[] | Int32Array,
    options: { skipSpecialTokens?: boolean } = {},
  ): Promise<string> {
    const given = checkedOptions(decodeSchema, options, 'decode()')
    if (!(Array.isArray(tokens) || tokens instanceof Int32Array))
      throw badArgument(tokens, 'decode()', 'tokens', 'a list of token ids')
    const tokenizer = await this.#base.tokenizer()
    const { vocabSize } = this.#base.graph
    for (const [index, id] of tokens.entries())
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
        throw badArgument(id, 'decode()', `tokens.${index}`, `a token id from 0 to ${vocabSize - 1}`)
    return tokenizer.decode(Int32Array.from(tokens), given)
  }

  /**
   * Text of a chat by the chat template. It includes the BOS if the template writes one, so encode it with
   * `addSpecialTokens: false`.
   * @throws {DataError} when the model has no template, or the template rejects the messages
   */
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions = {},
  ): Promise<string> {
    const name = 'applyChatTemplate()'
    const { chatTemplate, tools, addGenerationPrompt } = checkedOptions(templateSchema, options, name)
    if (!isMessages(messages)) throw badArgument(messages, name, 'messages', MESSAGES)
    const { about } = await this.#base.tokenizer()
    const checked = checkedMessages(messages, name, 'messages')
    return renderChat(withTemplate(about.source, chatTemplate), withReadCalls(checked), {
      addGenerationPrompt,
      ...(tools === undefined ? {} : { tools: toolSchemas(tools) ?? [] }),
    })
  }

  /**
   * Token ids of a chat as training reads it, with the mask of the tokens that it learns.
   * @throws {DataError} when nothing is left to learn, or the template rejects the messages
   * @example
   * const { tokens, assistantMask } = await model.tokenizer.encodeChat(messages)
   * await adapter.forwardBackward([{ tokens, weights: assistantMask }], 'cross_entropy')
   */
  async encodeChat(messages: readonly ChatMessage[], options: EncodeChatOptions = {}): Promise<ChatTokens> {
    const name = 'encodeChat()'
    const { chatTemplate, tools, ...how } = checkedOptions(chatSchema, options, name)
    if (!isMessages(messages)) throw badArgument(messages, name, 'messages', MESSAGES)
    const place = { path: name, line: 1, unit: 'row' } as const
    const chat = { messages, ...(tools === undefined ? {} : { tools }) }
    const row = readRow(chat, formOf('messages'), {}, place)
    const prompting = { prompts: true, instructions: true, template: chatTemplate ?? null }
    const tokenizer = await this.#base.tokenizer()
    const { encoded, format } = await tokenizer.encodeRow(row, { ...how, prompting, unended: 'allow' })
    if (typeof encoded === 'string') throw new DataError(`${name}: the chat has nothing to learn.`)
    const assistantMask = Uint8Array.from(encoded.labels, (label) => (label === IGNORE ? 0 : 1))
    // Nothing comes before the first token to predict it from.
    assistantMask[0] = 0
    noteTokens(encoded.inputIds, format)
    return { tokens: encoded.inputIds, assistantMask }
  }
}
