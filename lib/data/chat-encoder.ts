/** Tokenizes chats as their template renders them, with the answers that are trained on. */
import { ConfigError, DataError, LowrankError } from '../core/errors.js'
import { AmbiguousChat, type ChatRenderer, type RenderedChat } from '../tokenizer/chat-spans.js'
import type { RenderOptions } from '../tokenizer/chat-template.js'
import { withoutMarks } from '../tokenizer/marks.js'
import type { DatasetMessage } from '../tokenizer/message.js'
import type { MarkedIds } from '../tokenizer/token-offsets.js'
import type { ChatRenderers } from './chat-renderers.js'
import { rowError } from './dataset/place.js'
import type { EncodeRowOptions } from './encoded-row.js'
import type { FormatSeen } from './format-seen.js'
import type { MessagesRow } from './rows.js'
import type { SpecialText } from './special-text.js'
import type { TextEncoder, Tokens } from './text-encoder.js'
import type { ThoughtRules } from './thought-rules.js'
import { endlessTurn, isEmpty } from './unlearned.js'

interface Chat extends RenderedChat {
  renderer: ChatRenderer
  messages: readonly DatasetMessage[]
  /** Number of turns trained on without their reasoning. */
  lostReasoning: number
}

/** The parts that encode a chat: templates, texts, special tokens, and rules about reasoning. */
interface Means {
  readonly renderers: ChatRenderers
  readonly texts: TextEncoder
  readonly special: SpecialText
  readonly thoughts: ThoughtRules
  readonly seen: FormatSeen
}

type ChatOptions = Required<Pick<EncodeRowOptions, 'trainOn' | 'emptyRows' | 'unended' | 'now' | 'asPrompts'>>

export class ChatEncoder {
  readonly #by: Means
  readonly #options: ChatOptions
  #dropsHistory: boolean | undefined

  constructor(means: Means, options: ChatOptions) {
    this.#by = means
    this.#options = options
  }

