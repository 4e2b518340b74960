/** The chat templates of a tokenizer, each prepared once, and how they begin and end answers. */
import { TRAINING_TEMPLATES } from '../models/index.js'
import type { TrainingRenderer } from '../tokenizer/adapted-template.js'
import { ChatRenderer } from '../tokenizer/chat-spans.js'
import { ChatTemplate, type TemplateLimits } from '../tokenizer/chat-template.js'
import type { TokenizerSource } from '../tokenizer/source.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { adaptedTemplateFor, trainingTemplateFor } from '../tokenizer/training-templates.js'
import { rowError } from './dataset/place.js'
import type { MessagesRow } from './rows.js'
import type { ThoughtRules } from './thought-rules.js'

/** An empty chat, used to inspect the template. */
const NO_CHAT: MessagesRow = { format: 'messages', messages: [], path: '', line: 0 }

export class ChatRenderers {
  readonly #tokenizer: Tokenizer
  readonly #source: TokenizerSource
  readonly #limits: TemplateLimits | undefined
  readonly #made = new Map<string, ChatRenderer>()
  readonly #thoughts: Pick<ThoughtRules, 'adapts' | 'asUsed'>
  #usesClock = false
  #family: string | undefined
  #answerHeader: string | undefined

  /**
   * @param source the templates, which may differ from the tokenizer's
   * @param thoughts whether an equivalent training template may replace a template, and whether chats look as in use, so
   * that none replaces the model's own
   */
  constructor(
    tokenizer: Tokenizer,
    source: TokenizerSource,
    limits: TemplateLimits | undefined,
    thoughts: Pick<ThoughtRules, 'adapts' | 'asUsed'>,
  ) {
    this.#thoughts = thoughts
    this.#tokenizer = tokenizer
    this.#source = source
    this.#limits = limits
  }

  /** The template for chats without tools; null if there is none. */
  get template(): string | null {
    return this.#source.chatTemplate ?? null
  }

  /** Family of the training template in use; undefined if none has been used. */
  get family(): string | undefined {
    return this.#family
  }

  /** True if a template used so far reads the date. */
  get usesClock(): boolean {
    return this.#usesClock
  }

  /** @throws {DataError} when there is no template for the row */
  of({ tools, ...row }: MessagesRow): ChatRenderer {
    const { chatTemplate, namedTemplates = {} } = this.#source
    const source = (tools ? namedTemplates.tool_use : undefined) ?? chatTemplate
    if (source === undefined) {
      throw rowError(
        { path: row.path, line: row.line },
        'the model has no chat template, so messages are not supported; use prompt and completion, or text',
      )
    }
    const known = this.#made.get(source)
    if (known) return known
    const { specialTokens, eosIds } = this.#tokenizer
    const own = new ChatTemplate(source, specialTokens, this.#limits)
    const training = this.#thoughts.adapts
      ? trainingTemplateFor(own, specialTokens, TRAINING_TEMPLATES, this.#limits)
      : undefined
    if (training) this.#family = training.family
    const template = this.#thoughts.asUsed ? this.#adapted(own) : training?.template
    this.#usesClock ||= own.usesClock
    const ends = eosIds.flatMap((id) => this.#tokenizer.idToToken(id) ?? [])
    const isAdded = (token: string) => {
      const id = this.#tokenizer.tokenToId(token)
      return id !== undefined && this.#tokenizer.addedToken(id) !== undefined
    }
    let withTools: { template: TrainingRenderer | undefined } | undefined
    const askingWithTools = () => {
      withTools ??= { template: this.#adapted(own) }
      return withTools.template
    }
    const renderer = new ChatRenderer(template ?? own, ends, isAdded, own, askingWithTools)
    this.#made.set(source, renderer)
    return renderer
  }

  #adapted(own: ChatTemplate): TrainingRenderer | undefined {
    return this.#thoughts.adapts
      ? adaptedTemplateFor(own, this.#tokenizer.specialTokens, TRAINING_TEMPLATES, true)?.template
      : undefined
  }

  /** True if the text is a chat that the template has already rendered: it contains the header of an answer. */
  wrote(text: string): boolean {
    if (this.template === null) return false
    // A template that rejects the probe has no known header.
    this.#answerHeader ??= this.#asked((renderer) => renderer.answerHeader()) ?? ''
    return this.#answerHeader !== '' && text.includes(this.#answerHeader)
  }

  /**
   * Texts that end an answer: the tokenizer's end tokens and, in a chat, the text that the template puts after
   * a turn.
   */
  stops(chat: boolean): string[] {
    const { eosId, eosIds } = this.#tokenizer
    const ids = chat ? eosIds : eosIds.filter((id) => id === eosId)
    const ends = ids.flatMap((id) => this.#tokenizer.idToToken(id) ?? [])
    // A template that rejects the probe is assumed to use the tokenizer's end tokens.
    const end = chat ? this.#asked((renderer) => renderer.turnEnd()) : undefined
    return [...new Set([...(end === undefined ? [] : [end]), ...ends])]
  }

  #asked<T>(question: (renderer: ChatRenderer) => T): T | undefined {
    try {
      return question(this.of(NO_CHAT))
    } catch {
      return undefined
    }
  }
}
