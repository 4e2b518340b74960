/** Options of the methods of `Model`. */

import * as z from 'zod'
import { abortSignal, callback } from '../core/arguments.js'
import { flag, integer, text, word } from '../core/schema.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import { exportSchema, saveSchema } from '../export/options.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { chatTemplateSchema, trainShape } from '../options/options.js'
import type { TrainOptions } from '../options/types.js'
import { DEFAULT_TASK, tasksWhere } from '../tasks/index.js'
import { type GenerateControl, type GenerateOptions, textSchema } from '../train/answers/generate.js'
import { type SamplingOptions, samplingSchema } from '../train/answers/sampled-answers.js'
import { scoreSchema } from '../train/answers/score.js'
import { type HeldOutShare, heldOutSchema } from '../train/rows/held-out.js'
import type { PromptOptions } from '../train/rows/prompting.js'
import { dataShape } from '../train/sources/data-sources.js'
import type { EvaluateProgress } from '../train/steps/evaluate.js'
import type { TrainStep } from '../train/steps/events.js'
import type { Adapter, TrainControl } from './adapter.js'

/**
 * An adapter of a model, by reference or by name, optionally with the weight of its output: default 1; 0 turns it off.
 */
export type AdapterChoice = Adapter | string | { adapter: Adapter | string; weight: number }

/** Options of `Model.attach`. */
export interface AttachOptions extends HubOptions {
  /** Must be unique on the model. Default: the name of the strategy, with a number appended if taken. */
  name?: string
  /** Seed of the random initial values. Default 42. */
  seed?: number
  /**
   * An adapter whose values the new one starts with, as for `Model.loadAdapter`: of the same linears, ranks, and scales.
   * Default null: new values.
   */
  from?: string | null
}

export const attachSchema = z.strictObject({
  name: text('a text').optional(),
  seed: integer(0).default(42),
  from: text('an adapter, a folder, a file, or a name on the hub').nullable().default(null),
  ...hubShape,
})

/** Options of `Model.probe`: those of the training that follows. */
export type ProbeOptions = Partial<TrainOptions> &
  Pick<TrainControl, 'evalDataset' | 'evalFraction' | 'signal' | 'onDataProgress'> & {
    /** Called after every step of the probe. */
    onStep?: (step: TrainStep) => void
  }

export const probeSchema = z.strictObject({
  ...trainShape,
  ...dataShape,
  onStep: callback<NonNullable<ProbeOptions['onStep']>>().optional(),
})

/** Options of `Model.loadAdapter`. */
export interface LoadAdapterOptions extends HubOptions {
  /** Must be unique on the model. Default: the name of the folder or repository, with a number appended if taken. */
  name?: string
  /** Load the adapter for further training. Default false, which needs no memory for gradients. */
  trainable?: boolean
}

export const loadAdapterSchema = z.strictObject({
  name: text('a text').optional(),
  trainable: flag().default(false),
  ...hubShape,
})

/** Options of `Model.evaluate`; names and defaults match those of training. */
export type EvaluateOptions = Partial<
  Pick<
    TrainOptions,
    | 'maxSeqLength'
    | 'perDeviceTrainBatchSize'
    | 'packing'
    | 'trainOn'
    | 'trainOnReasoning'
    | 'trainEmptyThink'
    | 'reasoningHistory'
    | 'trainingTemplate'
    | 'logitsMemory'
  >
> & {
  /** Evaluate only the rows that a run with this `evalFraction` and `seed` held out. Default: all rows. */
  heldOut?: HeldOutShare
  /**
   * True to render rows of prompt and completion with the chat template, or the path of a template to use for all chats.
   * Default: as in the adapter's training, else true.
   */
  chatTemplate?: boolean | string
  /** Adapters to evaluate with. Default: all attached adapters at their weights; `[]` is the base model alone. */
  adapters?: readonly AdapterChoice[]
  signal?: AbortSignal | undefined
  /** Called as the data is read. */
  onDataProgress?: (progress: EncodeProgress) => void
  /** Called after each batch. */
  onProgress?: (progress: EvaluateProgress) => void
}

/** The adapters of a call, resolved by the model. */
const adapters = z.unknown().optional()

