/**
 * Finds the parts of a rendered chat that the assistant says. Two methods are exact: the template marks these
 * parts with `{% generation %}`, or the chat is also rendered up to the start and the end of each assistant
 * turn, and each of these texts is a prefix of the whole. Other chats are refused, since a slightly wrong mask
 * teaches the model to write role headers or to miss its end of turn.
 */

import { DataError } from '../core/errors.js'
import { AdaptedTemplate, type TrainingRenderer } from './adapted-template.js'
import { droppedPart, unknownToolCalls } from './chat-dropped.js'
import type { RenderOptions, Span } from './chat-template.js'
import type { DatasetMessage } from './message.js'
import {
  droppedReasoning,
  lostReasoning,
  mayReason,
  readKeyOf,
  reasoningOf,
  withoutThought,
  withReasoningAt,
  withReasoningIn,
} from './reasoning.js'
import { REASONED, UNREASONED } from './training-templates.js'
import { TurnEnds } from './turn-ends.js'

/** Text of one assistant message, including its end-of-turn token but not line feeds after it. */
export interface TurnSpan extends Span {
  /** Index of the message. */
  message: number
  /** True if the span ends with an end-of-turn token. */
  terminated: boolean
}

export interface RenderedChat {
  text: string
  /** One per assistant message, in order. */
  turns: TurnSpan[]
}

/** Thrown when the spans of a chat cannot be determined; the message says why. */
export class AmbiguousChat extends Error {}

/** An empty block of reasoning with both of its tags. */
const EMPTY_BLOCK = /^\S+\n\n\S+\s*$/

/** Content of a turn appended to find the end of the turn before it. */
const PROBE = 'lowrankturn'

export class ChatRenderer {
  readonly #template: TrainingRenderer
  /** Template that renders prompts. */
  readonly #asking: TrainingRenderer
  readonly #askingWithTools: () => TrainingRenderer | undefined
  readonly #ends: TurnEnds
  #openTail: string | undefined
  #noThought: string | undefined
  #readKey: { key: string | undefined } | undefined

  /**
   * @param ends texts of the tokens that end generation
   * @param vocabulary tells whether a text is an added token of this tokenizer
   * @param asking the template for prompts, if it is another one
   * @param askingWithTools the template for prompts with tools or calls, if it is another one
   */
  constructor(
    template: TrainingRenderer,
    ends: readonly string[],
    vocabulary: (token: string) => boolean,
    asking = template,
    askingWithTools: () => TrainingRenderer | undefined = () => undefined,
  ) {
    this.#template = template
    this.#asking = asking
    this.#askingWithTools = askingWithTools
    this.#ends = new TurnEnds(ends, vocabulary)
  }

  /** The training text, without an open assistant header at its end. */
  text(messages: readonly DatasetMessage[], options: RenderOptions): string {
    return this.#closed(this.#template.render(messages, options))
  }

