/** Options of the methods of a model. */
import * as z from 'zod'
import { abortSignal, callback } from '../core/arguments.js'
import { flag, integer, text } from '../core/schema.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import { exportSchema, saveSchema } from '../export/options.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { chatTemplateSchema, type TrainOptions, trainShape } from '../options/options.js'
import { dataShape } from '../train/dataset.js'
import type { EvaluateProgress } from '../train/evaluate.js'
import type { TrainStep } from '../train/events.js'
import { type GenerateControl, type GenerateOptions, textSchema } from '../train/generate.js'
import { type HeldOutShare, heldOutSchema } from '../train/held-out.js'
import type { PromptOptions } from '../train/prompting.js'
import { scoreSchema } from '../train/score.js'
import type { Adapter, TrainControl } from './adapter.js'

/** An adapter on a model, itself or its name, and what its output counts for: 1 where nothing is said, 0 is off. */
export type AdapterChoice = Adapter | string | { adapter: Adapter | string; weight: number }

/** Options of `Model.attach`. */
export interface AttachOptions {
  /** Unlike that of any other adapter on the model. Default: of the strategy, with a number if need be. */
  name?: string
  /** Seed of the random initial values. Default 42. */
  seed?: number
}

export const attachSchema = z.strictObject({
  name: text('a text').optional(),
  seed: integer(0).default(42),
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
  /** Unlike that of any other adapter on the model. Default: of the folder, with a number if need be. */
  name?: string
  /** True if it will be trained further. The default, false, needs no memory for gradients. */
  trainable?: boolean
}

export const loadAdapterSchema = z.strictObject({
  name: text('a text').optional(),
  trainable: flag().default(false),
  ...hubShape,
})

/** Options of `Model.evaluate`; names and defaults are those of training. */
export type EvaluateOptions = Partial<
  Pick<TrainOptions, 'maxSeqLength' | 'perDeviceTrainBatchSize' | 'packing' | 'trainOn' | 'logitsMemory'>
> & {
  /** Evaluate only the rows that a run with this `evalFraction` and `seed` held out. Default: all rows. */
  heldOut?: HeldOutShare
  /**
   * True if rows of prompt and completion go through the chat template, or the path of another one for all chats.
   * Default: as the adapter was trained, else true.
   */
  chatTemplate?: boolean | string
  /** Adapters to evaluate with; default all that are attached at their weights, and `[]` is the base alone. */
  adapters?: readonly AdapterChoice[]
  signal?: AbortSignal
  /** Called while the data is read. */
  onDataProgress?: (progress: EncodeProgress) => void
  /** Called after every batch. */
  onProgress?: (progress: EvaluateProgress) => void
}

/** The adapters of a call; which they are is read by the model. */
const adapters = z.unknown().optional()

/** Options that all evaluations share. */
const evaluationShape = {
  heldOut: heldOutSchema.optional(),
  chatTemplate: chatTemplateSchema.optional(),
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
  logitsMemory: trainShape.logitsMemory,
})

/** Options of `Model.exactMatch`; names and defaults are those of training. */
export type ExactMatchOptions = Partial<Pick<TrainOptions, 'maxSeqLength' | 'trainOn'>> &
  Pick<EvaluateOptions, 'adapters' | 'signal' | 'onDataProgress' | 'onProgress' | 'chatTemplate' | 'heldOut'>

export const exactMatchSchema = z.strictObject({
  ...evaluationShape,
  maxSeqLength: trainShape.maxSeqLength,
  trainOn: trainShape.trainOn,
})

/** Options of `Model.classify`; names and defaults are those of training. */
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
    /** Adapters to generate with; default all that are attached at their weights, and `[]` is the base alone. */
    adapters?: readonly AdapterChoice[]
  }

export const generationSchema = textSchema.extend({ adapters })
export const likelihoodSchema = scoreSchema.extend({ adapters })
export const logitsSchema = z.strictObject({ adapters })
export const saveModelSchema = saveSchema.extend({ adapters })
export const exportModelSchema = exportSchema.extend({ adapters })
