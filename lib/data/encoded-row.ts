/** A row as token ids and labels, and the options of encoding. */
import type { TemplateLimits } from '../tokenizer/chat-template.js'
import type { SpecialTokensInContent } from './special-text.js'

/** Label of a token that is not trained on. */
export const IGNORE = -100

export const TRAIN_ON = ['completions', 'last', 'all'] as const
/**
 * Train on every assistant turn (completion), only the last one, or every token. Plain text is always trained
 * on entirely.
 */
export type TrainOn = (typeof TRAIN_ON)[number]

export const EMPTY_ROWS = ['error', 'drop'] as const
/**
 * Treatment of a row or assistant turn without trained tokens, including when `max_seq_length` cuts off all of
 * them.
 */
export type EmptyRows = (typeof EMPTY_ROWS)[number]

export const UNENDED = ['error', 'allow'] as const
/** Treatment of data that never trains an end token, so that the model would not learn to stop. */
export type Unended = (typeof UNENDED)[number]

export const TRAINING_TEMPLATE = ['auto', 'own'] as const
/**
 * Template of training rows: `auto` uses a built-in one if it equals the model's own on single answers; `own`
 * never does.
 */
export type TrainingTemplateChoice = (typeof TRAINING_TEMPLATE)[number]

export const REASONING_HISTORY = ['keep', 'drop'] as const
/**
 * Reasoning of earlier turns: `keep` trains each chat as one example; `drop` makes an example of every answer, with the
 * chat before it as the model sees it in use.
 */
export type ReasoningHistory = (typeof REASONING_HISTORY)[number]

export interface EncodeRowOptions {
  /** Tokens beyond this length are cut off at the end. */
  maxSeqLength: number
  /** Default `completions`. */
  trainOn?: TrainOn
  /** Treatment of a row without trained tokens: an error (the default), or dropped and counted. */
  emptyRows?: EmptyRows
  /** Train on the reasoning of the trained turns. Default true. */
  trainOnReasoning?: boolean
  /** Default `keep`. */
  reasoningHistory?: ReasoningHistory
  /** Train on the empty reasoning block of answers, rather than treat it as part of the prompt. Default false. */
  trainEmptyThink?: boolean
  /** Treatment of chats and completions whose end is never trained on. Default `error`. */
  unended?: Unended
  /** Treatment of special tokens in the text of data. Default `keep`. */
  specialTokensInContent?: SpecialTokensInContent
  /**
   * Rows are prompts to be answered: a chat without an answer at its end is one as a whole, and rows keep their other
   * columns. Default false.
   */
  asPrompts?: boolean
  /** Prompt format of rows that are not chats. Default: turns of the model's chat template. */
  prompting?: RowPrompting
  /** Current time as seen by templates; fixed, so that a resumed run gets the same texts. */
  now?: Date
  /** Class names, in the order of their ids. */
  labels?: readonly string[] | null
  /** A label is the class whose name differs from it only by white space or case, if any. */
  stripLabels?: boolean
  templateLimits?: TemplateLimits
}

export interface EncodedRow {
  inputIds: Int32Array
  /** `[inputIds.length]`: the id of the token itself, or -100. */
  labels: Int32Array
  /** Number of labels, not counting the first token; 0 for a prompt alone. */
  supervised: number
  /** Number of tokens in the first of two answers; absent for rows with one. */
  split?: number
  /** True if the answer is desirable; absent for rows without such a label. */
  desirable?: boolean
  /** JSON of the other columns of a row that is read as a prompt; empty without any. */
  item?: string
  /** Class id, for rows that have a class rather than token labels. */
  target?: number
  truncated: boolean
  /** Number of tokens before truncation. */
  fullLength: number
  /** True if the end of an answer is trained on; also true for plain text, which is not an answer. */
  ended: boolean
  /** Special tokens in the text of the row, without those that its format adds. */
  specialTokens: readonly string[]
  /** Assistant turns that are not trained on because they are empty. */
  emptyTurns: number
  /** Assistant turns trained on without their reasoning, which the chat template omits. */
  lostReasoning: number
  path: string
  line: number
  /** Unit of `line`, if not lines. */
  unit?: 'row'
  /** Group of the row, if the data is read with `groupBy`. */
  group?: string
}

/** Prompt format of rows without turns, if the model has a chat template; otherwise they are raw text. */
export interface RowPrompting {
  /** Render rows of prompt and completion as a user turn and an assistant turn. */
  prompts: boolean
  /** Render Alpaca rows as chats. */
  instructions: boolean
  /** Chat template that replaces the model's own. */
  template?: string | null
  /** Path of a file with such a template, read in the process that reads the rows. */
  templateFile?: string
  /** `auto` (the default) trains with a built-in template if it equals the one for prompts. */
  trainingTemplate?: TrainingTemplateChoice
  /** System prompt before those turns. */
  system?: string | null
}

/** Why a row was dropped. */
export type DropReason = 'nothing_to_learn' | 'truncated_away'
