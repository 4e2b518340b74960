/** Settings that determine the time of a step. */

import type { Precision, StorageFormat } from '../native/addon.js'
import type { TrainingMemory, TrainOptions } from '../options/types.js'
import type { StrategyConfig } from '../strategies/strategy.js'

/** Options that determine the time of a micro-batch and of an update; disk transfers are not timed. */
export type TimedOptions = Omit<TrainingMemory, 'activationOffloading'> &
  Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>

/** The properties of a run on which its step time depends. */
export interface StepSetting {
  config: Readonly<Record<string, unknown>>
  /** Storage format of a weight. */
  formatOf: (name: string) => StorageFormat
  precision: Precision
  strategy: StrategyConfig
  options: TimedOptions
}
