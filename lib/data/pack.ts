/**
 * Micro-batches: whole rows, concatenated without padding and separated by their bounds. The rows of each
 * micro-batch depend only on seed and epoch, so any position of any epoch can be computed directly.
 */

import { ConfigError, DataError, InternalError } from '../core/errors.js'
import type { EncodedDataset } from './encoded-dataset.js'
import { ascending, shuffle } from './permutation.js'

export interface MicroBatch {
  /** `[T]`: ids of all sequences. Positions start at 0 in each sequence. */
  tokens: Int32Array
  /** `[T]`: the next id, or -100 if it is not trained on and at the end of each sequence. */
  labels: Int32Array
  /** `[n + 1]`: sequence i is tokens `cuSeqlens[i]` to `cuSeqlens[i + 1]`. */
  cuSeqlens: Int32Array
  /** Number of labels other than -100. */
  nSupervised: number
  /** Rows of the dataset, if they hold preferences or prompts. A pair of answers is one row of two sequences. */
  rows?: Uint32Array
}

export interface BatchOptions {
  /** Most rows, or pairs of answers, in a micro-batch. With `packing`, it only sets the capacity. */
  perDeviceTrainBatchSize: number
  /** Longest row; a micro-batch has at most this many tokens times the batch size. */
  maxSeqLength: number
  /** True to fill micro-batches with as many rows as fit. */
  packing: boolean
  /** Shuffle every epoch differently; otherwise rows keep the order of the dataset. Default true. */
  shuffle?: boolean
  seed: number
  /** The rows to use, e.g. of a split. Default: all. */
  rows?: Uint32Array
}

/** Upper limits over all micro-batches of all epochs, used to plan memory. */
export interface BatchLimits {
  tokens: number
  sequences: number
  supervised: number
}

/** Rows are packed within windows of an epoch of this length, so that the order stays random. */
const WINDOW = 4096

export class Batches {
  readonly limits: BatchLimits
  readonly #data: EncodedDataset
  readonly #rows: Uint32Array
  readonly #options: BatchOptions
  readonly #capacity: number
  #epoch: EpochPlan | undefined

  /** @throws {DataError} when there are no rows; ConfigError for an option out of range */
  constructor(data: EncodedDataset, options: BatchOptions) {
    const { perDeviceTrainBatchSize: batch, maxSeqLength, seed } = options
    for (const [key, value] of Object.entries({
      per_device_train_batch_size: batch,
      max_seq_length: maxSeqLength,
    })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new ConfigError(`${key} must be an integer of at least 1, not ${value}`, { [key]: value })
      }
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new ConfigError(`seed must be an integer of at least 0, not ${seed}`, { seed })
    }
    this.#data = data
    this.#options = options
    this.#rows = options.rows ?? ascending(data.length)
    if (this.#rows.length === 0) throw new DataError('the dataset has no rows to train on')
    const total = this.#rows.reduce((tokens, row) => tokens + data.rowLength(row), 0)
    this.#capacity = Math.min(batch * maxSeqLength * (data.paired ? 2 : 1), total)
    this.limits = this.#limits()
  }

  /** Number of micro-batches in an epoch; epochs count from 0. */
  count(epoch: number): number {
    return this.#plan(epoch).starts.length - 1
  }

  /** Rows of a micro-batch, in order. */
  rows(epoch: number, index: number): Uint32Array {
    const { order, starts } = this.#plan(epoch)
    if (!(index >= 0 && index + 1 < starts.length)) {
      throw new InternalError(
        `epoch ${epoch} has ${starts.length - 1} micro-batches, so there is no micro-batch ${index}`,
      )
    }
    return order.subarray(starts[index], starts[index + 1])
  }

