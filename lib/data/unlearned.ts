/** Explains why a row has no trained tokens, or does not train the end of an answer. */
import type { DataError } from '../core/errors.js'
import type { Span } from '../tokenizer/chat-template.js'
import type { DatasetMessage } from '../tokenizer/message.js'
import { reasoningOf } from '../tokenizer/reasoning.js'
import { type DatasetRow, rowError } from './dataset.js'
import type { TrainOn } from './encoded-row.js'

/** True for an assistant message without text, calls, or reasoning. */
export function isEmpty(message: DatasetMessage): boolean {
  return !message.tool_calls && !message.content?.trim() && reasoningOf(message).length === 0
}

/** Describes why a row has no trained tokens. */
export function whyEmpty(row: DatasetRow, trainOn: TrainOn): string {
  switch (row.format) {
    case 'preference':
      return whyEmpty(row.chosen, trainOn)
    case 'unpaired_preference':
      return whyEmpty(row.answer, trainOn)
    case 'text':
    case 'classification':
      return 'the text is empty'
    case 'prompt_completion':
      return 'the completion is empty'
    case 'alpaca':
      return 'the output is empty'
    case 'messages': {
      const answers = row.messages.filter(({ role }) => role === 'assistant')
      if (answers.length === 0) return 'there is no assistant message'
      if (answers.some((answer) => answer.weight !== 0 && isEmpty(answer)))
        return 'the assistant message is empty'
      const unlearned = answers.every(({ weight }) => weight === 0) ? ', weight 0' : ''
      return `train_on: ${trainOn}${unlearned}`
    }
  }
}

/** Error if the text after a turn is not trained on: the model would not learn to stop. */
export function endlessTurn(row: DatasetRow, text: string, { end }: Span): DataError {
  const next = JSON.stringify(text.slice(end, end + 30))
  return rowError(
    row,
    `the end of the assistant's turn is never trained on: the chat template puts ${next} after the trained part, not a token that ends a turn, so the model would not learn to stop. Include the end-of-turn token in {% generation %}, use train_on: all, or train without an end with unended: allow`,
  )
}
