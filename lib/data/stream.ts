/**
 * Streamed datasets: rows are tokenized as needed, shuffled in a buffer and packed into micro-batches. Memory
 * holds only the buffer and the micro-batches packed together, regardless of the length of the data. The order
 * is a function of the data, the seed and the epoch, so a pass can be repeated.
 */

import { type EncodedChunk, EncodedDataset } from './encoded-dataset.js'
import { IGNORE } from './encoded-row.js'
import { type BatchOptions, type MicroBatch, packBestFit } from './pack.js'
import { ascending, drawBelow, shuffle } from './permutation.js'

/** Ids of a row: `id` for trained tokens, `~id` for others. */
export type StreamRow = Int32Array

/** Approximate number of micro-batches packed together: more pack better, but wait for more rows. */
const PACKED_TOGETHER = 16

/**
 * The rows of chunks, copied so that a row does not keep its whole chunk in memory.
 * @returns the return value of `chunks`
 */
export async function* rowsOfChunks<Summary>(
  chunks: AsyncGenerator<EncodedChunk, Summary, void>,
): AsyncGenerator<StreamRow, Summary, void> {
  try {
    for (;;) {
      const { done, value } = await chunks.next()
      if (done) return value
      const rows = EncodedDataset.of(value)
      for (let row = 0; row < rows.length; row++) {
        const labels = rows.labels(row)
        yield rows.ids(row).map((id, i) => (labels[i] === IGNORE ? ~id : id))
      }
    }
  } finally {
    await chunks.return(undefined as never)
  }
}

/**
 * Shuffles like `datasets`: fills a buffer, replaces a random row of it by each new row, and yields the rest in
 * random order at the end. A size of 1 keeps the order.
 * @param counters determine the random draws
 */
export async function* shuffleBuffer<T>(
  items: AsyncIterable<T>,
  size: number,
  ...counters: number[]
): AsyncGenerator<T, void, void> {
  const buffer: T[] = []
  let drawn = 0
  for await (const item of items) {
    if (buffer.length < size) {
      buffer.push(item)
      continue
    }
    const place = drawBelow(size, ...counters, drawn++)
    const given = buffer[place] as T
    buffer[place] = item
    yield given
  }
  for (const place of shuffle(ascending(buffer.length), ...counters, drawn)) yield buffer[place] as T
}

export type StreamBatchOptions = Pick<
  BatchOptions,
  'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'seed'
>

/**
 * Micro-batches of rows: a fixed number of rows each, or with `packing` as many as fit, by best fit among the
 * rows packed together. The rows of the least full bin carry over to the next packing.
 */
export async function* streamBatches(
  rows: AsyncIterable<StreamRow>,
  { perDeviceTrainBatchSize: batch, maxSeqLength, packing, seed }: StreamBatchOptions,
  epoch: number,
): AsyncGenerator<MicroBatch, void, void> {
  const capacity = batch * maxSeqLength
  let waiting: StreamRow[] = []
  let tokens = 0
  let packings = 0
  for await (const row of rows) {
    waiting.push(row)
    tokens += row.length
    if (packing ? tokens < PACKED_TOGETHER * capacity : waiting.length < batch) continue
    const bins = packing ? packed(waiting, capacity, seed, epoch, packings++) : [waiting]
    waiting = packing ? (bins.pop() as StreamRow[]) : []
    tokens = waiting.reduce((sum, { length }) => sum + length, 0)
    for (const bin of bins) yield microBatch(bin)
  }
  if (waiting.length === 0) return
  const bins = packing ? packed(waiting, capacity, seed, epoch, packings) : [waiting]
  for (const bin of bins) yield microBatch(bin)
}

/** Bins in random order, except that the emptiest one comes last. */
function packed(rows: readonly StreamRow[], capacity: number, ...counters: number[]): StreamRow[][] {
  const bins = packBestFit(
    ascending(rows.length),
    (index) => (rows[index] as StreamRow).length,
    capacity,
  ).map((bin) => bin.map((index) => rows[index] as StreamRow))
  const filled = bins.map((bin) => bin.reduce((sum, { length }) => sum + length, 0))
  const emptiest = filled.indexOf(Math.min(...filled))
  const [last] = bins.splice(emptiest, 1)
  const order = shuffle(ascending(bins.length), ...counters)
  return [...Array.from(order, (bin) => bins[bin] as StreamRow[]), last as StreamRow[]]
}

function microBatch(rows: readonly StreamRow[]): MicroBatch {
  const cuSeqlens = new Int32Array(rows.length + 1)
  for (const [i, { length }] of rows.entries()) cuSeqlens[i + 1] = (cuSeqlens[i] as number) + length
  const tokens = new Int32Array(cuSeqlens[rows.length] as number)
  const labels = new Int32Array(tokens.length).fill(IGNORE)
  let nSupervised = 0
  for (const [i, row] of rows.entries()) {
    const start = cuSeqlens[i] as number
    for (const [j, marked] of row.entries()) {
      tokens[start + j] = marked < 0 ? ~marked : marked
      if (j === 0 || marked < 0) continue
      labels[start + j - 1] = marked
      nSupervised++
    }
  }
  return { tokens, labels, cuSeqlens, nSupervised }
}
