/** Options of a training run, shared by the API and config files: one schema, names from transformers. */
import * as z from 'zod'
import { flag, integer, numberWithin, positive, word } from '../schema.js'
import { type Optimizer, optimizerSchema } from './optimizers.js'
import { type Schedule, scheduleSchema } from './schedules.js'

/** What is learnt of each sample: the assistant's turns, the last of them, or everything. */
export type TrainOn = 'completions' | 'last' | 'all'

/** Options of a training run. */
export interface TrainOptions {
  /** `adamw`, or what `adamW({ … })` returns. Default adamw. */
  readonly optimizer: Optimizer['type'] | Optimizer
  /** Peak learning rate. Default 2e-4. */
  readonly learningRate: number
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
  /** Optimiser steps after which training ends; overrides `numTrainEpochs` when given. */
  readonly maxSteps: number | null
  /** Sequences of `maxSeqLength` tokens that a micro-batch has room for. Default 4. */
  readonly perDeviceTrainBatchSize: number
  /** Micro-batches per optimiser step. Default 1. */
  readonly gradientAccumulationSteps: number
  /** Tokens after which a sample is cut. Default 512. */
  readonly maxSeqLength: number
  /** Fill a micro-batch with as many samples as fit, rather than `perDeviceTrainBatchSize` of them. Default true. */
  readonly packing: boolean
  /** Which tokens are learnt. Default completions. */
  readonly trainOn: TrainOn
  /** Recompute each block in the backward pass instead of keeping its activations. Default true. */
  readonly gradientCheckpointing: boolean
  /** L2 norm above which the gradient is scaled down; 0 is off. Default 1. */
  readonly maxGradNorm: number
  /** Evaluate after every so many steps; null: only at the end. Default null. */
  readonly evalSteps: number | null
  /** Save a checkpoint after every so many steps; null: none but on interruption. Default null. */
  readonly saveSteps: number | null
  /** Checkpoints to keep, the newest; null keeps all. Default null. */
  readonly saveTotalLimit: number | null
  /** Seeds the data order, dropout and the adapter's initial values. Default 42. */
  readonly seed: number
}

const every = () => integer(1).nullable().default(null)

export const trainShape = {
  optimizer: optimizerSchema.default('adamw').describe('Optimiser, by name or with its settings'),
  learningRate: positive().default(2e-4).describe('Peak learning rate'),
  weightDecay: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
    .default(0)
    .describe('Decoupled weight decay of every trained parameter'),
  lrSchedulerType: scheduleSchema.default('cosine').describe('Learning-rate schedule'),
  warmupRatio: numberWithin(0, 1 - Number.EPSILON, 'a number in [0, 1)')
    .default(0.03)
    .describe('Warm-up as a share of all steps'),
  warmupSteps: integer(0).nullable().default(null).describe('Warm-up in steps; overrides warmup_ratio'),
  numTrainEpochs: positive().default(3).describe('Passes over the data; may be fractional'),
  maxSteps: every().describe('Optimiser steps to make; overrides num_train_epochs'),
  perDeviceTrainBatchSize: integer(1)
    .default(4)
    .describe('Sequences of max_seq_length tokens that a micro-batch has room for'),
  gradientAccumulationSteps: integer(1).default(1).describe('Micro-batches per optimiser step'),
  maxSeqLength: integer(2, 'an integer from 2').default(512).describe('Tokens after which a sample is cut'),
  packing: flag().default(true).describe('Fill a micro-batch with as many samples as fit'),
  trainOn: word(['completions', 'last', 'all']).default('completions').describe('Which tokens are learnt'),
  gradientCheckpointing: flag()
    .default(true)
    .describe('Recompute each block in the backward pass instead of keeping its activations'),
  maxGradNorm: numberWithin(0, Number.MAX_VALUE, 'a number from 0 (0 is off)')
    .default(1)
    .describe('L2 norm above which the gradient is scaled down'),
  evalSteps: every().describe('Evaluate after every so many steps; null: only at the end'),
  saveSteps: every().describe('Save a checkpoint after every so many steps'),
  saveTotalLimit: every().describe('Checkpoints to keep, the newest'),
  seed: integer(0).default(42).describe('Seeds data order, dropout and initial values'),
}

export const trainSchema = z.strictObject(trainShape) satisfies z.ZodType<TrainOptions>
