/**
 * Chat templates: Jinja programs that come with a model and turn messages into its prompt text. They are
 * untrusted code, so each rendering is limited in time and output, and runs in a process with limited memory
 * (text-call.ts). Templates get the same variables and functions as in transformers.
 */

import { DataError, FileFormatError } from '../core/errors.js'
import { escapeControls, quote } from '../core/quote.js'
import { limitTime } from '../core/time-limit.js'
import { functions, Raised } from './jinja/functions.js'
import { render, Scope } from './jinja/interpreter.js'
import { type Body, CLOSE, OPEN, parse } from './jinja/syntax.js'
import { templateValue, type Value } from './jinja/values.js'
import type { TemplateMessage as ChatMessage } from './message.js'

export interface RenderOptions {
  /** True if the text should end with the opening of an assistant turn. */
  addGenerationPrompt?: boolean
  /** Tool schemas. */
  tools?: readonly unknown[]
  /** Current time as seen by `strftime_now`. */
  now?: Date
  /** Further variables, e.g. `{ enable_thinking: false }`. */
  variables?: Readonly<Record<string, unknown>>
}

export interface TemplateLimits {
  /** Wall-clock time limit of one rendering. */
  milliseconds: number
  /** Maximum length of the text, in UTF-16 units. */
  characters: number
}

export const DEFAULT_TEMPLATE_LIMITS: TemplateLimits = { milliseconds: 5000, characters: 16 << 20 }

/** Part of a text, in UTF-16 units. */
export interface Span {
  start: number
  end: number
}

const MARKS = /[\ufdd0\ufdd1]/

export class ChatTemplate {
  /** True if the template marks the assistant's text with `{% generation %}`. */
  readonly marksGeneration: boolean
  /** True if the text depends on the date. */
  readonly usesClock: boolean
  /** True if the template ignores `addGenerationPrompt`. */
  readonly ignoresGenerationPrompt: boolean
  readonly source: string

  readonly #program: Body
  readonly #marked: Body | undefined
  readonly #specialTokens: Readonly<Record<string, string>>
  readonly #limits: TemplateLimits

  /**
   * @param source Jinja source
   * @param specialTokens special tokens by role (`bos_token`...), passed to the template as variables
   * @throws {FileFormatError} when the template is not valid Jinja
   */
  constructor(
    source: string,
    specialTokens: Readonly<Record<string, string>>,
    limits = DEFAULT_TEMPLATE_LIMITS,
  ) {
    this.source = source
    this.#limits = limits
    this.#specialTokens = specialTokens
    const compile = (marks: boolean) =>
      guarded(
        limits,
        () => parse(source, marks),
        (cause) => {
          return new FileFormatError(`the chat template is not valid: ${reasonOf(cause)}`, {}, { cause })
        },
      )
    this.#program = compile(false)
    this.marksGeneration = GENERATION.test(source)
    this.usesClock = source.includes('strftime_now')
    this.ignoresGenerationPrompt = !source.includes('add_generation_prompt')
    if (this.marksGeneration) this.#marked = compile(true)
  }

  /**
   * Renders a conversation.
   * @throws {DataError} when the template rejects the messages or fails; FileFormatError when it exceeds a
   * limit
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    return this.#run(this.#program, messages, options)
  }

  /**
   * Renders a conversation, and finds the spans between `{% generation %}` and `{% endgeneration %}`.
   * @throws {DataError} also when the markers are not paired or change the text
   */
  renderWithSpans(
    messages: readonly ChatMessage[],
    options: RenderOptions = {},
  ): { text: string; spans: Span[] } {
    const text = this.render(messages, options)
    if (!this.#marked) return { text, spans: [] }
    if (MARKS.test(text))
      throw new DataError('the messages contain the noncharacter U+FDD0 or U+FDD1; remove it')
    const { plain, spans } = collect(this.#run(this.#marked, messages, options))
    if (plain !== text) {
      throw new DataError(
        'the chat template renders a different text when its {% generation %} parts are traced',
      )
    }
    return { text, spans }
  }

  #run(program: Body, messages: readonly ChatMessage[], options: RenderOptions): string {
    const { characters } = this.#limits
    const text = guarded(
      this.#limits,
      () => render(program, this.#scope(messages, options)),
      (cause) => {
        return new DataError(
          cause instanceof Raised
            ? `the chat template refuses these messages: ${quote(cause.message)}`
            : `the chat template fails on these messages: ${reasonOf(cause)}`,
          {},
          { cause },
        )
      },
    )
    if (text.length > characters) {
      throw new FileFormatError(
        `the chat template rendered ${text.length} characters; the limit is ${characters}`,
        { characters: text.length },
      )
    }
    return text
  }

  #scope(messages: readonly ChatMessage[], options: RenderOptions): Scope {
    const variables = {
      ...this.#specialTokens,
      documents: null,
      tools: options.tools ?? null,
      messages: messages.map((message) => withReasoningKeys(withoutNulls(message))),
      add_generation_prompt: options.addGenerationPrompt ?? false,
      ...options.variables,
    }
    const given = templateValue(variables) as ReadonlyMap<string, Value>
    const known = Object.entries({ ...CONSTANTS, ...functions(options.now ?? new Date()) })
    return new Scope(new Map([...known, ...given]))
  }
}

const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null }

/** Templates get no key without a value, as in transformers. */
function withoutNulls(message: ChatMessage): Record<string, unknown> {
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null))
}

/** Templates read reasoning under either of two keys, whichever of three has it, as in transformers. */
function withReasoningKeys(message: Record<string, unknown>): Record<string, unknown> {
  const reasoning = message.reasoning_content ?? message.thinking ?? message.reasoning
  if (reasoning === undefined) return message
  return { thinking: reasoning, ...message, reasoning_content: reasoning }
}

/** Describes an error. V8's own messages for errors inside the interpreter would mean nothing to users. */
function reasonOf(cause: Error): string {
  if (cause instanceof RangeError) return 'it nests, calls itself or grows without end'
  if (cause instanceof TypeError) return 'it breaks off, or uses a value as what it is not'
  return escapeControls(cause.message.slice(0, 300))
}

/** Runs `task` under the time limit; errors are passed through `explain`. */
function guarded<T>({ milliseconds }: TemplateLimits, task: () => T, explain: (cause: Error) => Error): T {
  const explained = () => {
    try {
      return task()
    } catch (cause) {
      throw explain(cause instanceof Error ? cause : new Error(String(cause)))
    }
  }
  const late = `the chat template ran longer than ${milliseconds} ms and was stopped`
  return limitTime(milliseconds, explained, () => new FileFormatError(late, { milliseconds }))
}

const GENERATION = /\{%-?\s*generation\s*-?%\}/

/** Removes the marks and returns the spans between them. */
function collect(marked: string): { plain: string; spans: Span[] } {
  const spans: Span[] = []
  let plain = ''
  let open: number | undefined
  for (const part of marked.split(/([\ufdd0\ufdd1])/)) {
    if (part === OPEN && open === undefined) open = plain.length
    else if (part === CLOSE && open !== undefined) {
      spans.push({ start: open, end: plain.length })
      open = undefined
    } else if (MARKS.test(part)) {
      throw new DataError(
        'the {% generation %} and {% endgeneration %} marks of the chat template are not paired',
      )
    } else plain += part
  }
  if (open !== undefined) throw new DataError('a {% generation %} part of the chat template is not closed')
  return { plain, spans }
}