  /** @throws {DataError} when the template rejects the chat, or does not tell which parts are answers */
  encode(row: MessagesRow): Tokens {
    const { seen, special } = this.#by
    const [first] = row.messages
    seen.add({ system: first?.role === 'system' ? first.content : null })
    const specialTokens = special.inContent(row, [
      row.messages.map(({ role: _, ...message }) => message),
      row.tools,
    ])
    if (this.#options.asPrompts && row.messages.at(-1)?.role !== 'assistant')
      return { ...this.#prompt(row, special.escapes(specialTokens)), specialTokens, open: true }
    const learned = this.#learned(row)
    const empty = learned.filter(isEmpty)
    this.#refuseEmpty(row, learned, empty)
    try {
      const chat = this.#rendered(row, special.escapes(specialTokens))
      const { lostReasoning } = chat
      if (this.#options.trainOn === 'all')
        return { ...this.#whole(row, chat, empty.length > 0), specialTokens, lostReasoning }
      return { ...this.#turns(row, chat), specialTokens, emptyTurns: empty.length, lostReasoning }
    } catch (cause) {
      throw this.#named(row, cause)
    }
  }

  /**
   * A chat for each answer that is trained on, which ends it; and the number of empty answers.
   * @throws {ConfigError} unless the template leaves out earlier reasoning
   */
  perAnswer(row: MessagesRow): { chats: MessagesRow[]; empty: number } {
    this.#dropsHistory ??= this.#by.renderers.of(row).dropsHistory()
    if (!this.#dropsHistory)
      throw noHistory('the chat template keeps the reasoning of earlier turns, or renders no reasoning')
    const learned = this.#learned(row)
    const empty = learned.filter(isEmpty)
    this.#refuseEmpty(row, learned, empty)
    const chats = learned
      .filter((message) => !isEmpty(message))
      .map((answer) => {
        const before = row.messages.slice(0, row.messages.indexOf(answer))
        const context = before.map((message) => ({ ...message, weight: 0 as const }))
        return { ...row, messages: [...context, answer] }
      })
    return { chats, empty: empty.length }
  }

  /**
   * The last answer of a chat as a model writes it, without the token that ends it; undefined if the template does not
   * tell where it is.
   */
  lastAnswer(row: MessagesRow): string | undefined {
    const { renderer, messages, options, reasons } = this.#plain(row)
    const answer = renderer.lastAnswer(messages, options)
    const block = this.#by.thoughts.promptBlock(reasons, renderer)
    return answer?.startsWith(block) ? answer.slice(block.length) : answer
  }

  /** @throws {DataError} for a turn that would teach the model to say nothing */
  #refuseEmpty(
    row: MessagesRow,
    learned: readonly DatasetMessage[],
    [first, ...more]: readonly DatasetMessage[],
  ): void {
    const { trainOn, emptyRows } = this.#options
    // If all turns are empty, the error concerns the row as a whole.
    const isWhole = trainOn !== 'all' && 1 + more.length === learned.length
    if (first === undefined || emptyRows !== 'error' || isWhole) return
    const answers = row.messages.filter(({ role }) => role === 'assistant')
    throw rowError(
      row,
      `assistant turn ${answers.indexOf(first) + 1} of ${answers.length} is empty, which would teach the model to say nothing; fill it in, give it "weight": 0, remove the row, or drop such turns with empty_rows: drop`,
    )
  }

  /** The assistant messages that are trained on. */
  #learned({ messages }: MessagesRow): DatasetMessage[] {
    const answers = messages.filter(({ role }) => role === 'assistant')
    const asked = this.#options.trainOn === 'last' ? answers.slice(-1) : answers
    return asked.filter(({ weight }) => weight !== 0)
  }

  /** The chat as its template gets it, and whether it has reasoning that the template shows. */
  #plain(row: MessagesRow) {
    const renderer = this.#by.renderers.of(row)
    const messages = renderer.withReasoning(
      row.messages.map(({ weight, ...message }): DatasetMessage => message),
    )
    const { reasons, variables } = this.#by.thoughts.shown(messages, renderer)
    const options: RenderOptions = {
      now: this.#options.now,
      ...variables,
      ...(row.tools ? { tools: row.tools } : {}),
    }
    return { renderer, messages, options, reasons }
  }

  /** A chat without an answer at its end, as the model sees it when it is asked. */
  #prompt(row: MessagesRow, escapes: boolean): MarkedIds {
    const { renderers, special, texts } = this.#by
    const { renderer, messages, options } = this.#plain(row)
    const how = {
      ...options,
      ...{ variables: {}, ...(renderers.family === undefined ? {} : renderer.reasoned()) },
    }
    try {
      const text = renderer.prompt(messages, how)
      const lost = renderer.refused(messages) ?? renderer.droppedInPrompt(text, messages, how)
      if (lost !== undefined) throw rowError(row, lost)
      const marked = escapes ? renderer.prompt(...escapedChat(special, messages, how)) : text
      if (escapes && withoutMarks(marked) !== text) throw changedSpecial(row)
      const { ids, inside } = texts.whole(row, marked, false)
      return { ids, inside: inside.fill(0) }
    } catch (cause) {
      throw this.#named(row, cause)
    }
  }

  /** Renders the chat with its template; special tokens to be escaped are marked. */
  #rendered(row: MessagesRow, escapes: boolean): Chat {
    const { renderer, messages, options } = this.#plain(row)
    const unknown = renderer.refused(messages)
    if (unknown !== undefined) throw rowError(row, unknown)
    const chat = escapes
      ? this.#escaped(row, renderer, messages, options)
      : this.#withTurns(row, renderer, messages, options)
    const text = escapes ? withoutMarks(chat.text) : chat.text
    if (escapes && text !== renderer.text(messages, options)) throw changedSpecial(row)
    const dropped = renderer.dropped(text, messages, options)
    if (dropped !== undefined) throw rowError(row, dropped)
    const unreasoned = this.#unreasoned(row, renderer.droppedReasoning(text, messages, options))
    if (unreasoned.last !== undefined)
      throw rowError(row, renderer.lostReasoning(messages, unreasoned.last, options))
    return { ...chat, lostReasoning: unreasoned.earlier }
  }

  #withTurns(
    row: MessagesRow,
    renderer: ChatRenderer,
    messages: readonly DatasetMessage[],
    options: RenderOptions,
  ): Omit<Chat, 'lostReasoning'> {
    if (this.#options.trainOn === 'all')
      return { renderer, messages, text: renderer.text(messages, options), turns: [] }
    const needed = this.#learned(row).map((message) => row.messages.indexOf(message))
    return { renderer, messages, ...renderer.turns(messages, options, needed) }
  }

  #escaped(
    row: MessagesRow,
    renderer: ChatRenderer,
    messages: readonly DatasetMessage[],
    options: RenderOptions,
  ): Omit<Chat, 'lostReasoning'> {
    return this.#withTurns(row, renderer, ...escapedChat(this.#by.special, messages, options))
  }

