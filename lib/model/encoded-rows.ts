/** Tokenized data for custom training loops: rows for `forwardBackward`, in the order and groups in which a run takes them. */

import * as z from 'zod'
import { type BaseModel, checkWritesText } from '../base/base.js'
import { badArgument, checkedOptions } from '../core/arguments.js'
import { integer } from '../core/schema.js'
import type { DatasetStats, EncodedDataset } from '../data/encoded-dataset.js'
import { IGNORE } from '../data/encoded-row.js'
import { Batches } from '../data/pack.js'
import type { Pair, Row } from '../losses/token-rows.js'
import { trainShape } from '../options/options.js'
import type { TrainOptions } from '../options/types.js'
import { encodeFile } from '../train/rows/data.js'
import { noteTokens } from '../train/rows/prompting.js'
import { type DatasetArgument, datasetOf } from '../train/sources/data-sources.js'
import { type EncodeRowsOptions, encodeRowsSchema } from './options.js'

/** Options of `EncodedRows.windows`; names and defaults match those of training. */
export interface WindowOptions
  extends Partial<
    Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'gradientAccumulationSteps' | 'packing' | 'seed'>
  > {
  /** The pass over the data, from 0; every pass has another order. Default 0. */
  epoch?: number
}

const windowSchema = z.strictObject({
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
  gradientAccumulationSteps: trainShape.gradientAccumulationSteps,
  packing: trainShape.packing,
  seed: trainShape.seed,
  epoch: integer(0).default(0),
})

/** Rows or pairs of a tokenized dataset, in the order of the data. They are made when they are asked for. */
export class EncodedRows<Item extends Row | Pair = Row> implements Iterable<Item> {
  /** Counts of rows read, dropped, and truncated. */
  readonly stats: DatasetStats
  readonly #data: EncodedDataset
  readonly #maxSeqLength: number

  /** @internal */
  constructor(data: EncodedDataset, maxSeqLength: number) {
    this.stats = data.stats
    this.#data = data
    this.#maxSeqLength = maxSeqLength
  }

  /** Number of rows or pairs. */
  get length(): number {
    return this.#data.length
  }

  /**
   * The row or pair at an index, from 0. Weights are 1 for tokens to learn, else 0.
   * @throws {ConfigError} for an index outside the data
   */
  at(index: number): Item {
    if (!Number.isInteger(index) || index < 0 || index >= this.length)
      throw badArgument(index, 'at()', 'index', `an integer from 0 to ${this.length - 1}`)
    const [ids, labels] = [this.#data.ids(index), this.#data.labels(index)]
    const row = (from: number, to: number): Row => {
      const tokens = ids.slice(from, to)
      noteTokens(tokens, this.#data.format)
      const weights = Uint8Array.from(labels.subarray(from, to), (label, t) =>
        t === 0 || label === IGNORE ? 0 : 1,
      )
      return { tokens, weights }
    }
    const split = this.#data.rowSplit(index)
    if (split !== undefined)
      return { chosen: row(0, split), rejected: row(split, ids.length) } satisfies Pair as Item
    const label = this.#data.rowDesirable(index)
    return { ...row(0, ids.length), ...(label === undefined ? {} : { label }) } satisfies Row as Item
  }

  /** Each row or pair once. */
  *[Symbol.iterator](): Iterator<Item, void, void> {
    for (let index = 0; index < this.length; index++) yield this.at(index)
  }

  /**
   * The optimizer steps of a pass over the data, as `train` makes them: each is a list of micro-batches, which
   * `forwardBackward` takes as its batch.
   * @throws {ConfigError} for an option out of range
   * @example
   * for (const window of data.windows({ perDeviceTrainBatchSize: 2 })) {
   *   await adapter.forwardBackward(window, 'cross_entropy')
   *   await adapter.optimStep({ learningRate: 1e-4, maxGradNorm: 1 })
   * }
   */
  *windows(options: WindowOptions = {}): Generator<Item[][], void, void> {
    const { epoch, gradientAccumulationSteps, ...shape } = checkedOptions(windowSchema, options, 'windows()')
    const batches = new Batches(this.#data, { ...shape, maxSeqLength: this.#maxSeqLength })
    const count = batches.count(epoch)
    for (let from = 0; from < count; from += gradientAccumulationSteps) {
      const to = Math.min(count, from + gradientAccumulationSteps)
      yield Array.from({ length: to - from }, (_, index) =>
        Array.from(batches.rows(epoch, from + index), (row) => this.at(row)),
      )
    }
  }
}

/** Tokenizes a dataset as `train` does. */
export async function encodedRows(
  base: BaseModel,
  data: DatasetArgument,
  options: EncodeRowsOptions,
): Promise<EncodedRows<Row | Pair>> {
  base.lifetime.check()
  const name = 'encodeRows()'
  const { signal, onDataProgress: onProgress, ...how } = checkedOptions(encodeRowsSchema, options, name)
  checkWritesText(base, name)
  const config = datasetOf(data, name)
  if (config.streaming) throw badArgument(true, name, 'data.streaming', 'false: the data is read as a whole')
  const encoded = await base.lifetime.use(() =>
    encodeFile(base, config, how, { signal, onProgress, now: Date.now() }),
  )
  return new EncodedRows(encoded, how.maxSeqLength)
}
