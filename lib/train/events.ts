/** Events of a training run. Lines of JSON have the same fields in snake_case. */

import type { Category, Device, PlanRow } from '../native/addon.js'
import type { PrivacyReport, RoundPrivacy } from '../strategies/privacy-report.js'
import type { BestReport } from './best.js'
import type { Evaluation, PreferenceMetrics } from './evaluate.js'
import type { StepAnswer } from './samples.js'

/** Inputs of the run, before anything else. */
export interface StartEvent {
  event: 'start'
  /** Version of lowrank. */
  version: string
  model: {
    name: string
    /** Content hash of its files. */
    fingerprint: string
  }
  /** The strategy with all its options, by their keys in config files. */
  strategy: Readonly<Record<string, unknown>>
  /** Numbers that train. */
  trainableParameters: number
  data: RunDataFacts
  /** The held-out data; null if there is none. */
  evaluation: RunDataFacts | null
  device: Device
  /** Instruction set that kernels use. */
  level: string
  threads: number
  totalSteps: number
  /** Options that differ from their defaults, by their keys in config files. */
  config: Readonly<Record<string, unknown>>
  /** Command that repeats the run, as far as it is known. */
  command: string | null
  /** Optimizer steps that were made when it was resumed; null for a run from the start. */
  resumedFrom: number | null
}

/** Data of a run. */
export interface RunDataFacts {
  /** Its path, or the name of rows that a program gives; null for a share of the training data. */
  name: string | null
  /** Rows that are used; null for streamed data. */
  rows: number | null
  /** Content hash. */
  hash: string
}

/** The planned memory, before the first step. */
export interface PlanEvent {
  event: 'plan'
  /** Most bytes that the run will hold at once. */
  peakBytes: number
  /** On a GPU, bytes of pinned memory of the host beside them. */
  pinnedBytes?: number
  /** Categories; the rows add up to `peakBytes`. */
  rows: readonly PlanRow[]
  /** Only in private training. */
  privacy?: PrivacyReport
}

/** One optimizer step, after it was made; of a task over pairs, with their metrics. */
export interface TrainStep extends PreferenceMetrics {
  event: 'step'
  /** Optimizer steps so far, from 1. */
  step: number
  totalSteps: number
  /** Passes over the data so far, fractional; of a stream, those that are complete. */
  epoch: number
  /**
   * Mean over the step's supervised tokens before the update, nats; NaN for a round that drew nobody. Of a task over pairs
   * of answers, the loss of the task.
   */
  loss: number
  /** L2 norm of the gradient before clipping; of private training, of the mean with its noise. */
  gradNorm: number
  learningRate: number
  /** Tokens of this step. */
  tokens: number
  /** Tokens with a label. */
  supervisedTokens: number
  tokensPerSecond: number
  /** Estimated time to the end of training, without evaluations. */
  secondsLeft: number
  /** Only after a round of private training. */
  privacy?: RoundPrivacy
}

/** The held-out data was evaluated. */
export interface EvalEvent extends Evaluation {
  event: 'eval'
  /** Optimizer steps made before it; 0 is before the first. */
  step: number
}

/** Held-out rows as the adapter answers them, after an evaluation, where `evalGenerate` asks for it. */
export interface AnswersEvent {
  event: 'answers'
  /** Optimizer steps made before them; 0 is before the first. */
  step: number
  rows: readonly StepAnswer[]
}

/** A checkpoint was saved. */
export interface CheckpointEvent {
  event: 'checkpoint'
  step: number
  /** Its folder. */
  path: string
}

/** Memory held between two steps: before the first, and up to a hundred times in the course of a run. */
export interface MemoryEvent {
  event: 'memory'
  /** Optimizer steps so far. */
  step: number
  /** Bytes allocated by the engine for the whole process, by category. */
  allocated: Readonly<Partial<Record<Category, number>>>
  /** Resident set of the process in bytes. */
  residentBytes: number
}

/** Ranks that an allocating strategy has left, when they have changed; up to fifty times in the course of a run. */
export interface RanksEvent {
  event: 'ranks'
  step: number
  /** By the path of the linear. */
  ranks: Readonly<Record<string, number>>
}

/** The run waits between two steps, after `TrainingRun.pause`. */
export interface PausedEvent {
  event: 'paused'
  /** Optimizer steps so far. */
  step: number
}

/** A run that was paused goes on. */
export interface ResumedEvent {
  event: 'resumed'
  step: number
}

/** The run was ended early by `TrainingRun.stop` or by its signal. */
export interface StoppedEvent {
  event: 'stopped'
  step: number
  /** The checkpoint to resume from; null if there is none. */
  path: string | null
}

/** The run came to its end. */
export interface DoneEvent {
  event: 'done'
  /** Location of the result; null if the run saves nothing. */
  outputDir: string | null
  /** Mean of the steps' losses by their supervised tokens, nats. */
  trainLoss: number
  steps: number
  /** The metric did not improve for `earlyStoppingPatience` evaluations. */
  stoppedEarly?: true
  /** The best evaluation, where there was held-out data. */
  best?: BestReport
  /** Most bytes that the process held resident. */
  peakRssBytes: number
  tokensPerSecond: number
  /** Only in private training. */
  privacy?: PrivacyReport
}

/** One event of a run, told apart by `event`. */
export type TrainEvent =
  | StartEvent
  | PlanEvent
  | MemoryEvent
  | RanksEvent
  | TrainStep
  | EvalEvent
  | AnswersEvent
  | CheckpointEvent
  | PausedEvent
  | ResumedEvent
  | StoppedEvent
  | DoneEvent
