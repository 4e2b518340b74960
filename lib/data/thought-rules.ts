/** How chats are trained on where answers have reasoning, or an empty block in place of it. */
import type { ChatRenderer, TurnSpan } from '../tokenizer/chat-spans.js'
import type { RenderOptions } from '../tokenizer/chat-template.js'
import type { DatasetMessage } from '../tokenizer/message.js'
import { reasoningLength, reasoningOf } from '../tokenizer/reasoning.js'
import type { EncodeRowOptions } from './encoded-row.js'

export class ThoughtRules {
  /** True if every answer is an example with the chat before it as in use: without the reasoning of earlier turns. */
  readonly asUsed: boolean
  /** True if a template that keeps more may replace the model's own. */
  readonly adapts: boolean
  /** True if reasoning is trained on. */
  readonly #trained: boolean
  /** True if the empty block of an answer without reasoning is trained on, rather than part of the prompt. */
  readonly #emptyTrained: boolean

  constructor({
    trainOnReasoning = true,
    trainEmptyThink = false,
    reasoningHistory = 'keep',
    prompting,
  }: EncodeRowOptions) {
    this.asUsed = reasoningHistory === 'drop'
    this.adapts = prompting?.trainingTemplate !== 'own'
    this.#trained = trainOnReasoning
    this.#emptyTrained = trainEmptyThink
  }

  /**
   * `reasons` is true for a chat with reasoning that its template shows. `variables` are those of the template for chats
   * with reasoning, or for those without.
   */
  shown(
    messages: readonly DatasetMessage[],
    renderer: ChatRenderer,
  ): { reasons: boolean; variables: Pick<RenderOptions, 'variables'> } {
    const seen = this.asUsed ? messages.slice(-1) : messages
    const reasons = seen.some((message) => reasoningOf(message).length > 0)
    if (reasons) return { reasons, variables: this.asUsed ? renderer.reasoned() : {} }
    return { reasons, variables: this.#emptyTrained ? {} : renderer.unreasoned() }
  }

  /** The empty block that belongs to the prompt of an answer; empty for one with reasoning. */
  promptBlock(reasons: boolean, renderer: ChatRenderer): string {
    return reasons || this.#emptyTrained ? '' : renderer.noThought()
  }

  /**
   * The trained part of a turn: without text that belongs to the prompt, and possibly without its reasoning.
   * `unreasoned` is true if the prompt says that there is none.
   */
  trainedPart(
    text: string,
    turn: TurnSpan,
    message: DatasetMessage,
    renderer: ChatRenderer,
  ): { turn: TurnSpan; unreasoned: boolean } {
    const said = text.slice(turn.start, turn.end)
    const reasons = reasoningOf(message).length > 0
    const block = this.promptBlock(reasons, renderer)
    if (block !== '' && said.startsWith(block))
      return { turn: { ...turn, start: turn.start + block.length }, unreasoned: true }
    const unreasoned = block !== '' && text.slice(0, turn.start).endsWith(block)
    if (this.#trained || !reasons) return { turn, unreasoned }
    return { turn: { ...turn, start: turn.start + reasoningLength(said) }, unreasoned }
  }
}
