/**
 * Tokenizes datasets in a worker process, which can be stopped at any moment and has a memory limit.
 */

import { DataError } from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import type { TokenizerOfModel, TokenizerSource } from '../tokenizer/source.js'
import { type AskedRow, AskedRowReader } from './asked-rows.js'
import { type DatasetForm, type Detected, STDIN, STDIN_NAME } from './dataset.js'
import { type DatasetStats, type EncodedChunk, EncodedDataset } from './encoded-dataset.js'
import type { EncodeRowOptions } from './encoded-row.js'
import { RowFeed } from './row-feed.js'
import { canIterateAgain, type RowSource } from './row-source.js'
import { TextCall } from './text-call.js'
import type { TextJob } from './text-jobs.js'

export type EncodeDatasetOptions = EncodeRowOptions & DatasetForm

/** Files, folders, patterns and `-`; or rows from a program, with their name in messages. */
export type DatasetInput = string | readonly string[] | { rows: RowSource; name: string }

/** Progress of reading data. */
export interface EncodeProgress {
  /** Rows read so far. */
  rows: number
  /** Tokens kept so far. */
  tokens: number
}

export interface EncodeControl {
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  /** Called about ten times a second. */
  onProgress?: ((progress: EncodeProgress) => void) | undefined
  /** Stop after this many rows. */
  rowLimit?: number
  /** Approximate number of tokens per chunk. */
  chunkTokens?: number
  /** Called before a chunk when the prompt format of the rows so far has changed. */
  onFormat?: (format: PromptFormat | null) => void
  /** Called before a chunk when there are new remarks: all remarks on the rows so far, one sentence each. */
  onRemarks?: (remarks: readonly string[]) => void
  /** Called before a chunk with those of its rows that can be asked. */
  onAsked?: ((rows: readonly AskedRow[]) => void) | undefined
}

/** Summary after all rows are read. */
export interface EncodeSummary {
  stats: DatasetStats
  usesClock: boolean
  /** Prompt format of the rows; null without rows. */
  format: PromptFormat | null
  /** Current time as seen by templates, in milliseconds since 1970. */
  now: number
  /** Files of the kept rows, as often as they are listed; chunks refer to them by index. */
  paths: string[]
  detected: Detected | undefined
}

const CHUNK_TOKENS = 1 << 18
/** Heap limit of a worker in MB; a vocabulary of 260,000 tokens takes about 300 MB. */
const ENCODE_MEGABYTES = 2048

/**
 * Reads and tokenizes a dataset in chunks. Reading stays at most a few chunks ahead of the caller, and stops
 * when the caller leaves the generator.
 * @param source a tokenizer, or a model whose tokenizer the worker reads itself, which keeps it out of this
 * thread
 * @throws {DataError} when a row is invalid; FileFormatError when a file or the chat template is invalid;
 * ConfigError for an option out of range
 */