  /** The text that asks for an answer to the chat, as in use. */
  prompt(messages: readonly DatasetMessage[], options: RenderOptions): string {
    const ofTools = options.tools !== undefined || messages.some(isOfTools)
    const template = (ofTools ? this.#askingWithTools() : undefined) ?? this.#asking
    return template.render(messages, { ...options, addGenerationPrompt: true })
  }

  /** Parts that the template omits from such a text, with advice. */
  droppedInPrompt(
    text: string,
    messages: readonly DatasetMessage[],
    options: RenderOptions,
  ): string | undefined {
    return droppedPart((all, how) => this.prompt(all, how), text, messages, options)
  }

  /** The messages with their reasoning moved to where the template reads it; unchanged if the template reads none. */
  withReasoning(messages: readonly DatasetMessage[]): DatasetMessage[] {
    if (!messages.some(mayReason)) return [...messages]
    this.#readKey ??= { key: readKeyOf((all) => this.#attempt(all, {})) }
    const { key } = this.#readKey
    if (key !== undefined) return messages.map((message) => withReasoningAt(message, key))
    // Templates of reasoning models that read no key expect the reasoning in the content.
    const block = this.noThought()
    // A block that the prompt opens shows no place for reasoning.
    return EMPTY_BLOCK.test(block)
      ? messages.map((message) => withReasoningIn(message, block))
      : [...messages]
  }

  /** Parts that the template is known to omit without rendering it, with advice. */
  refused(messages: readonly DatasetMessage[]): string | undefined {
    // An adapted template may get calls in another form.
    if (this.#template instanceof AdaptedTemplate) return undefined
    return unknownToolCalls(this.#template.source, messages)
  }

  /** Parts that the template omits from a rendered text, with advice. */
  dropped(text: string, messages: readonly DatasetMessage[], options: RenderOptions): string | undefined {
    return droppedPart((all, how) => this.text(all, how), text, messages, options)
  }

  /** Indices of the assistant messages whose reasoning the template omitted from a rendered text. */
  droppedReasoning(text: string, messages: readonly DatasetMessage[], options: RenderOptions): number[] {
    return droppedReasoning((all) => this.#attempt(all, options), text, messages)
  }

  /** Error message about the lost reasoning of a message, with advice. */
  lostReasoning(messages: readonly DatasetMessage[], index: number, options: RenderOptions): string {
    return lostReasoning((all) => this.#attempt(all, options), messages, index)
  }

  /** The rendered text; undefined if the template rejects the messages. */
  #attempt(messages: readonly DatasetMessage[], options: RenderOptions): string | undefined {
    try {
      return this.text(messages, options)
    } catch {
      return undefined
    }
  }

  /** Text that opens an answer; empty if the template has none. */
  answerHeader(): string {
    const question = [{ role: 'user', content: '1' }]
    const closed = this.#template.render(question)
    const asked = this.#template.render(question, { addGenerationPrompt: true })
    return asked.startsWith(closed) ? asked.slice(closed.length).trim() : ''
  }

  /**
   * Text after the answer header in prompts that ask for an answer without reasoning: an empty `<think>` block.
   * Empty if the template has no such prompts.
   */
  noThought(): string {
    if (this.#noThought !== undefined) return this.#noThought
    this.#noThought = ''
    if (!this.#asking.source.includes('enable_thinking')) return ''
    const [usual, without] = [this.#opened({}), this.#opened(UNREASONED)]
    const thinking = usual === without ? this.#opened(REASONED) : usual
    if (without.startsWith(thinking)) this.#noThought = without.slice(thinking.length)
    return this.#noThought
  }

  /** Text that opens an answer, including white space; empty if the template has none or rejects the question. */
  #opened(how: RenderOptions): string {
    const question = [{ role: 'user', content: '1' }]
    try {
      const closed = this.#asking.render(question, how)
      const asked = this.#asking.render(question, { ...how, addGenerationPrompt: true })
      return asked.startsWith(closed) ? asked.slice(closed.length) : ''
    } catch {
      return ''
    }
  }

  /** Template variables for chats without reasoning, if the template has prompts for them. */
  unreasoned(): Pick<RenderOptions, 'variables'> {
    return this.noThought() === '' ? {} : UNREASONED
  }

  /** Template variables for chats whose answer has reasoning, if the template tells them from others. */
  reasoned(): Pick<RenderOptions, 'variables'> {
    return this.noThought() === '' ? {} : REASONED
  }

  /** True if the template renders the reasoning of the last answer, and not that of one before a later question. */
  dropsHistory(): boolean {
    const chat = ['one', 'two'].flatMap((name): DatasetMessage[] => [
      { role: 'user', content: '1' },
      { role: 'assistant', content: '2', reasoning_content: `${PROBE}${name}` },
    ])
    const text = this.#attempt(this.withReasoning(chat), this.reasoned()) ?? ''
    return text.includes(`${PROBE}two`) && !text.includes(`${PROBE}one`)
  }

  /** The token that ends an answer; undefined if the template adds none. */
  turnEnd(): string | undefined {
    const chat = [
      { role: 'user', content: '1' },
      { role: 'assistant', content: '2' },
    ]
    return this.#ends.ending(this.text(chat, {}).trimEnd())
  }

  /** True if the text ends with an end-of-turn token, ignoring white space. */
  isTerminated(text: string): boolean {
    return this.#ends.ending(text.trimEnd()) !== undefined
  }

  /**
   * The rendered text with the spans of the assistant messages.
   * @param needed indices of the assistant messages whose spans are needed; undefined for all
   * @throws {AmbiguousChat} when the spans cannot be determined exactly; DataError when the template rejects
   * the messages
   */
  turns(
    messages: readonly DatasetMessage[],
    options: RenderOptions,
    needed?: readonly number[],
  ): RenderedChat {
    const assistants = messages.flatMap(({ role }, index) => (role === 'assistant' ? [index] : []))
    if (this.#template.marksGeneration) return this.#marked(messages, assistants, options)
    const text = this.text(messages, options)
    const turns: TurnSpan[] = []
    for (const index of needed ?? assistants) {
      const turn = this.#byPrefixes(text, messages, index, options)
      if (turn.start < (turns.at(-1)?.end ?? 0))
        throw new AmbiguousChat('assistant turns overlap in the text')
      turns.push(turn)
    }
    return { text, turns }
  }

  /**
   * The last answer of a chat, without the token that ends it; undefined if the template rejects the chat or does not
   * tell where the answer is.
   */
  lastAnswer(messages: readonly DatasetMessage[], options: RenderOptions): string | undefined {
    try {
      const last = messages.findLastIndex(({ role }) => role === 'assistant')
      const { text, turns } = this.turns(messages, options, last < 0 ? [] : [last])
      const { start, end } = turns.at(-1) as TurnSpan
      const said = text.slice(start, end)
      const token = this.#ends.ending(said) ?? ''
      return said.slice(0, said.length - token.length)
    } catch (error) {
      if (error instanceof AmbiguousChat || error instanceof DataError) return undefined
      throw error
    }
  }

  #marked(
    messages: readonly DatasetMessage[],
    assistants: readonly number[],
    options: RenderOptions,
  ): RenderedChat {
    const { text: full, spans } = this.#template.renderWithSpans(messages, options)
    const text = this.#closed(full)
    if (spans.length !== assistants.length) {
      throw new AmbiguousChat(
        `the chat template marks ${spans.length} parts by {% generation %} for ${assistants.length} assistant messages`,
      )
    }
    // Some templates include the header, or the end of it, in the marked span, although it is part of the prompt.
    const headers = [this.#opened({}), this.#opened(REASONED)].filter((header) => header !== '')
    const turns = spans.map(({ start, end }, i) => {
      const whole = headers.find((header) => text.startsWith(header, start))
      const reasoned = headers.at(-1) ?? ''
      const said = start + (whole?.length ?? overlap(text, start, reasoned))
      return this.#trimmed(text, { start: said, end, message: assistants[i] as number })
    })
    return { text, turns }
  }

  #byPrefixes(
    text: string,
    messages: readonly DatasetMessage[],
    index: number,
    options: RenderOptions,
  ): TurnSpan {
    const before = this.#opening(text, messages.slice(0, index), options)
    if (before === undefined) {
      throw new AmbiguousChat(
        `the chat template renders what comes before message ${index} differently without the rest of the chat`,
      )
    }
    const end = this.#endOf(text, before.length, messages, index, options)
    if (end === undefined) {
      throw new AmbiguousChat(
        `the chat template renders message ${index} differently without the rest of the chat, so its end is not known`,
      )
    }
    const start = this.#afterHeader(text, { start: before.length, end }, messages, index, options)
    return this.#trimmed(text, { start, end, message: index })
  }

  #endOf(
    text: string,
    start: number,
    messages: readonly DatasetMessage[],
    index: number,
    options: RenderOptions,
  ): number | undefined {
    if (index === messages.length - 1) return text.length
    const upTo = this.text(messages.slice(0, index + 1), options)
    if (upTo.length >= start && text.startsWith(upTo)) return upTo.length
    // Appending a user turn makes this an earlier turn. Templates may render earlier turns without reasoning,
    // but not with other words.
    const asked = this.#attempt([...messages.slice(0, index + 1), { role: 'user', content: PROBE }], options)
    const ended = asked?.slice(0, this.#ends.last(asked, asked.lastIndexOf(PROBE)))
    if (!ended || !text.startsWith(ended)) return undefined
    const said = withoutThought(messages[index]?.content ?? '')
    return ended.length > start && ended.includes(said, start) ? ended.length : undefined
  }

  /** Prefix of the text up to the start of an answer to these messages. */
  #opening(text: string, messages: readonly DatasetMessage[], options: RenderOptions): string | undefined {
    const asked = this.#template.render(messages, { ...options, addGenerationPrompt: true })
    if (text.startsWith(asked)) return asked
    const turns = [...messages, { role: 'assistant', content: PROBE }, { role: 'user', content: '1' }]
    const answered = this.#attempt(turns, options)
    const before = answered?.slice(0, Math.max(0, answered.indexOf(PROBE)))
    if (!before || !text.startsWith(before)) return undefined
    // What the model saw when it was asked may stand before a later question only.
    return toldIn(messages, options).every((told) => !asked.includes(told) || before.includes(told))
      ? before
      : undefined
  }

  /**
   * A template without generation prompts puts its role header into the turn itself; the text before the
   * content is that header, unless it is all white space.
   */
  #afterHeader(
    text: string,
    { start, end }: Span,
    messages: readonly DatasetMessage[],
    index: number,
    options: RenderOptions,
  ): number {
    if (!this.#template.ignoresGenerationPrompt) return start
    const message = messages[index] as DatasetMessage
    const content = message.content?.trim() ?? ''
    const found = content === '' ? -1 : text.slice(start, end).indexOf(content)
    const behind = text.slice(start).trimStart()
    if (found < 0 && message.content !== null && this.#ends.at(behind, 0) !== undefined) return start
    if (found < 0 || reasoningOf(message).length > 0) {
      // Another answer, without reasoning and calls, has the same header.
      const other = [...messages.slice(0, index), { role: 'assistant', content: PROBE }]
      const header = this.#attempt(other, options)?.split(PROBE)[0]
      if (header !== undefined && header.length >= start && text.startsWith(header)) return header.length
    }
    if (found < 0)
      throw new AmbiguousChat(
        'the chat template ignores add_generation_prompt, and the content of an assistant message does not occur in its text',
      )
    return text.slice(start, start + found).trim() === '' ? start : start + found
  }

  /** Ends the span with its end-of-turn token, which may precede trailing white space or directly follow the span. */
  #trimmed(text: string, { start, end, message }: Span & { message: number }): TurnSpan {
    const next = this.#ends.at(text, end)
    const part = text.slice(start, end)
    if (this.isTerminated(part))
      return { start, end: start + part.trimEnd().length, message, terminated: true }
    return { start, end: next ?? end, message, terminated: next !== undefined }
  }

  #closed(text: string): string {
    const tail = this.#tail()
    return tail !== '' && text.endsWith(tail) ? text.slice(0, -tail.length) : text
  }

  /**
   * Some templates always end with an open assistant header. It is the common suffix, after the end of turn, of
   * a chat that ends with the user and one that ends with the assistant.
   */
  #tail(): string {
    if (this.#openTail !== undefined) return this.#openTail
    this.#openTail = ''
    if (!this.#template.ignoresGenerationPrompt) return ''
    const question = { role: 'user', content: '1' }
    const answer = { role: 'assistant', content: '2' }
    let common: string
    try {
      common = commonEnd(this.#template.render([question]), this.#template.render([question, answer]))
    } catch {
      // The template requires other messages; its texts are used unchanged.
      return ''
    }
    for (let end = this.#ends.at(common, 0); end !== undefined; end = this.#ends.at(common, 0)) {
      common = common.slice(end).trimStart()
    }
    if (/assistant/i.test(common)) this.#openTail = common
    return this.#openTail
  }
}

const isOfTools = ({ role, tool_calls: calls }: DatasetMessage) => role === 'tool' || calls !== undefined

/** What a prompt tells beside the turns: system prompts and names of tools. */
function toldIn(messages: readonly DatasetMessage[], { tools = [] }: RenderOptions): string[] {
  const prompts = messages.filter(({ role }) => role === 'system').map(({ content }) => content)
  const names = tools.map((tool) => (tool as { function?: { name?: unknown } } | null)?.function?.name)
  return [...prompts, ...names].filter((told): told is string => typeof told === 'string')
}

/** Length of the end of a header that begins before `start` and ends behind it. */
function overlap(text: string, start: number, header: string): number {
  const at = header === '' ? -1 : text.lastIndexOf(header, start)
  return at < 0 ? 0 : Math.max(0, at + header.length - start)
}

function commonEnd(a: string, b: string): string {
  let length = 0
  while (length < Math.min(a.length, b.length) && a[a.length - 1 - length] === b[b.length - 1 - length])
    length++
  return a.slice(a.length - length)
}
