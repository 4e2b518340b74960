/** A row as token ids and labels, and the options that say how it becomes that. */
import type { TemplateLimits } from '../tokenizer/chat-template.js'
import type { SpecialTokensInContent } from './special-text.js'

/** The label of a token that is not learned. */
export const IGNORE = -100

export const TRAIN_ON = ['completions', 'last', 'all'] as const
/** Every assistant turn (completion), only the last one, or every token. Plain text is learned whole in any case. */
export type TrainOn = (typeof TRAIN_ON)[number]

export const EMPTY_ROWS = ['error', 'drop'] as const
/** What happens to a row or assistant turn in which nothing is learned, or nothing is left by `max_seq_length`. */
export type EmptyRows = (typeof EMPTY_ROWS)[number]

export const UNENDED = ['error', 'allow'] as const
/** What happens when no token that ends an answer is learned, so that the model would never stop. */
export type Unended = (typeof UNENDED)[number]

export interface EncodeRowOptions {
  /** Tokens beyond this many are cut off the end. */
  maxSeqLength: number
  /** Default `completions`. */
  trainOn?: TrainOn
  /** What happens to a row without anything to learn: an error (the default), or left out and counted. */
  emptyRows?: EmptyRows
  /** What happens to chats and completions whose end is never learned. Default `error`. */
  unended?: Unended
  /** What happens to special tokens in the text of data. Default `keep`. */
  specialTokensInContent?: SpecialTokensInContent
  /** How rows that are no chats of their own are put. Default: as turns of the model's chat template. */
  prompting?: RowPrompting
  /** What templates take for now; fixed, so that a run that is resumed later sees the same texts. */
  now?: Date
  templateLimits?: TemplateLimits
}

export interface EncodedRow {
  inputIds: Int32Array
  /** `[inputIds.length]`: the id of the token itself, or -100. */
  labels: Int32Array
  /** How many labels count: those from the second token on. */
  supervised: number
  truncated: boolean
  /** Tokens before the cut. */
  fullLength: number
  /** Whether it teaches where an answer ends; plain text, which is no answer, counts as well. */
  ended: boolean
  /** Special tokens in the text of the row, those apart that its form puts there. */
  specialTokens: readonly string[]
  /** Assistant turns that are not learned, since they are empty. */
  emptyTurns: number
  /** Assistant turns that are learned without their reasoning, which the chat template leaves out. */
  lostReasoning: number
  path: string
  line: number
  /** What `line` counts, where that is not lines. */
  unit?: 'row'
  /** Of data that is read with `groupBy`. */
  group?: string
}

/** How rows without turns are put to the model, where it has a chat template; they are raw text where it has none. */
export interface RowPrompting {
  /** Rows of prompt and completion: as a turn of the user and one of the assistant. */
  prompts: boolean
  /** Rows of Alpaca: the same. */
  instructions: boolean
  /** In place of the model's own chat template. */
  template?: string | null
  /** The system prompt before those turns. */
  system?: string | null
}

/** Why a row was left out. */
export type DropReason = 'nothing_to_learn' | 'truncated_away'
