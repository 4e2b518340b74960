/** Answers without anything to learn, and those whose end is not learned. */
import type { DataError } from '../core/errors.js'
import type { Span } from '../tokenizer/chat-template.js'
import type { DatasetMessage } from '../tokenizer/message.js'
import { reasoningOf } from '../tokenizer/reasoning.js'
import { type RowPlace, rowError } from './dataset/place.js'

/** True for an assistant message without text, calls, or reasoning. */
export function isEmpty(message: DatasetMessage): boolean {
  return !message.tool_calls && !message.content?.trim() && reasoningOf(message).length === 0
}

/** Error if the text after a turn is not trained on: the model would not learn to stop. */
export function endlessTurn(row: RowPlace, text: string, { end }: Span): DataError {
  const next = JSON.stringify(text.slice(end, end + 30))
  return rowError(
    row,
    `the end of the assistant's turn is never trained on: the chat template puts ${next} after the trained part, not a token that ends a turn, so the model would not learn to stop. Include the end-of-turn token in {% generation %}, use train_on: all, or train without an end with unended: allow`,
  )
}
