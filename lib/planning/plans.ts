/** Creates the plans of a run from its options alone; shared by `lowrank plan` and the run itself. */

import { ConfigError } from '../core/errors.js'
import { parseBytes, snakeKey } from '../core/schema.js'
import type { AdapterSpec, CardSizes, Device, PlanOptions, Precision } from '../native/addon.js'
import { memoryOptions } from '../options/memory-shape.js'
import { isOfAnswers, isOfGenerated } from '../options/task.js'
import type { TrainingMemory, TrainOptions } from '../options/types.js'
import { adaptedEmbedding } from '../strategies/index.js'
import { type Task, taskRules } from '../tasks/index.js'

/** Names of the plans in a training session. */
export const TRAIN_PLAN = 'train'
export const EVAL_PLAN = 'evaluate'
export const MATCH_PLAN = 'match'
export const ANSWER_PLAN = 'answer'

/** Tokens after which the answer to a sample row is cut. */
export const ANSWER_TOKENS = 64

/** Precision and device of a computation: those of a loaded model, or a GPU that need not be present. */
export interface Computes {
  readonly precision: Precision
  readonly device: Device | CardSizes
}

/** Options that determine the size of plans. */
export type Capacity = TrainingMemory &
  Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'metricForBestModel'> &
  Partial<Pick<TrainOptions, 'task' | 'evalGenerate' | 'tokenAccuracy'>>

/**
 * Plans for training an adapter, and for the evaluations in between.
 * @throws {ConfigError} for activation offloading or keeping attention without gradient checkpointing
 */
export function trainingPlans(
  spec: AdapterSpec,
  options: Capacity,
  on: Computes,
  evaluates: boolean,
): Record<string, PlanOptions> {
  const { name: task, rows, classes, samplesAnswers, reference, plan } = taskRules(options.task)
  const shape = rows.counted ? { ...options, packing: false } : options
  const size = microBatchSize(shape, { answers: rows.paired ? 2 : 1, classifies: classes })
  const own = spec.privacy === 'examples' ? microBatchSize(apart(spec, options)) : size
  const { precision } = on
  const logitsBytes = bytesOfLogits(options, on)
  const countsHits = options.tokenAccuracy ? { countsHits: true } : {}
  const { gradientCheckpointing: recompute, activationOffloading: offload, keepAttention } = options
  for (const [key, { needs }] of memoryOptions) {
    const value = key in options && options[key as keyof TrainingMemory]
    if (!needs || !value || options[needs.option as keyof TrainingMemory]) continue
    throw new ConfigError(`${snakeKey(key)} is on but ${snakeKey(needs.option)} is off; ${needs.else}.`)
  }
  const train: PlanOptions = {
    mode: 'train',
    ...own,
    // Sampled answers fill micro-batches as packed rows do.
    ...(samplesAnswers ? microBatchSize({ ...options, packing: true }) : {}),
    precision,
    logitsBytes,
    recompute,
    offload,
    keepAttention,
    ...(plan.rowWeights ? { rowWeights: true } : {}),
    ...(plan.twoPasses ? { twoPasses: true } : {}),
    ...countsHits,
  }
  // A reference is scored before the first step, and the divergence from it in each step.
  if (!evaluates && reference === null)
    return { [TRAIN_PLAN]: train, ...(samplesAnswers ? answerPlans(task, options, precision) : {}) }
  return {
    [TRAIN_PLAN]: train,
    [EVAL_PLAN]: { mode: 'evaluate', ...size, precision, logitsBytes, ...countsHits },
    ...answerPlans(task, options, precision),
  }
}

/** Plans for the metrics that evaluations compute on answers. */
function answerPlans(
  task: Task,
  { metricForBestModel: metric, maxSeqLength, evalGenerate = 0 }: Capacity,
  precision: Precision,
): Record<string, PlanOptions> {
  const generates = taskRules(task).samplesAnswers || evalGenerate > 0 || isOfGenerated(task, metric)
  // Plans of a session share one cache.
  const capacity = generates ? maxSeqLength + ANSWER_TOKENS : maxSeqLength
  return {
    ...(isOfAnswers(task, metric) ? { [MATCH_PLAN]: exactMatchPlan(maxSeqLength, precision, capacity) } : {}),
    ...(generates ? { [ANSWER_PLAN]: decoderPlan(capacity, precision) } : {}),
  }
}

