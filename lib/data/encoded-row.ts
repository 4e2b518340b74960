/** A row as token ids and labels, and the options that say how it becomes that. */
import type { TemplateLimits } from '../tokenizer/chat-template.js'
import type { SpecialTokensInContent } from './special-text.js'

/** The label of a token that is not learned. */
export const IGNORE = -100

export const TRAIN_ON = ['completions', 'last', 'all'] as const
/** Every assistant turn (completion), only the last one, or every token. Plain text is learned whole in any case. */
export type TrainOn = (typeof TRAIN_ON)[number]

export const EMPTY_ROWS = ['error', 'drop'] as const
/** Treatment of a row or assistant turn in which no token is trained on, or none is left by `max_seq_length`. */
export type EmptyRows = (typeof EMPTY_ROWS)[number]

export const UNENDED = ['error', 'allow'] as const
/** Treatment of data that never trains an end token, so that the model would not learn to stop. */
export type Unended = (typeof UNENDED)[number]

export const TRAINING_TEMPLATE = ['auto', 'own'] as const
/** The template of rows: one of the package where that equals the model's own on single answers, or always the latter. */
export type TrainingTemplateChoice = (typeof TRAINING_TEMPLATE)[number]

export interface EncodeRowOptions {
  /** Tokens beyond this many are cut off the end. */
  maxSeqLength: number
  /** Default `completions`. */
  trainOn?: TrainOn
  /** Treatment of a row without trained tokens: an error (the default), or dropped and counted. */
  emptyRows?: EmptyRows
  /** True if the reasoning of the turns that are trained on is trained on, too. Default true. */
  trainOnReasoning?: boolean
  /** True if the empty block of answers without reasoning is trained on, which prompts may have instead. Default false. */
  trainEmptyThink?: boolean
  /** Treatment of chats and completions whose end is never trained on. Default `error`. */
  unended?: Unended
  /** Treatment of special tokens in the text of data. Default `keep`. */
  specialTokensInContent?: SpecialTokensInContent
  /** Prompt format of rows that are not chats. Default: turns of the model's chat template. */
  prompting?: RowPrompting
  /** Current time as seen by templates; fixed, so that a resumed run gets the same texts. */
  now?: Date
  /** Names of the classes that rows are labeled with, in the order of their ids. */
  labels?: readonly string[] | null
  templateLimits?: TemplateLimits
}

export interface EncodedRow {
  inputIds: Int32Array
  /** `[inputIds.length]`: the id of the token itself, or -100. */
  labels: Int32Array
  /** Number of labels from the second token on. */
  supervised: number
  /** Tokens of the first of two answers, in a row that holds both; absent in any other. */
  split?: number
  /** Id of the class, in a row that has one in place of labels of its tokens. */
  target?: number
  truncated: boolean
  /** Tokens before the cut. */
  fullLength: number
  /** True if the end of an answer is trained on; also for plain text, which is no answer. */
  ended: boolean
  /** Special tokens in the text of the row, those apart that its form puts there. */
  specialTokens: readonly string[]
  /** Assistant turns that are not learned, since they are empty. */
  emptyTurns: number
  /** Assistant turns that are learned without their reasoning, which the chat template leaves out. */
  lostReasoning: number
  path: string
  line: number
  /** Unit of `line`, if not lines. */
  unit?: 'row'
  /** Group of the row, if the data is read with `groupBy`. */
  group?: string
}

/** Prompt format of rows without turns if the model has a chat template; otherwise they are raw text. */
export interface RowPrompting {
  /** Rows of prompt and completion: as a turn of the user and one of the assistant. */
  prompts: boolean
  /** Rows of Alpaca: the same. */
  instructions: boolean
  /** In place of the model's own chat template. */
  template?: string | null
  /** The same as the path of a file, which is read where the rows are. */
  templateFile?: string
  /** `auto` (the default) trains with a template of the package where that equals the one of the prompts. */
  trainingTemplate?: TrainingTemplateChoice
  /** The system prompt before those turns. */
  system?: string | null
}

/** Reason why a row was dropped. */
export type DropReason = 'nothing_to_learn' | 'truncated_away'