  /**
   * Turns trained on without their reasoning. Templates of reasoning models omit it from earlier turns by
   * design, as they do when the model is used. If the last turn lacked it, the reasoning would never be trained
   * on.
   */
  #unreasoned(row: MessagesRow, dropped: readonly number[]): { last?: number; earlier: number } {
    if (dropped.length === 0) return { earlier: 0 }
    const learned = this.#learned(row)
    const lost = dropped.filter((index) => learned.includes(row.messages[index] as DatasetMessage))
    const last = row.messages.findLastIndex(({ role }) => role === 'assistant')
    return lost.includes(last) ? { last, earlier: lost.length - 1 } : { earlier: lost.length }
  }

  /** The chat as a text that is trained on as a whole, unless an answer is empty. */
  #whole(row: MessagesRow, { messages, renderer, text }: Chat, isEmpty: boolean): MarkedIds {
    const { texts } = this.#by
    const whole = texts.whole(row, text, false)
    if (isEmpty) whole.inside.fill(0)
    const open = messages.at(-1)?.role === 'assistant' && !renderer.isTerminated(text)
    return open && !isEmpty ? texts.withEos(whole) : whole
  }

  #turns(row: MessagesRow, { text, turns, renderer, messages }: Chat): MarkedIds {
    const { texts, thoughts, seen } = this.#by
    const { trainOn, unended } = this.#options
    const wanted = (trainOn === 'last' ? turns.slice(-1) : turns)
      .filter(({ message }) => {
        const told = row.messages[message] as DatasetMessage
        return told.weight !== 0 && !isEmpty(told)
      })
      .map((span) => {
        const message = messages[span.message] as DatasetMessage
        const { turn, unreasoned } = thoughts.trainedPart(text, span, message, renderer)
        seen.addAnswer(unreasoned)
        return turn
      })
    const marked = texts.marked(row, text, wanted, false)
    const last = wanted.at(-1)
    const open = last !== undefined && !last.terminated && last.end === text.length
    if (open) return texts.closed(row, marked)
    if (last !== undefined && unended === 'error' && !wanted.some(({ terminated }) => terminated))
      throw endlessTurn(row, text, last)
    return marked
  }

  #named(row: MessagesRow, cause: unknown): unknown {
    if (cause instanceof AmbiguousChat) {
      const asUsed = this.#leavesOutReasoning(row) ? 'reasoning_history: drop, ' : ''
      const last = this.#learned(row).length > 1 ? 'train_on: last, ' : ''
      return rowError(
        row,
        `${cause.message}; use ${asUsed}${last}a template with {% generation %} markers, train_on: all, or one assistant turn per row`,
        cause,
      )
    }
    const named = cause instanceof DataError && 'line' in cause.details
    return cause instanceof LowrankError && !named ? rowError(row, cause.message, cause) : cause
  }

  /** True if the row is trained on as a whole, with a template that leaves out the reasoning of earlier turns. */
  #leavesOutReasoning(row: MessagesRow): boolean {
    return !this.#by.thoughts.asUsed && this.#by.renderers.of(row).dropsHistory()
  }
}

function changedSpecial(row: MessagesRow): DataError {
  return rowError(
    row,
    'the chat template changes text that contains special tokens, so they cannot be escaped; remove them',
  )
}

/** Messages and tools with their special tokens marked. */
function escapedChat(
  special: SpecialText,
  messages: readonly DatasetMessage[],
  options: RenderOptions,
): [DatasetMessage[], RenderOptions] {
  const { tools } = options
  return [
    messages.map(({ role, ...message }) => ({ role, ...special.escapeIn(message) }) as DatasetMessage),
    { ...options, ...(tools ? { tools: special.escapeIn(tools) } : {}) },
  ]
}

/** The error for data or a template without turns that reasoning could be left out of. */
export function noHistory(why: string): ConfigError {
  return new ConfigError(`reasoning_history is drop, but ${why}; use reasoning_history: keep.`, {
    reasoningHistory: 'drop',
  })
}
