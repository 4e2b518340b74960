/**
 * The text side as the rest of the program sees it: datasets tokenised and chats rendered in a worker thread, which
 * can be stopped at any moment and whose memory has a limit.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { DataError, FileFormatError, InternalError } from '../errors.js'
import { here } from '../here.cjs'
import { packageRoot } from '../root.js'
import type { ChatMessage, RenderOptions, TemplateLimits } from './chat-template.js'
import type { DatasetFormat } from './dataset.js'
import type { EncodeRowOptions } from './encode.js'
import { type EncodedChunk, EncodedDataset } from './encoded-dataset.js'
import { fromPlainError, type TextAnswer, type TextJob } from './text-jobs.js'
import { specialTokensOf, type TokenizerSource } from './tokenizer.js'
import type { TokenizerOfModel } from './tokenizer-source.js'

export interface EncodeDatasetOptions extends EncodeRowOptions {
  /** Default `auto`: by the keys of the first row. */
  format?: DatasetFormat | 'auto'
}

export interface EncodeProgress {
  /** Rows read so far. */
  rows: number
  /** Tokens kept so far. */
  tokens: number
}

export interface EncodeControl {
  /** Stops the work; the promise is then rejected with the signal's reason. */
  signal?: AbortSignal
  /** Called about ten times a second. */
  onProgress?: (progress: EncodeProgress) => void
}

/** Heap of a worker; a vocabulary of 260,000 tokens takes about 300 MB. */
const ENCODE_MEGABYTES = 4096
const RENDER_MEGABYTES = 256

/**
 * Reads and tokenises a dataset.
 * @param source a tokenizer, or the model whose tokenizer the worker reads itself (which keeps it out of this thread)
 * @throws DataError when a row cannot be used or none has anything to learn, FileFormatError when a file or the chat
 * template is at fault, ConfigError for an option out of range.
 */
export async function encodeDataset(
  paths: string | readonly string[],
  source: TokenizerSource | TokenizerOfModel,
  options: EncodeDatasetOptions,
  control: EncodeControl = {},
): Promise<EncodedDataset> {
  const list = [paths].flat() as string[]
  const { format = 'auto', ...rowOptions } = options
  const now = rowOptions.now ?? new Date()
  const chunks: EncodedChunk[] = []
  const job: TextJob = { kind: 'encode', paths: list, format, source, options: { ...rowOptions, now } }
  const done = await runJob(job, 'encoded', ENCODE_MEGABYTES, control.signal, (answer) => {
    if (answer.kind === 'chunk') chunks.push(answer.chunk)
    if (answer.kind === 'progress') control.onProgress?.({ rows: answer.rows, tokens: answer.tokens })
  })
  const { stats, usesClock } = done
  control.onProgress?.({ rows: stats.rows, tokens: stats.tokens })
  if (chunks.length === 0) {
    const where = list.join(', ')
    throw new DataError(
      stats.rows === 0
        ? `${where} holds no rows; expected JSON Lines, one example per line`
        : `none of the ${stats.rows} rows of ${where} has anything to learn; of ${stats.droppedByTruncation} the part to learn lies beyond max_seq_length ${options.maxSeqLength}`,
      { paths: list, ...stats },
    )
  }
  return new EncodedDataset(chunks, { stats, usesClock, now: now.getTime(), paths: list })
}

/**
 * The prompt text of a conversation by the model's chat template. It begins with the BOS if the template says so:
 * tokenise it with `addSpecialTokens: false`.
 * @throws DataError when there is no template or it refuses the messages, FileFormatError when it is broken or exceeds
 * a limit.
 */
export async function renderChat(
  source: TokenizerSource,
  messages: readonly ChatMessage[],
  options: RenderOptions & { limits?: TemplateLimits; signal?: AbortSignal } = {},
): Promise<string> {
  const { limits, signal, ...renderOptions } = options
  const template = (options.tools ? source.namedTemplates?.tool_use : undefined) ?? source.chatTemplate
  if (template === undefined)
    throw new DataError('the model has no chat template; give the prompt as text instead')
  const job: TextJob = {
    kind: 'render',
    template,
    specialTokens: specialTokensOf(source),
    messages,
    options: renderOptions,
    ...(limits ? { limits } : {}),
  }
  const { text } = await runJob(job, 'rendered', RENDER_MEGABYTES, signal)
  return text
}

type AnswerOf<Kind> = Extract<TextAnswer, { kind: Kind }>

/** Runs a job to its last answer, which is of the kind `last`. */
function runJob<Kind extends 'encoded' | 'rendered'>(
  job: TextJob,
  last: Kind,
  megabytes: number,
  signal: AbortSignal | undefined,
  onAnswer?: (answer: TextAnswer) => void,
): Promise<AnswerOf<Kind>> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const worker = new Worker(workerFile(), {
      workerData: job,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: megabytes },
    })
    const abort = () => settle(() => reject(signal?.reason))
    const settle = (how: () => void) => {
      signal?.removeEventListener('abort', abort)
      worker.removeAllListeners()
      // Whatever happens to the worker while it is being stopped no longer matters.
      worker.on('error', () => {})
      void worker.terminate().then(how)
    }
    signal?.addEventListener('abort', abort)
    worker.on('message', (answer: TextAnswer) => {
      if (answer.kind === 'error') settle(() => reject(fromPlainError(answer.error)))
      else if (answer.kind === last) settle(() => resolve(answer as AnswerOf<Kind>))
      else {
        try {
          onAnswer?.(answer)
        } catch (error) {
          settle(() => reject(error))
        }
      }
    })
    worker.on('error', (error) => settle(() => reject(workerError(error, megabytes))))
    worker.on('exit', (code) =>
      settle(() => reject(new InternalError(`the text worker ended early (${code})`, { code }))),
    )
  })
}

function workerError(error: Error, megabytes: number): Error {
  if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new FileFormatError(
      `the chat template or the tokenizer needed more than ${megabytes} MiB of memory and was stopped`,
      { megabytes },
      { cause: error },
    )
  }
  return new InternalError(`the text worker failed: ${error.message}`, {}, { cause: error })
}

/** Beside this file when compiled; sources that are run directly use the compiled one. */
function workerFile(): string {
  const beside = join(here, 'files', 'text-worker.js')
  return existsSync(beside) ? beside : join(packageRoot, 'dist', 'esm', 'files', 'text-worker.js')
}
