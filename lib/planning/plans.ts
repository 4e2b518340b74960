/** The plans of a run, from its options alone: the same ones for `lowrank plan` and for the run itself. */
import { ConfigError } from '../core/errors.js'
import { parseBytes, snakeKey } from '../core/schema.js'
import type { AdapterSpec, CardSizes, Device, PlanOptions, Precision } from '../native/addon.js'
import { memoryOptions, type TrainingMemory } from '../options/memory-shape.js'
import type { TrainOptions } from '../options/options.js'
import { hasPairs, isOfAnswers, isOfGenerated, type Task } from '../options/task.js'
import { adaptedEmbedding } from '../strategies/terms.js'

/** Names of the plans of a training session. */
export const TRAIN_PLAN = 'train'
export const EVAL_PLAN = 'evaluate'
export const MATCH_PLAN = 'match'
export const ANSWER_PLAN = 'answer'

/** Tokens after which the answer to a sample row is cut. */
export const ANSWER_TOKENS = 64

/** Precision and device of a computation: those of a loaded model, or a card that need not be there. */
export interface Computes {
  readonly precision: Precision
  readonly device: Device | CardSizes
}

/** Options that decide the size of plans. */
export type Capacity = TrainingMemory &
  Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'metricForBestModel'> &
  Partial<Pick<TrainOptions, 'task'>>

/**
 * Plans for training an adapter, and for the evaluations between.
 * @throws {ConfigError} for offloading what is not kept between blocks alone, or keeping attention beside all else
 */
export function trainingPlans(
  spec: AdapterSpec,
  options: Capacity,
  on: Computes,
  evaluates: boolean,
): Record<string, PlanOptions> {
  const { task = 'causal_lm' } = options
  const paired = hasPairs(task)
  const classifies = task === 'classification'
  const size = microBatchSize(options, { answers: paired ? 2 : 1, classifies })
  const own = spec.privacy === 'examples' ? microBatchSize(apart(spec, options)) : size
  const { precision } = on
  const logitsBytes = bytesOfLogits(options, on)
  const { gradientCheckpointing: recompute, activationOffloading: offload, keepAttention } = options
  for (const [key, { needs }] of memoryOptions) {
    const value = key in options && options[key as keyof TrainingMemory]
    if (!needs || !value || options[needs.option as keyof TrainingMemory]) continue
    throw new ConfigError(`${snakeKey(key)} is on but ${snakeKey(needs.option)} is off; ${needs.else}.`)
  }
  const train: PlanOptions = {
    mode: 'train',
    ...own,
    precision,
    logitsBytes,
    recompute,
    offload,
    keepAttention,
    ...(paired ? { rowWeights: true, twoPasses: true } : classifies ? { rowWeights: true } : {}),
  }
  // The reference of DPO is evaluated before the first step.
  if (!evaluates && options.task !== 'dpo') return { [TRAIN_PLAN]: train }
  return {
    [TRAIN_PLAN]: train,
    [EVAL_PLAN]: { mode: 'evaluate', ...size, precision, logitsBytes },
    ...answerPlans(task, options, precision),
  }
}

/** Plans for what evaluations measure on answers. */
function answerPlans(
  task: Task,
  { metricForBestModel: metric, maxSeqLength }: Capacity,
  precision: Precision,
): Record<string, PlanOptions> {
  const generates = isOfGenerated(task, metric)
  // Plans of a session share one cache.
  const capacity = generates ? maxSeqLength + ANSWER_TOKENS : maxSeqLength
  return {
    ...(isOfAnswers(task, metric) ? { [MATCH_PLAN]: exactMatchPlan(maxSeqLength, precision, capacity) } : {}),
    ...(generates ? { [ANSWER_PLAN]: decoderPlan(capacity, precision) } : {}),
  }
}

/** Plans whose offloaded activations lie in a folder. */
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

/** The plan of an evaluation on its own. @param classifies it evaluates a classifier */
export function evaluationPlans(
  options: Pick<Capacity, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'packing' | 'logitsMemory'>,
  on: Computes,
  classifies = false,
): Record<string, PlanOptions> {
  const shape = { precision: on.precision, logitsBytes: bytesOfLogits(options, on) }
  return { [EVAL_PLAN]: { mode: 'evaluate', ...microBatchSize(options, { classifies }), ...shape } }
}

/** A GPU reads the whole head for each piece of the logits, so there the pieces are larger. */
function bytesOfLogits({ logitsMemory }: Pick<Capacity, 'logitsMemory'>, { device }: Computes): number {
  return parseBytes(logitsMemory) ?? (device === 'cpu' ? 48 : 256) * 2 ** 20
}

/**
 * Plan of examples whose gradients are clipped separately: unpacked, since gradients are kept for as many as a
 * micro-batch may hold, and one at a time where what trains are weights of the base or factors of an embedding, whose
 * gradients are large and are made for a micro-batch as a whole.
 */
export function apart<Options extends Pick<Capacity, 'perDeviceTrainBatchSize' | 'packing'>>(
  spec: Pick<AdapterSpec, 'copies' | 'terms'>,
  options: Options,
): Options {
  const alone = (spec.copies ?? []).length > 0 || adaptedEmbedding(spec) !== undefined
  return { ...options, packing: false, ...(alone ? { perDeviceTrainBatchSize: 1 } : {}) }
}

/** As many as a plan has room for. */
const MOST_TOKENS = 2 ** 30

/**
 * @param shape.answers sequences that each row has
 * @param shape.classifies only the last token of a row is looked at, and rows are not packed
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
  // A sample has two tokens at least: one to predict and one to predict it from.
  const sequences =
    options.packing && !classifies ? Math.ceil(tokens / 2) : answers * options.perDeviceTrainBatchSize
  if (classifies) return { tokens, sequences, headRows: sequences }
  return { tokens, sequences, headRows: tokens }
}

/** Tokens of a prompt that one call takes: how often progress is told and a stop is heard. */
const PREFILL_CHUNK = 512

/**
 * A prompt, and token after token of its answer.
 * @param capacity tokens of the cache: of prompts with their answers
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

/** One row at a time goes through. */
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
