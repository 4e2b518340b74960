/** Options of a training run, shared by the API and config files: one schema, names from transformers. */
import * as z from 'zod'
import { flag, integer, numberWithin, positive, word } from '../core/schema.js'
import { type TrainingMemory, trainingMemory } from './memory-shape.js'
import type { Optimizer } from './optimizers.js'
import { type Schedule, scheduleSchema } from './schedules.js'
import { type TaskOptions, taskShape } from './task.js'

/** Trained part of each sample: the assistant's turns, the last of them, or everything. */
export type TrainOn = 'completions' | 'last' | 'all'

export const METRICS = ['loss', 'perplexity', 'exact_match', 'accuracy', 'f1'] as const

/**
 * Metric for comparing evaluations: the mean loss, its exponential, or the share of rows answered word for word; of a
 * classifier the share of rows whose class is predicted, or the mean F1 of the classes.
 */
export type Metric = (typeof METRICS)[number]

/** Options of a training run. */
export interface TrainOptions extends TrainingMemory, TaskOptions {
  /** Peak learning rate. Default null: the strategy's own, which `lowrank strategies` lists. */
  readonly learningRate: number | null
  /** Decoupled weight decay of every trained parameter. Default 0. */
  readonly weightDecay: number
  /** Name of a schedule, or what `cosine({ … })` returns. Default cosine. */
  readonly lrSchedulerType: Exclude<Schedule['type'], 'warmup_stable_decay'> | Schedule
  /** Warm-up as a share of all steps, in [0, 1). Default 0.03. */
  readonly warmupRatio: number
  /** Warm-up in steps; overrides `warmupRatio` when given. */
  readonly warmupSteps: number | null
  /** Passes over the data; may be fractional. Default 3. */
  readonly numTrainEpochs: number
  /** Optimizer steps after which training ends; overrides `numTrainEpochs` when given. */
  readonly maxSteps: number | null
  /** Sequences of `maxSeqLength` tokens that a micro-batch has room for. Default 4. */
  readonly perDeviceTrainBatchSize: number
  /** Micro-batches per optimizer step. Default 1. */
  readonly gradientAccumulationSteps: number
  /** Tokens after which a sample is cut. Default 512. */
  readonly maxSeqLength: number
  /** Fill a micro-batch with as many samples as fit, rather than `perDeviceTrainBatchSize` of them. Default true. */
  readonly packing: boolean
  /** Tokens that are trained on. Default completions. */
  readonly trainOn: TrainOn
  /**
   * Put rows of prompt and completion, and of Alpaca, into the chat template of the model, where it has one, as a turn
   * of the user and one of the assistant. false trains them as raw text. The path of a `.jinja` file is a template for
   * all chats in place of the model's own. Default true.
   */
  readonly chatTemplate: boolean | string
  /**
   * Share of every label that goes to the whole vocabulary alike, in [0, 1); evaluations report the loss without it.
   * Default 0.
   */
  readonly labelSmoothingFactor: number
  /**
   * NEFTune: uniform noise on the embeddings of a row of L tokens and width d, within alpha / sqrt(L d), in training only
   * (arXiv 2310.05914). Default null: none.
   */
  readonly neftuneNoiseAlpha: number | null
  /** L2 norm above which the gradient is scaled down; 0 is off. Default 1. */
  readonly maxGradNorm: number
  /** Evaluate after every so many steps, beside the start and the end; null: only then. Default null. */
  readonly evalSteps: number | null
  /** Keep the adapter of the best evaluation rather than that of the last step. Needs `evalSteps`. Default false. */
  readonly loadBestModelAtEnd: boolean
  /** Metric for comparing evaluations. Default loss. */
  readonly metricForBestModel: Metric
  /** Follows from the metric; a value that contradicts it is refused. Default null. */
  readonly greaterIsBetter: boolean | null
  /**
   * End the run after so many evaluations in a row without improvement; null never does. Needs `evalSteps`. Default
   * null.
   */
  readonly earlyStoppingPatience: number | null
  /** Smallest improvement that counts for `earlyStoppingPatience`. Default 0. */
  readonly earlyStoppingThreshold: number
  /** Save a checkpoint after every so many steps; null: none but on interruption. Default null. */
  readonly saveSteps: number | null
  /** Checkpoints to keep: the newest, and with `loadBestModelAtEnd` the best; null keeps all. Default null. */
  readonly saveTotalLimit: number | null
  /** Seeds the data order, dropout and the adapter's initial values. Default 42. */
  readonly seed: number
}

