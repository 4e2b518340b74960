/**
 * The thread that tokenises datasets and runs chat templates, so that the event loop stays free and a template cannot
 * stop the program. It has one job, given as workerData, answers by messages and ends.
 */

import { parentPort, workerData } from 'node:worker_threads'
import { InternalError } from '../errors.js'
import { ChatTemplate } from './chat-template.js'
import { openDataset } from './dataset.js'
import { RowEncoder } from './encode.js'
import { ChunkBuilder, type DatasetStats } from './encoded-dataset.js'
import { type EncodeJob, type RenderJob, type TextAnswer, type TextJob, toPlainError } from './text-jobs.js'

/** Tokens that are sent at once. */
const CHUNK_TOKENS = 1 << 18
const PROGRESS_MILLISECONDS = 100

function answer(message: TextAnswer, transfer: ArrayBuffer[] = []): void {
  if (!parentPort) throw new InternalError('text-worker was loaded outside a worker thread')
  parentPort.postMessage(message, transfer)
}

async function encode({ paths, format, source, options }: EncodeJob): Promise<void> {
  const encoder = new RowEncoder(source, options)
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
  let reported = performance.now()
  for await (const row of openDataset(paths, { format })) {
    stats.rows++
    const encoded = encoder.encode(row)
    if (typeof encoded === 'string') {
      stats.dropped++
      if (encoded === 'truncated_away') stats.droppedByTruncation++
    } else {
      const { inputIds, labels, supervised, truncated } = encoded
      chunk.add(inputIds, labels, supervised, fileOf.get(row.path) ?? 0, row.line)
      stats.tokens += inputIds.length
      stats.supervisedTokens += supervised
      if (truncated) stats.truncated++
      if (chunk.tokens >= CHUNK_TOKENS) send()
    }
    if (performance.now() - reported >= PROGRESS_MILLISECONDS) {
      reported = performance.now()
      answer({ kind: 'progress', rows: stats.rows, tokens: stats.tokens })
    }
  }
  if (chunk.rows > 0) send()
  answer({ kind: 'encoded', stats, usesClock: encoder.usesClock })
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
