/**
 * The thread that tokenises datasets and runs chat templates, so that the event loop stays free and a template cannot
 * stop the program. It has one job, given as workerData, answers by messages and ends.
 */

import { parentPort, workerData } from 'node:worker_threads'
import { InternalError } from '../errors.js'
import { ChatTemplate, DEFAULT_TEMPLATE_LIMITS, withinTime } from './chat-template.js'
import { type DatasetRow, openDataset } from './dataset.js'
import { type DropReason, type EncodedRow, RowEncoder } from './encode.js'
import { ChunkBuilder, type DatasetStats } from './encoded-dataset.js'
import { type EncodeJob, type RenderJob, type TextAnswer, type TextJob, toPlainError } from './text-jobs.js'
import { readTokenizerSource } from './tokenizer-source.js'

/** Tokens that are sent at once. */
const CHUNK_TOKENS = 1 << 18
const PROGRESS_MILLISECONDS = 100

function answer(message: TextAnswer, transfer: ArrayBuffer[] = []): void {
  if (!parentPort) throw new InternalError('text-worker was loaded outside a worker thread')
  parentPort.postMessage(message, transfer)
}

async function encode({ paths, format, source, options }: EncodeJob): Promise<void> {
  const encoder = new RowEncoder('kind' in source ? await readTokenizerSource(source) : source, options)
  const stats: DatasetStats = {
    rows: 0,
    dropped: 0,
    droppedByTruncation: 0,
    truncated: 0,
    tokens: 0,
    supervisedTokens: 0,
  }
  const fileOf = new Map(paths.map((path, index) => [path, index]))
  let chunk = new ChunkBuilder()
  const send = () => {
    const built = chunk.build()
    const buffers = Object.values(built).map((array) => (array as Int32Array<ArrayBuffer>).buffer)
    answer({ kind: 'chunk', chunk: built }, buffers)
    chunk = new ChunkBuilder()
  }
  const keep = (encoded: EncodedRow | DropReason) => {
    stats.rows++
    if (typeof encoded === 'string') {
      stats.dropped++
      if (encoded === 'truncated_away') stats.droppedByTruncation++
      return
    }
    const { inputIds, labels, supervised, truncated, path, line } = encoded
    chunk.add(inputIds, labels, supervised, fileOf.get(path) ?? 0, line)
    stats.tokens += inputIds.length
    stats.supervisedTokens += supervised
    if (truncated) stats.truncated++
    if (chunk.tokens >= CHUNK_TOKENS) send()
  }
  const { milliseconds } = options.templateLimits ?? DEFAULT_TEMPLATE_LIMITS
  let reported = performance.now()
  for await (const rows of grouped(openDataset(paths, { format }))) {
    const encodeAll = () => rows.map((row) => encoder.encode(row))
    const chats = rows[0]?.format === 'messages'
    // Where all together take longer than one may, each has a limit of its own, and an error that names it.
    const encoded = (chats ? withinTime(milliseconds, encodeAll)?.value : undefined) ?? encodeAll()
    encoded.forEach(keep)
    if (performance.now() - reported >= PROGRESS_MILLISECONDS) {
      reported = performance.now()
      answer({ kind: 'progress', rows: stats.rows, tokens: stats.tokens })
    }
  }
  if (chunk.rows > 0) send()
  answer({ kind: 'encoded', stats, usesClock: encoder.usesClock })
}

/** Chats that are encoded under one time limit. */
const GROUP_ROWS = 32

async function* grouped(rows: AsyncIterable<DatasetRow>): AsyncGenerator<DatasetRow[], void, void> {
  let group: DatasetRow[] = []
  for await (const row of rows) {
    group.push(row)
    if (row.format === 'messages' && group.length < GROUP_ROWS) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}

function render({ template, specialTokens, messages, options, limits }: RenderJob): void {
  answer({
    kind: 'rendered',
    text: new ChatTemplate(template, specialTokens, limits).render(messages, options),
  })
}

async function work(job: TextJob): Promise<void> {
  try {
    if (job.kind === 'encode') await encode(job)
    else render(job)
  } catch (error) {
    answer({ kind: 'error', error: toPlainError(error) })
  }
}

void work(workerData as TextJob)
