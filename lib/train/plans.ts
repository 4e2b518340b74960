/** The plans of a run, from its options alone: the same ones for `lowrank plan` and for the run itself. */
import type { PlanOptions, Precision } from '../native/addon.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { TrainOptions } from './options.js'

/** Names of the plans of a training session. */
export const TRAIN_PLAN = 'train'
export const EVAL_PLAN = 'evaluate'

type Capacity = Pick<
  TrainOptions,
  'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'gradientCheckpointing'
>

/** Plans for training by a strategy, and for the evaluations between. */
export function trainingPlans(
  strategy: StrategyConfig,
  options: Capacity,
  precision: Precision,
  evaluates: boolean,
): Record<string, PlanOptions> {
  const size = microBatchSize(options)
  // Gradients of single examples are kept for each that a micro-batch may hold, so they are not packed.
  const single = rulesOf(strategy).privacy?.(strategy)?.privacyUnit === 'example'
  const own = single ? microBatchSize({ ...options, packing: false }) : size
  const train: PlanOptions = { mode: 'train', ...own, precision, recompute: options.gradientCheckpointing }
  return evaluates
    ? { [TRAIN_PLAN]: train, [EVAL_PLAN]: { mode: 'evaluate', ...size, precision } }
    : { [TRAIN_PLAN]: train }
}

/** The plan of an evaluation on its own. */
export function evaluationPlans(
  options: Pick<Capacity, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>,
  precision: Precision,
): Record<string, PlanOptions> {
  return { [EVAL_PLAN]: { mode: 'evaluate', ...microBatchSize(options), precision } }
}

function microBatchSize(options: Pick<Capacity, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>) {
  const tokens = options.perDeviceTrainBatchSize * options.maxSeqLength
  // A sample has two tokens at least: one to predict and one to predict it from.
  const sequences = options.packing ? Math.ceil(tokens / 2) : options.perDeviceTrainBatchSize
  return { tokens, sequences, headRows: tokens }
}
