/** Groups the micro-batches of a dataset into the windows of optimizer steps. */
import { createHash, type Hash } from 'node:crypto'
import { ConfigError, DataError } from '../../core/errors.js'
import type { Batches, MicroBatch } from '../../data/pack.js'
import type { TrainOptions } from '../../options/types.js'

/** Random access to the micro-batches of every epoch. */
export type BatchSource = Pick<Batches, 'count' | 'get'>

/** A source that produces micro-batches on demand. */
export interface BatchStream {
  /** Name of the data in error messages. */
  readonly name: string
  /** True if the data can be read more than once. */
  readonly rereadable: boolean
  /**
   * One pass over the data; every pass yields the same rows.
   * @param signal ends the pass, even while it is waiting for a row
   */
  pass(epoch: number, signal: AbortSignal): AsyncGenerator<MicroBatch, void, void>
}

/** The micro-batches of one optimizer step. */
export interface Window {
  batches: MicroBatch[]
  tokens: number
  supervised: number
  /** Passes over the data after this window; for a stream, whose length is unknown, the passes completed before it. */
  epoch: number
  /** Start of the next window. */
  next: DataCursor
}

/** The windows of a run. No window spans two epochs. */
export interface WindowSource {
  /** The window that starts at the cursor, or at the next epoch if the cursor is at the end of one. */
  at(cursor: DataCursor): Promise<Window>
  /** Releases the data. */
  close(): Promise<void>
}

/** The windows of a dataset in memory. */
export class Windows implements WindowSource {
  constructor(
    private readonly source: BatchSource,
    private readonly accumulation: number,
  ) {}

  async at(cursor: DataCursor): Promise<Window> {
    const atEnd = cursor.microBatch >= this.source.count(cursor.epoch)
    const { epoch, microBatch } = atEnd ? { epoch: cursor.epoch + 1, microBatch: 0 } : cursor
    const count = this.source.count(epoch)
    const end = Math.min(count, microBatch + this.accumulation)
    const batches: MicroBatch[] = []
    for (let index = microBatch; index < end; index++) batches.push(this.source.get(epoch, index))
    return windowOf(batches, epoch + end / count, { epoch, microBatch: end })
  }

  async close(): Promise<void> {}

  /** Optimizer steps in `epochs` epochs, which may be fractional. */
  steps(epochs: number): number {
    const whole = Math.floor(epochs)
    let steps = 0
    for (let epoch = 0; epoch < whole; epoch++) steps += this.#stepsOf(epoch)
    const rest = epochs - whole
    return rest > 0 ? steps + Math.ceil(rest * this.#stepsOf(whole)) : steps
  }

  #stepsOf(epoch: number): number {
    return Math.ceil(this.source.count(epoch) / this.accumulation)
  }
}

function windowOf(batches: MicroBatch[], epoch: number, next: DataCursor): Window {
  return {
    batches,
    tokens: batches.reduce((sum, batch) => sum + batch.tokens.length, 0),
    supervised: batches.reduce((sum, batch) => sum + batch.nSupervised, 0),
    epoch,
    next,
  }
}

/** An open pass over the data, and how far it has been read. */
interface Pass {
  epoch: number
  batches: AsyncGenerator<MicroBatch, void, void>
  stop: AbortController
  taken: number
  /** Hash of all micro-batches read so far. */
  hash: Hash
}

/**
 * The windows of a stream, in sequence. To resume at a cursor, the pass is read again up to that position, and
 * the cursor's hash tells whether the data is still the same.
 */
export class StreamWindows implements WindowSource {
  #pass: Pass | undefined

  constructor(
    private readonly source: BatchStream,
    private readonly accumulation: number,
  ) {}

  /**
   * @throws {DataError} when the data has ended and cannot be read again, or a row is invalid
   * @throws {ConfigError} when the data before the cursor has changed
   */
  async at(cursor: DataCursor): Promise<Window> {
    let pass = await this.#passAt(cursor)
    let batches = await take(pass, this.accumulation)
    if (batches.length === 0) {
      pass = await this.#open(cursor.epoch + 1)
      batches = await take(pass, this.accumulation)
    }
    const { epoch, taken: microBatch } = pass
    return windowOf(batches, epoch, { epoch, microBatch, digest: pass.hash.copy().digest('hex') })
  }

  /** Also ends a wait for the next row. */
  async close(): Promise<void> {
    const pass = this.#pass
    this.#pass = undefined
    pass?.stop.abort()
    await pass?.batches.return().catch(() => undefined)
  }

  async #passAt({ epoch, microBatch, digest }: DataCursor): Promise<Pass> {
    if (this.#pass?.epoch === epoch && this.#pass.taken === microBatch) return this.#pass
    const pass = await this.#open(epoch)
    // One at a time, so that skipped micro-batches are not all held in memory.
    while (pass.taken < microBatch && (await take(pass, 1)).length > 0);
    if (pass.taken < microBatch || (digest !== undefined && pass.hash.copy().digest('hex') !== digest))
      throw new ConfigError(
        `${this.source.name} cannot be resumed exactly: ${pass.taken < microBatch ? `it ends after ${pass.taken} micro-batches, and the run was at ${microBatch}` : 'its rows up to the position of the run have changed'}. Pass the stream again from its first row.`,
        { dataset: this.source.name, epoch, microBatch },
      )
    return pass
  }

  async #open(epoch: number): Promise<Pass> {
    const { name, rereadable } = this.source
    await this.close()
    if (epoch > 0 && !rereadable)
      throw new DataError(
        `${name} has ended, and its rows can be read only once; lower max_steps, or pass a source that can be read again (a file, an array, or a function that returns an iterable)`,
        { dataset: name, epoch },
      )
    const stop = new AbortController()
    const batches = this.source.pass(epoch, stop.signal)
    this.#pass = { epoch, batches, stop, taken: 0, hash: createHash('sha256') }
    return this.#pass
  }
}

/** The next `count` micro-batches of a pass; fewer at its end. */
async function take(pass: Pass, count: number): Promise<MicroBatch[]> {
  const taken: MicroBatch[] = []
  while (taken.length < count) {
    const { done, value } = await pass.batches.next()
    if (done) break
    pass.taken++
    pass.hash.update(value.cuSeqlens).update(value.tokens).update(value.labels)
    taken.push(value)
  }
  return taken
}

/** A position in the data: completed epochs, and completed micro-batches of the current one. */
export interface DataCursor {
  epoch: number
  microBatch: number
  /** Hash of this epoch's micro-batches before the cursor, if the data is streamed. */
  digest?: string
}

/**
 * The windows of a run's data, and the number of optimizer steps they make.
 * @param ranks number of ranks that the run started with
 */
export function windowsOf(
  train: BatchSource | BatchStream,
  options: Pick<TrainOptions, 'gradientAccumulationSteps' | 'maxSteps' | 'numTrainEpochs'>,
  ranks: number,
): { windows: WindowSource; totalSteps: number } {
  const { gradientAccumulationSteps, maxSteps, numTrainEpochs } = options
  const accumulation = gradientAccumulationSteps * ranks
  if ('pass' in train) return { windows: new StreamWindows(train, accumulation), totalSteps: maxSteps ?? 0 }
  const windows = new Windows(train, accumulation)
  return { windows, totalSteps: maxSteps ?? windows.steps(numTrainEpochs) }
}