export async function* encodeChunks(
  input: DatasetInput,
  source: TokenizerSource | TokenizerOfModel,
  options: EncodeDatasetOptions,
  control: EncodeControl = {},
): AsyncGenerator<EncodedChunk, EncodeSummary, void> {
  const {
    format = 'auto',
    fileType = 'auto',
    columns = {},
    header = true,
    encoding = 'auto',
    ...others
  } = options
  const { groupBy, spellings, ...rowOptions } = others
  const { stripLabels = false } = rowOptions
  const now = rowOptions.now ?? new Date()
  const ofProgram = typeof input === 'object' && 'rows' in input
  const job: TextJob = {
    kind: 'encode',
    input: ofProgram ? { rows: input.name } : { paths: [input].flat() as string[] },
    form: {
      format,
      fileType,
      columns,
      header,
      encoding,
      stripLabels,
      ...(groupBy === undefined ? {} : { groupBy }),
      ...(spellings === undefined ? {} : { spellings }),
    },
    source,
    options: { ...rowOptions, now },
    chunkTokens: control.chunkTokens ?? CHUNK_TOKENS,
    ...(control.onAsked === undefined ? {} : { asked: true }),
    ...(control.rowLimit === undefined ? {} : { rowLimit: control.rowLimit }),
  }
  const call = new TextCall(job, ENCODE_MEGABYTES, control.signal)
  const feed = ofProgram ? RowFeed.ofRows(input.rows, input.name) : RowFeed.ofStdin()
  const asked = new AskedRowReader()
  let detected: Detected | undefined
  try {
    for (;;) {
      const answer = await call.next()
      if (answer.kind === 'want') void feed.answer(call)
      else if (answer.kind === 'detected') detected = answer.detected
      else if (answer.kind === 'progress') control.onProgress?.({ rows: answer.rows, tokens: answer.tokens })
      else if (answer.kind === 'chunk') {
        if (answer.format !== undefined) control.onFormat?.(answer.format)
        if (answer.remarks !== undefined) control.onRemarks?.(answer.remarks)
        control.onAsked?.(asked.read(answer.asked))
        yield answer.chunk
        call.send({ kind: 'taken' })
      } else if (answer.kind === 'encoded') {
        const { stats, usesClock, format, paths } = answer
        control.onFormat?.(format)
        control.onProgress?.({ rows: stats.rows, tokens: stats.tokens })
        return { stats, usesClock, format, paths, now: now.getTime(), detected }
      }
    }
  } finally {
    feed.close()
    await call.close()
  }
}

/**
 * Reads and tokenizes a whole dataset, like `encodeChunks`.
 * @throws {DataError} also when there are no rows, or no row has trained tokens
 */
export async function encodeDataset(
  input: DatasetInput,
  source: TokenizerSource | TokenizerOfModel,
  options: EncodeDatasetOptions,
  control: EncodeControl = {},
): Promise<EncodedDataset> {
  const chunks: EncodedChunk[] = []
  const reading = encodeChunks(input, source, options, control)
  for (;;) {
    const { done, value } = await reading.next()
    if (done) {
      checkLearnable(input, value.stats, options)
      return new EncodedDataset(chunks, { ...value, wholeRows: options.reasoningHistory === 'drop' })
    }
    chunks.push(value)
  }
}

/** @throws {DataError} when no row has trained tokens, or no row trains the end of an answer */
export function checkLearnable(
  input: DatasetInput,
  stats: DatasetStats,
  { maxSeqLength, unended = 'error' }: Pick<EncodeRowOptions, 'maxSeqLength' | 'unended'>,
): void {
  const where = inputName(input)
  const refused = (message: string) => new DataError(message, { paths: namesOf(input), ...stats })
  if (stats.rows === 0) throw noRows(input)
  if (stats.examples === 0)
    throw refused(
      `none of the ${stats.rows} rows of ${where} has a token to train on; in ${stats.droppedByTruncation} of them, max_seq_length truncates that part; it is ${maxSeqLength}`,
    )
  if (stats.ended === 0 && unended === 'error')
    throw refused(
      `none of the ${stats.examples} examples of ${where} teaches the model to stop: max_seq_length ${maxSeqLength} cuts all of them before the end of an answer; raise it, or train without an end with unended: allow`,
    )
}

export function noRows(input: DatasetInput): DataError {
  return new DataError(
    `${inputName(input)} holds no rows; expected one example per line, record or element`,
    {
      paths: namesOf(input),
      rows: 0,
    },
  )
}

function namesOf(input: DatasetInput): string[] {
  const paths = typeof input === 'object' && 'rows' in input ? [input.name] : ([input].flat() as string[])
  return paths.map((path) => (path === STDIN ? STDIN_NAME : path))
}

/** Name of the data in messages. */
export function inputName(input: DatasetInput): string {
  return namesOf(input).join(', ')
}

/** True if the data can be read again. */
export function canReread(input: DatasetInput): boolean {
  if (typeof input === 'object' && 'rows' in input) return canIterateAgain(input.rows)
  return !([input].flat() as string[]).includes(STDIN)
}