/** Plans with activations offloaded to a folder. */
export const inFolder = (
  plans: Readonly<Record<string, PlanOptions>>,
  folder: string,
): Record<string, PlanOptions> =>
  Object.fromEntries(
    Object.entries(plans).map(([name, plan]) => [
      name,
      plan.offload ? { ...plan, offloadFolder: folder } : plan,
    ]),
  )

/** The plan of a standalone evaluation. @param classifies true for a classifier */
export function evaluationPlans(
  options: Pick<Capacity, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'logitsMemory'>,
  on: Computes,
  classifies = false,
): Record<string, PlanOptions> {
  const shape = { precision: on.precision, logitsBytes: bytesOfLogits(options, on) }
  return { [EVAL_PLAN]: { mode: 'evaluate', ...microBatchSize(options, { classifies }), ...shape } }
}

/** A GPU reads the whole head for each chunk of logits, so its chunks are larger. */
function bytesOfLogits({ logitsMemory }: Pick<Capacity, 'logitsMemory'>, { device }: Computes): number {
  return parseBytes(logitsMemory) ?? (device === 'cpu' ? 48 : 256) * 2 ** 20
}

/**
 * Options for per-example gradient clipping: unpacked, since gradients are kept separately for each row of a
 * micro-batch. Uses one row at a time when base weights or an embedding are trained, because their gradients are large
 * and computed for the micro-batch as a whole.
 */
export function apart<Options extends Pick<Capacity, 'perDeviceTrainBatchSize' | 'packing'>>(
  spec: Pick<AdapterSpec, 'copies' | 'terms'>,
  options: Options,
): Options {
  const alone = (spec.copies ?? []).length > 0 || adaptedEmbedding(spec) !== undefined
  return { ...options, packing: false, ...(alone ? { perDeviceTrainBatchSize: 1 } : {}) }
}

/** Upper limit on the tokens in a plan. */
const MOST_TOKENS = 2 ** 30

/**
 * @param shape.answers sequences per row
 * @param shape.classifies only the last token of a row is used, and rows are not packed
 */
function microBatchSize(
  options: Pick<Capacity, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing'>,
  { answers = 1, classifies = false } = {},
) {
  const { perDeviceTrainBatchSize: rows, maxSeqLength: length } = options
  const tokens = answers * rows * length
  if (tokens > MOST_TOKENS)
    throw new ConfigError(
      `per_device_train_batch_size is ${rows} and max_seq_length is ${length}, which makes ${tokens} tokens per micro-batch; the limit is ${MOST_TOKENS}. Lower one of them.`,
      { rows, length, most: MOST_TOKENS },
    )
  // A sample has at least two tokens: one to predict, and one to predict it from.
  const sequences =
    options.packing && !classifies ? Math.ceil(tokens / 2) : answers * options.perDeviceTrainBatchSize
  if (classifies) return { tokens, sequences, headRows: sequences }
  return { tokens, sequences, headRows: tokens }
}

/** Prompt tokens per call, after which progress is reported and an abort takes effect. */
export const PREFILL_CHUNK = 512

/**
 * Plan for processing a prompt and generating its answer token by token.
 * @param capacity tokens in the cache: prompt and answer combined
 */
export function decoderPlan(capacity: number, precision: Precision, chunk = PREFILL_CHUNK): PlanOptions {
  return {
    mode: 'forward',
    tokens: Math.min(capacity, chunk),
    sequences: 1,
    headRows: 1,
    kvCapacity: capacity,
    precision,
  }
}

/**
 * Plan for answering several texts side by side.
 * @param capacity tokens in the cache, of all texts together
 * @param texts the most that are answered at once
 */
export function batchPlan(capacity: number, precision: Precision, texts: number): PlanOptions {
  const plan = decoderPlan(capacity, precision)
  return { ...plan, tokens: Math.min(capacity, plan.tokens + texts), headRows: texts }
}

/** Rows are processed one at a time. */
export function exactMatchPlan(
  maxSeqLength: number,
  precision: Precision,
  capacity = maxSeqLength,
): PlanOptions {
  return {
    mode: 'forward',
    tokens: maxSeqLength,
    sequences: 1,
    headRows: maxSeqLength,
    kvCapacity: capacity,
    precision,
  }
}
