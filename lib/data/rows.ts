/** The rows of a dataset, as their forms read them, and what can be asked of a row. */
import type { DatasetMessage } from '../tokenizer/message.js'
import type { RowPlace } from './dataset/place.js'

export interface MessagesRow extends RowPlace {
  format: 'messages'
  messages: DatasetMessage[]
  tools?: unknown[]
}

export interface PromptCompletionRow extends RowPlace {
  format: 'prompt_completion'
  prompt: string
  completion: string
}

export interface AlpacaRow extends RowPlace {
  format: 'alpaca'
  instruction: string
  input: string
  output: string
  system?: string
  /** Earlier turns: questions with answers. */
  history: [question: string, answer: string][]
}

export interface TextRow extends RowPlace {
  format: 'text'
  text: string
  /** A document: if it is too long for one example, it is split into several. */
  document?: true
}

/** An answer to a prompt, as a row. */
export type AnswerRow = PromptCompletionRow | MessagesRow

/** Two answers to one prompt, each as a separate row. */
export interface PreferenceRow extends RowPlace {
  format: 'preference'
  chosen: AnswerRow
  rejected: AnswerRow
}

/** An answer, and whether it is desirable. */
export interface UnpairedRow extends RowPlace {
  format: 'unpaired_preference'
  answer: AnswerRow
  desirable: boolean
}

/** A text and its class name. */
export interface ClassificationRow extends RowPlace {
  format: 'classification'
  text: string
  label: string
}

/**
 * Rows of a dataset. If prompt and completion are lists of messages, they become one chat in which only the
 * completion is trained on.
 */
export type DatasetRow =
  | MessagesRow
  | PromptCompletionRow
  | AlpacaRow
  | TextRow
  | PreferenceRow
  | UnpairedRow
  | ClassificationRow

/** The question of a row and its expected answer. */
export interface Question {
  prompt: string
  /** The answer without its reasoning; with tools, as a model writes it, with special tokens around calls. */
  expected: string
  system: string | null
  /** JSON of the tools' schemas. */
  tools?: string
}

/** The texts before and after the prompt of a row that is raw text. */
export interface Around {
  prefix: string
  suffix: string
}