/** Options that all evaluations share. */
const evaluationShape = {
  heldOut: heldOutSchema.optional(),
  chatTemplate: chatTemplateSchema.optional(),
  /** Default: as in the adapter's training. */
  trainingTemplate: trainShape.trainingTemplate.removeDefault().optional(),
  adapters,
  signal: abortSignal().optional(),
  onDataProgress: callback<NonNullable<EvaluateOptions['onDataProgress']>>().optional(),
  onProgress: callback<NonNullable<EvaluateOptions['onProgress']>>().optional(),
}
export const evaluateSchema = z.strictObject({
  ...evaluationShape,
  maxSeqLength: trainShape.maxSeqLength,
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
  packing: trainShape.packing,
  trainOn: trainShape.trainOn,
  trainOnReasoning: trainShape.trainOnReasoning,
  trainEmptyThink: trainShape.trainEmptyThink,
  reasoningHistory: trainShape.reasoningHistory,
  logitsMemory: trainShape.logitsMemory,
})

/** Options of `Model.exactMatch`; names and defaults match those of training. */
export type ExactMatchOptions = Partial<
  Pick<
    TrainOptions,
    | 'maxSeqLength'
    | 'trainOn'
    | 'trainOnReasoning'
    | 'trainEmptyThink'
    | 'reasoningHistory'
    | 'trainingTemplate'
  >
> &
  Pick<EvaluateOptions, 'adapters' | 'signal' | 'onDataProgress' | 'onProgress' | 'chatTemplate' | 'heldOut'>

export const exactMatchSchema = z.strictObject({
  ...evaluationShape,
  maxSeqLength: trainShape.maxSeqLength,
  trainOn: trainShape.trainOn,
  trainOnReasoning: trainShape.trainOnReasoning,
  trainEmptyThink: trainShape.trainEmptyThink,
  reasoningHistory: trainShape.reasoningHistory,
})

/** Options of `Model.encodeRows`; names and defaults match those of training. */
export type EncodeRowsOptions = Partial<
  Pick<
    TrainOptions,
    | 'task'
    | 'maxSeqLength'
    | 'trainOn'
    | 'trainOnReasoning'
    | 'trainEmptyThink'
    | 'reasoningHistory'
    | 'chatTemplate'
    | 'trainingTemplate'
  >
> &
  Pick<EvaluateOptions, 'signal' | 'onDataProgress'>

export const encodeRowsSchema = z.strictObject({
  task: word(tasksWhere(({ classes }) => !classes)).default(DEFAULT_TASK),
  maxSeqLength: trainShape.maxSeqLength,
  trainOn: trainShape.trainOn,
  trainOnReasoning: trainShape.trainOnReasoning,
  trainEmptyThink: trainShape.trainEmptyThink,
  reasoningHistory: trainShape.reasoningHistory,
  chatTemplate: trainShape.chatTemplate,
  trainingTemplate: trainShape.trainingTemplate,
  signal: abortSignal().optional(),
  onDataProgress: callback<NonNullable<EvaluateOptions['onDataProgress']>>().optional(),
})

/** Options of `Model.classify`; names and defaults match those of training. */
export type ClassifyOptions = Partial<Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize'>> &
  Pick<EvaluateOptions, 'adapters' | 'signal'>

export const classifySchema = z.strictObject({
  adapters,
  signal: abortSignal().optional(),
  maxSeqLength: trainShape.maxSeqLength,
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
})

/** Options of `Model.generate` and `Model.stream`. */
export type TextOptions = Partial<GenerateOptions> &
  GenerateControl &
  PromptOptions & {
    /** Adapters to generate with. Default: all attached adapters at their weights; `[]` is the base model alone. */
    adapters?: readonly AdapterChoice[]
  }

export const generationSchema = textSchema.extend({ adapters })

/** Options of `Model.sample`. */
export type SampleOptions = Partial<SamplingOptions> &
  Pick<GenerateControl, 'signal'> &
  PromptOptions &
  Pick<TextOptions, 'adapters'>

export const sampleSchema = samplingSchema.extend({ adapters })
export const likelihoodSchema = scoreSchema.extend({ adapters })
export const logitsSchema = z.strictObject({ adapters })
export const saveModelSchema = saveSchema.extend({ adapters })
export const exportModelSchema = exportSchema.extend({ adapters })