  /** Any micro-batch of any epoch, in any order. */
  get(epoch: number, index: number): MicroBatch {
    const rows = this.rows(epoch, index)
    const bounds = [0]
    for (const row of rows) {
      const start = bounds.at(-1) as number
      const split = this.#data.rowSplit(row)
      if (split !== undefined) bounds.push(start + split)
      bounds.push(start + this.#data.rowLength(row))
    }
    const cuSeqlens = Int32Array.from(bounds)
    const total = cuSeqlens.at(-1) as number
    const tokens = new Int32Array(total)
    const labels = new Int32Array(total)
    let nSupervised = 0
    let offset = 0
    for (const row of rows) {
      offset += this.#data.copyShifted(row, tokens, labels, offset)
      nSupervised += this.#data.rowSupervised(row)
    }
    const { paired, judged, prompts } = this.#data
    const own = paired || judged || prompts ? { rows: rows.slice() } : {}
    return { tokens, labels, cuSeqlens, nSupervised, ...own }
  }

  #plan(epoch: number): EpochPlan {
    if (this.#epoch?.epoch !== epoch) this.#epoch = this.#makePlan(epoch)
    return this.#epoch
  }

  #makePlan(epoch: number): EpochPlan {
    const { seed, packing, perDeviceTrainBatchSize } = this.#options
    const shuffled = this.#options.shuffle ?? true
    const order = this.#rows.slice()
    if (shuffled) shuffle(order, seed, epoch)
    if (!packing) return { epoch, order, starts: everyNth(order.length, perDeviceTrainBatchSize) }
    const starts = [0]
    for (let from = 0; from < order.length; from += WINDOW) {
      const window = order.subarray(from, from + WINDOW)
      let bins = packBestFit(window, (row) => this.#data.rowLength(row), this.#capacity)
      // Packing sorts by length; shuffle, so that steps do not depend on it.
      if (shuffled) {
        const packed = bins
        bins = Array.from(
          shuffle(ascending(packed.length), seed, epoch, from + 1),
          (bin) => packed[bin] as number[],
        )
      }
      let position = from
      for (const bin of bins) {
        order.set(bin, position)
        position += bin.length
        starts.push(position)
      }
    }
    return { epoch, order, starts: Uint32Array.from(starts) }
  }

  #limits(): BatchLimits {
    const { packing, perDeviceTrainBatchSize: batch } = this.#options
    const lengths = Uint32Array.from(this.#rows, (row) => this.#data.rowLength(row)).sort()
    const supervised = Uint32Array.from(this.#rows, (row) => this.#data.rowSupervised(row)).sort()
    const largest = (sorted: Uint32Array) => sum(sorted.subarray(Math.max(0, sorted.length - batch)))
    if (!packing) {
      return {
        tokens: largest(lengths),
        sequences: Math.min(batch, lengths.length),
        supervised: largest(supervised),
      }
    }
    const total = sum(lengths)
    const tokens = Math.min(total, Math.max(this.#capacity, lengths.at(-1) as number))
    // As many of the shortest rows as fit.
    let sequences = 0
    for (let filled = 0; sequences < lengths.length; sequences++) {
      filled += lengths[sequences] as number
      if (filled > tokens) break
    }
    return { tokens, sequences, supervised: Math.min(sum(supervised), tokens - 1) }
  }
}

interface EpochPlan {
  epoch: number
  order: Uint32Array
  /** `[batches + 1]`: start of each micro-batch in `order`. */
  starts: Uint32Array
}

function sum(values: Uint32Array): number {
  return values.reduce((total, value) => total + value, 0)
}

function everyNth(count: number, step: number): Uint32Array {
  return Uint32Array.from({ length: Math.ceil(count / step) + 1 }, (_, index) =>
    Math.min(index * step, count),
  )
}

/**
 * Best-fit decreasing: places rows from longest to shortest, each into the fullest bin with enough room. Rows
 * of equal length keep their order. A row longer than the capacity gets its own bin.
 */
export function packBestFit(
  rows: Uint32Array,
  lengthOf: (row: number) => number,
  capacity: number,
): number[][] {
  const sorted = Array.from(rows, (row) => ({ row, length: lengthOf(row) })).sort(
    (a, b) => b.length - a.length,
  )
  const bins: number[][] = []
  // Bins with room, by the size of the room.
  const roomy = new Rooms(capacity)
  for (const { row, length } of sorted) {
    const room = roomy.smallest(length)
    if (room === undefined) {
      roomy.add(Math.max(0, capacity - length), bins.length)
      bins.push([row])
    } else {
      const bin = roomy.take(room)
      bins[bin]?.push(row)
      roomy.add(room - length, bin)
    }
  }
  return bins
}

/** Bins by free space, with a tree of the sizes that occur: finding the best bin takes log(capacity) steps. */
class Rooms {
  readonly #leaves: number
  readonly #counts: Uint32Array
  readonly #bins = new Map<number, number[]>()

  constructor(capacity: number) {
    this.#leaves = 1 << (32 - Math.clz32(capacity))
    this.#counts = new Uint32Array(2 * this.#leaves)
  }

  add(room: number, bin: number): void {
    const bins = this.#bins.get(room)
    if (bins) bins.push(bin)
    else this.#bins.set(room, [bin])
    for (let node = room + this.#leaves; node > 0; node >>= 1) (this.#counts[node] as number)++
  }

  /** Takes the bin that first got this much room. */
  take(room: number): number {
    for (let node = room + this.#leaves; node > 0; node >>= 1) (this.#counts[node] as number)--
    return this.#bins.get(room)?.shift() as number
  }

  /** The smallest room of size `least` or more. */
  smallest(least: number): number | undefined {
    if (least >= this.#leaves) return undefined
    let node = least + this.#leaves
    if (this.#counts[node]) return least
    // Go up to the first right sibling with anything below it, then down to its smallest leaf.
    while (node > 1 && (node % 2 === 1 || !this.#counts[node + 1])) node >>= 1
    if (node <= 1) return undefined
    node++
    while (node < this.#leaves) node = this.#counts[2 * node] ? 2 * node : 2 * node + 1
    return node - this.#leaves
  }
}

export interface HeldOutOptions {
  /** Share of the rows, between 0 and 1; alternative to `count`. */
  fraction?: number
  /** Number of rows. */
  count?: number
  seed: number
}

/**
 * Holds out rows for evaluation. The selection depends only on the seed and the number of rows.
 * @param what name for the rows in messages
 * @returns row indices, both in ascending order
 * @throws {ConfigError} when no rows would be left for training, or none would be held out
 */
export function splitHeldOut(
  rows: number,
  { fraction, count, seed }: HeldOutOptions,
  what = 'rows',
): { train: Uint32Array; heldOut: Uint32Array } {
  const wanted = count ?? Math.round((fraction ?? 0) * rows)
  if (!Number.isInteger(wanted) || wanted < 1 || wanted >= rows) {
    throw new ConfigError(
      `cannot hold out ${count === undefined ? `the fraction ${fraction}` : count} of ${rows} ${what}: at least one must be held out and one be left to train on`,
      { rows, fraction, count },
    )
  }
  const order = shuffle(ascending(rows), seed, HELD_OUT)
  return { heldOut: order.slice(0, wanted).sort(), train: order.slice(wanted).sort() }
}

/**
 * Holds out whole groups, such as all rows of a client: no group is split.
 * @param groups `[rows]`: the group of each row
 * @param what name for the groups in messages
 */
export function splitHeldOutGroups(
  groups: Uint32Array,
  options: HeldOutOptions,
  what = 'groups of rows',
): { train: Uint32Array; heldOut: Uint32Array } {
  const distinct = [...new Set(groups)]
  const { heldOut } = splitHeldOut(distinct.length, options, what)
  const held = new Set(Array.from(heldOut, (index) => distinct[index]))
  const rows = ascending(groups.length)
  const isHeld = (row: number) => held.has(groups[row])
  return { train: rows.filter((row) => !isHeld(row)), heldOut: rows.filter(isHeld) }
}

/** Separates this random order from those of epochs. */
const HELD_OUT = 2 ** 52
