/**
 * Requests to the text worker and its answers. Errors cross between processes as plain data and are rebuilt on the
 * other side.
 */

import {
  ConfigError,
  DataError,
  type ErrorDetails,
  FileFormatError,
  InternalError,
  LowrankError,
  UnsupportedError,
} from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { GrammarPart } from '../grammar/grammar.js'
import type { GrammarTables, TokenTable } from '../native/addon.js'
import type { TemplateLimits } from '../tokenizer/chat-template.js'
import type { TokenizerOfModel, TokenizerSource } from '../tokenizer/source.js'
import type { ConfigTokens, TokenizerFields } from '../tokenizer/to-gguf.js'
import type { DecodeOptions, StreamOptions, TokenTexts } from '../tokenizer/token-texts.js'
import type { EncodeOptions } from '../tokenizer/tokenizer.js'
import type { SentRows } from './asked-rows.js'
import type { DatasetForm, DatasetRow, Detected } from './dataset.js'
import type { DatasetStats, EncodedChunk } from './encoded-dataset.js'
import type { DropReason, EncodedRow, EncodeRowOptions } from './encoded-row.js'
import type { PromptChat } from './prompt-tools.js'

export interface EncodeJob {
  kind: 'encode'
  /** Files, or the name of rows that the caller sends. */
  input: { paths: readonly string[] } | { rows: string }
  form: DatasetForm
  /** Stop after this many rows, all of which are valid. */
  rowLimit?: number
  /** True to also send rows as questions. */
  asked?: boolean
  /** Approximate number of tokens per chunk. */
  chunkTokens: number
  source: TokenizerSource | TokenizerOfModel
  options: EncodeRowOptions
}

/** Chats that a renderer is sent. */
export interface RenderFeed {
  kind: 'render'
  chats: readonly PromptChat[]
  specialTokens: Record<string, string>
  limits?: TemplateLimits
}

/** Renders the chats that it is sent until the process ends. */
export interface RendererJob {
  kind: 'renderer'
}

/** A tokenizer that answers questions until the process ends. */
export interface TokenizerJob {
  kind: 'tokenizer'
  source: TokenizerOfModel
}

/** A tokenizer converted to GGUF metadata; see `tokenizerToGguf`. */
export interface GgufTokenizerJob {
  kind: 'gguf_tokenizer'
  source: TokenizerOfModel
  rows: number
  config: ConfigTokens
}

export type TextJob = EncodeJob | RendererJob | TokenizerJob | GgufTokenizerJob

/** Properties of a tokenizer that are available without loading it. */
export interface TokenizerAbout {
  vocabSize: number
  eosIds: readonly number[]
  /** The texts of special tokens. */
  specialTexts: readonly string[]
  /** All fields except `tokenizerJson`, which is large. */
  source: TokenizerSource
}

export type TokenizerQuestion =
  | { what: 'encode'; text: string; options: EncodeOptions }
  | { what: 'text'; ids: Int32Array; options: DecodeOptions }
  /** See `TokenTexts`; null if ids cannot be decoded one at a time. */
  | { what: 'texts' }
  /** The next id of a stream; the first id opens the stream. */
  | { what: 'decode'; stream: number; options: StreamOptions; id: number }
  | { what: 'end'; stream: number }
  /** See `Tokenizer.table`. */
  | { what: 'table' }
  /** See `compileGrammar`. */
  | { what: 'grammar'; part: GrammarPart }
  | { what: 'row'; row: DatasetRow; options: EncodeRowOptions }
  /** The options of the first such question apply to all of them. */
  | { what: 'rows'; rows: DatasetRow[]; options: EncodeRowOptions }

/** A row, or why it was dropped, and the prompt format in which it is written. */
export interface FormattedRow {
  encoded: EncodedRow | DropReason
  format: PromptFormat | null
}

export type TokenizerTold =
  | Int32Array
  | string
  | FormattedRow
  | (EncodedRow | DropReason)[][]
  | TokenTable
  | TokenTexts
  | GrammarTables
  | null

/** Messages to a running job. */
export type TextFeed =
  /** A chunk was taken, so another one may be sent. */
  | { kind: 'taken' }
  /** The requested bytes, in answer to `want`. */
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'rows'; rows: unknown[] }
  | { kind: 'end' }
  | { kind: 'ask'; question: TokenizerQuestion }
  | RenderFeed

export type TextAnswer =
  /** Sent once, before the job starts. */
  | { kind: 'started' }
  /** Requests more of the rows or bytes that only the caller can read. */
  | { kind: 'want' }
  | { kind: 'detected'; detected: Detected }
  /** A chunk, with the prompt format and remarks of the rows so far if they have changed. */
  | {
      kind: 'chunk'
      chunk: EncodedChunk
      format?: PromptFormat | null
      asked: SentRows
      remarks?: string[]
    }
  | { kind: 'progress'; rows: number; tokens: number }
  | {
      kind: 'encoded'
      stats: DatasetStats
      usesClock: boolean
      format: PromptFormat | null
      paths: string[]
    }
  /** The text of each chat, or the error of its template. */
  | { kind: 'rendered'; texts: (string | PlainError)[] }
  | { kind: 'gguf_tokenizer'; tokenizer: TokenizerFields }
  | { kind: 'tokenizer'; about: TokenizerAbout }
  /** The result of a question, or its error. */
  | { kind: 'told'; told: TokenizerTold }
  | { kind: 'refused'; error: PlainError }
  | { kind: 'error'; error: PlainError }

export interface PlainError {
  code: string | undefined
  message: string
  details: ErrorDetails
  stack: string | undefined
}

export function toPlainError(error: unknown): PlainError {
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  const known = error instanceof LowrankError
  return { code: known ? error.code : undefined, message, details: known ? error.details : {}, stack }
}

const CLASSES = {
  CONFIG: ConfigError,
  DATA: DataError,
  FILE_FORMAT: FileFormatError,
  UNSUPPORTED: UnsupportedError,
}

export function fromPlainError({ code, message, details, stack }: PlainError): LowrankError {
  const Class = CLASSES[code as keyof typeof CLASSES]
  const error = Class
    ? new Class(message, details)
    : new InternalError(`the text worker failed: ${message}`, details)
  if (stack !== undefined) error.stack = stack
  return error
}
