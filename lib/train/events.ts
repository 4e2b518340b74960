/** Events of a training run. Lines of JSON have the same fields in snake_case. */

import type { PlanRow } from '../native/addon.js'
import type { PrivacyReport, RoundPrivacy } from '../strategies/privacy-report.js'
import type { BestReport } from './best.js'
import type { Evaluation } from './evaluate.js'

/** The planned memory, before the first step. */
export interface PlanEvent {
  event: 'plan'
  /** Most bytes that the run will hold at once. */
  peakBytes: number
  /** Categories; the rows add up to `peakBytes`. */
  rows: readonly PlanRow[]
  /** Only in private training. */
  privacy?: PrivacyReport
}

/** One optimizer step, after it was made. */
export interface TrainStep {
  event: 'step'
  /** Optimizer steps so far, from 1. */
  step: number
  totalSteps: number
  /** Passes over the data so far, fractional; of a stream, those that are complete. */
  epoch: number
  /** Mean over the step's supervised tokens before the update, nats; NaN for a round that drew nobody. */
  loss: number
  /** L2 norm of the gradient before clipping; of private training, of the mean with its noise. */
  gradNorm: number
  learningRate: number
  /** Tokens of this step. */
  tokens: number
  /** Those with a label. */
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

/** A checkpoint was saved. */
export interface CheckpointEvent {
  event: 'checkpoint'
  step: number
  /** Its folder. */
  path: string
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
  /** Mean over the supervised tokens of all steps, nats. */
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
  | PlanEvent
  | TrainStep
  | EvalEvent
  | CheckpointEvent
  | PausedEvent
  | ResumedEvent
  | StoppedEvent
  | DoneEvent
