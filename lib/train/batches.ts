/** Groups the micro-batches of a dataset into the windows of optimiser steps. */
import type { Batches, MicroBatch } from '../files/pack.js'
import type { DataCursor } from './checkpoint.js'

/** Where micro-batches come from; any of any epoch can be asked for at any time. */
export type BatchSource = Pick<Batches, 'count' | 'get'>

/** The micro-batches of one optimiser step. */
export interface Window {
  batches: MicroBatch[]
  tokens: number
  supervised: number
  /** Passes over the data after this window. */
  epoch: number
  /** Where the next window starts. */
  next: DataCursor
}

/** The windows of a run; none spans two epochs. */
export class Windows {
  constructor(
    private readonly source: BatchSource,
    private readonly accumulation: number,
  ) {}

  /** The window that starts at a place, or at the next epoch when the place is an epoch's end. */
  at(cursor: DataCursor): Window {
    const atEnd = cursor.microBatch >= this.source.count(cursor.epoch)
    const { epoch, microBatch } = atEnd ? { epoch: cursor.epoch + 1, microBatch: 0 } : cursor
    const count = this.source.count(epoch)
    const end = Math.min(count, microBatch + this.accumulation)
    const batches: MicroBatch[] = []
    for (let index = microBatch; index < end; index++) batches.push(this.source.get(epoch, index))
    return {
      batches,
      tokens: batches.reduce((sum, batch) => sum + batch.tokens.length, 0),
      supervised: batches.reduce((sum, batch) => sum + batch.nSupervised, 0),
      epoch: epoch + end / count,
      next: { epoch, microBatch: end },
    }
  }

  /** Optimiser steps of that many epochs, which may be fractional. */
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