/** Whether the chat template is used, or the file of another one. */
const CHAT_TEMPLATE = 'true, false, or the path of a .jinja file'
export const chatTemplateSchema = z.union(
  [z.boolean(), z.string().regex(/\.(jinja2?|j2)$/, { error: CHAT_TEMPLATE })],
  { error: CHAT_TEMPLATE },
)

const every = () => integer(1).nullable().default(null)

const { optimizer, optimizerInBackward, ...kept } = trainingMemory

export const trainShape = {
  ...taskShape,
  optimizer,
  optimizerInBackward,
  learningRate: positive()
    .nullable()
    .default(null)
    .describe('Peak learning rate. `null`: the default of the strategy, listed by `lowrank strategies`.'),
  weightDecay: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
    .default(0)
    .describe('Decoupled weight decay of all trained parameters.'),
  lrSchedulerType: scheduleSchema
    .default('cosine')
    .describe('Learning-rate schedule, by name or with settings.'),
  warmupRatio: numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
    .default(0.03)
    .describe('Warm-up as a share of all steps.'),
  warmupSteps: integer(0).nullable().default(null).describe('Warm-up in steps; overrides `warmup_ratio`.'),
  numTrainEpochs: positive().default(3).describe('Passes over the data; may be fractional.'),
  maxSteps: every().describe('Number of optimizer steps; overrides `num_train_epochs`.'),
  perDeviceTrainBatchSize: integer(1).default(4).describe('Rows of `max_seq_length` tokens per micro-batch.'),
  gradientAccumulationSteps: integer(1).default(1).describe('Micro-batches per optimizer step.'),
  maxSeqLength: integer(2, 'an integer from 2')
    .default(512)
    .describe('Maximum tokens of a row; longer rows are truncated.'),
  packing: flag()
    .default(true)
    .describe('Fill a micro-batch with as many rows as fit, instead of `per_device_train_batch_size` rows.'),
  trainOn: word(['completions', 'last', 'all'])
    .default('completions')
    .describe(
      'Tokens to train on: completions and all assistant turns, only the last assistant turn, or all tokens.',
    ),
  chatTemplate: chatTemplateSchema
    .default(true)
    .describe(
      'Render rows of `prompt` and `completion`, and Alpaca rows, with the chat template of the model, if it has one. `false` trains on raw text. The path of a `.jinja` file renders all chats with that template instead.',
    ),
  labelSmoothingFactor: numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
    .default(0)
    .describe(
      'Share of every label that goes to the whole vocabulary alike. Evaluations report the loss without it.',
    ),
  neftuneNoiseAlpha: positive()
    .nullable()
    .default(null)
    .describe(
      'Noise on the embeddings in training (NEFTune), uniform within `alpha / sqrt(L d)` for a row of `L` tokens and a model of width `d`; 5 is usual.',
    ),
  ...kept,
  maxGradNorm: numberWithin(0, Number.MAX_VALUE, 'a number from 0 (0 is off)')
    .default(1)
    .describe('L2 norm to which gradients are clipped. 0 is off.'),
  evalSteps: every().describe(
    'Steps between evaluations of held-out data. Default: only at the start and at the end.',
  ),
  loadBestModelAtEnd: flag()
    .default(false)
    .describe(
      'Keep the adapter of the best evaluation instead of the last step. Its checkpoint is saved regardless of `save_steps`. Requires `eval_steps`.',
    ),
  metricForBestModel: word(METRICS)
    .default('loss')
    .describe(
      'Metric that evaluations are compared by: the loss, its exponential, or the share of rows answered word for word, which takes an extra pass; with task `classification` also accuracy, or the mean F1 of the classes.',
    ),
  greaterIsBetter: flag()
    .nullable()
    .default(null)
    .describe('Implied by the metric. A value that contradicts it is an error.'),
  earlyStoppingPatience: every().describe(
    'End the run after this many consecutive evaluations without improvement. Requires `eval_steps`.',
  ),
  earlyStoppingThreshold: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
    .default(0)
    .describe('Minimum improvement that counts for `early_stopping_patience`.'),
  saveSteps: every().describe('Steps between checkpoints. Default: only when the run is interrupted.'),
  saveTotalLimit: every().describe(
    'Maximum number of checkpoints to keep: the newest, and with `load_best_model_at_end` the best.',
  ),
  seed: integer(0)
    .default(42)
    .describe('Seed of the data order, dropout, the held-out split, and the initial values of the adapter.'),
}

export const trainSchema = z.strictObject(trainShape) satisfies z.ZodType<TrainOptions>

/** Options of a run whose strategy is known. */
export interface RunOptions extends TrainOptions {
  readonly optimizer: Optimizer['type'] | Optimizer
  readonly learningRate: number
}
