/** Settings that decide the time of a step. */
import type { Precision, StorageFormat } from '../native/addon.js'
import type { TrainingMemory } from '../options/memory-shape.js'
import type { TrainOptions } from '../options/options.js'
import type { StrategyConfig } from '../strategies/strategy.js'

/** Options that determine the time of a micro-batch and of an update; transfers to the disk are not timed. */
export type TimedOptions = Omit<TrainingMemory, 'activationOffloading'> &
  Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>

/** A run as far as its time depends on it. */
export interface StepSetting {
  config: Readonly<Record<string, unknown>>
  /** Storage format of a weight. */
  formatOf: (name: string) => StorageFormat
  precision: Precision
  strategy: StrategyConfig
  options: TimedOptions
}
