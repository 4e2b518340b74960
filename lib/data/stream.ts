/**
 * Datasets that are not held: rows are tokenized as they are needed, shuffled in a buffer and packed into
 * micro-batches. Memory holds the buffer and the micro-batches of one packing, regardless of the length of the data.
 * The order is a function of the data, the seed and the epoch, so a pass can be made again.
 */

import { type EncodedChunk, EncodedDataset } from './encoded-dataset.js'
import { IGNORE } from './encoded-row.js'
import { type BatchOptions, type MicroBatch, packBestFit } from './pack.js'
import { ascending, drawBelow, shuffle } from './permutation.js'

/** Ids of a row: as they are where they are learned, and as `~id` elsewhere. */
export type StreamRow = Int32Array

/** Micro-batches that are packed together, about: more pack better, and wait for more rows. */
const PACKED_TOGETHER = 16

/**
 * The rows of chunks, each a copy, so that one row does not keep its neighbors in memory.
 * @returns what the chunks return
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
 * Shuffles as `datasets` does: a buffer is filled, each row that comes takes the place of one drawn at random, and what
 * is left at the end is given in a random order. A size of 1 keeps the order.
 * @param counters the same ones draw the same rows
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
 * Micro-batches of rows: so many rows each, or with `packing` as many as fit, by best fit among those that are packed
 * together. The rows of a bin that is not full go on to the next packing.
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

/** Bins in a random order, but for the one with the most room, which is the last. */
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
