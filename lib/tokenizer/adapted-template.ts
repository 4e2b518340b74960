/** A model's own chat template that gets chats in the form it reads. */
import type { ChatTemplate, RenderOptions, Span } from './chat-template.js'
import type { TemplateMessage as ChatMessage } from './message.js'

/** The renderer of a chat for training: a template, or one that adapts chats first. */
export type TrainingRenderer = Pick<
  ChatTemplate,
  'render' | 'renderWithSpans' | 'source' | 'marksGeneration' | 'ignoresGenerationPrompt'
>

/** A chat as a template gets it. */
export interface TemplateInput {
  messages: readonly ChatMessage[]
  options: RenderOptions
}

export type Adapt = (input: TemplateInput) => TemplateInput

export class AdaptedTemplate implements TrainingRenderer {
  readonly #own: ChatTemplate
  readonly #adapt: Adapt
  readonly #closing: string

  /** @param closing text after the last turn that is left out, because it depends on what follows */
  constructor(own: ChatTemplate, adapt: Adapt, closing = '') {
    this.#own = own
    this.#adapt = adapt
    this.#closing = closing
  }

  get source(): string {
    return this.#own.source
  }

  get marksGeneration(): boolean {
    return this.#own.marksGeneration
  }

  get ignoresGenerationPrompt(): boolean {
    return this.#own.ignoresGenerationPrompt
  }

  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const adapted = this.#adapt({ messages, options })
    return this.#closed(this.#own.render(adapted.messages, adapted.options))
  }

  renderWithSpans(
    messages: readonly ChatMessage[],
    options: RenderOptions = {},
  ): { text: string; spans: Span[] } {
    const adapted = this.#adapt({ messages, options })
    const { text, spans } = this.#own.renderWithSpans(adapted.messages, adapted.options)
    return { text: this.#closed(text), spans }
  }

  #closed(text: string): string {
    return this.#closing !== '' && text.endsWith(this.#closing) ? text.slice(0, -this.#closing.length) : text
  }
}
