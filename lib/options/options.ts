/** Options of a training run, shared by the API and config files: one schema, with names from transformers. */

import * as z from 'zod'
import { flag, integer, numberWithin, positive, toFileKeys, word } from '../core/schema.js'
import { metricName, metricSchema } from '../tasks/metrics.js'
import { rewardNames } from '../tasks/rewards.js'
import { trainingMemory } from './memory-shape.js'
import { scheduleSchema } from './schedules.js'
import { taskShape } from './task.js'
import type { Optimizer, TrainOptions } from './types.js'

/** Whether to use the chat template, or the path of another template. */
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
  trainingTemplate: word(['auto', 'own'])
    .default('auto')
    .describe(
      "`auto` renders chats with a template of lowrank where one [equals the model's own](data.md#training-templates) on single answers; `own` always uses the model's.",
    ),
  reasoningHistory: word(['keep', 'drop'])
    .default('keep')
    .describe(
      '`keep` trains a chat as one example, with the reasoning that its template renders; `drop` makes [an example of every answer](data.md#reasoning), in which earlier turns have no reasoning, as in use.',
    ),
  trainOnReasoning: flag().default(true).describe('Train on the reasoning of assistant turns.'),
  trainEmptyThink: flag()
    .default(false)
    .describe(
      'Train on the empty `<think>` block of answers without reasoning, instead of taking it as part of the prompt.',
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
  evalGenerate: integer(0)
    .default(0)
    .describe('Held-out rows that each evaluation also answers, by greedy generation of at most 64 tokens.'),
  loadBestModelAtEnd: flag()
    .default(false)
    .describe(
      'Keep the adapter of the best evaluation instead of the last step. Its checkpoint is saved regardless of `save_steps`. Requires `eval_steps`.',
    ),
  metricForBestModel: metricSchema,
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

/** Options by their keys in config files; a metric and rewards of the program's own by their names. */
export function fileOptions(options: Partial<TrainOptions>): Record<string, unknown> {
  const { metricForBestModel: metric, rewardFunctions: rewards } = options
  const named = {
    ...(metric === undefined ? {} : { metricForBestModel: metricName(metric) }),
    ...(rewards ? { rewardFunctions: rewardNames(rewards) } : {}),
  }
  return toFileKeys(trainSchema, { ...options, ...named }) as Record<string, unknown>
}

/** Options of a run whose strategy is known, with defaults resolved. */
export interface RunOptions extends TrainOptions {
  readonly optimizer: Optimizer['type'] | Optimizer
  readonly learningRate: number
}
