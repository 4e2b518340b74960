/** Events of a training run. JSON lines have the same fields in snake_case. */

import type { Category, Device, PlanRow } from '../../native/addon.js'
import type { PrivacyReport, RoundPrivacy } from '../../strategies/privacy-report.js'
import type { BestReport } from './best.js'
import type { Evaluation, PreferenceMetrics, RewardMetrics } from './evaluate.js'

/** The inputs of the run; the first event. */
export interface StartEvent {
  event: 'start'
  /** Version of lowrank. */
  version: string
  model: {
    name: string
    /** Content hash of its files. */
    fingerprint: string
  }
  /** The strategy with all its options, keyed as in config files. */
  strategy: Readonly<Record<string, unknown>>
  /** Its name in the literature. */
  strategyLabel: string
  /** Number of trainable parameters. */
  trainableParameters: number
  /** Classes in the order of their ids, for a classifier. */
  labels?: readonly string[]
  data: RunDataFacts
  /** The held-out data; null if there is none. */
  evaluation: RunDataFacts | null
  device: Device
  /** Instruction set used by the kernels. */
  level: string
  threads: number
  totalSteps: number
  /** Options that differ from their defaults, keyed as in config files. */
  config: Readonly<Record<string, unknown>>
  /** Command that repeats the run; null if unknown. */
  command: string | null
  /** Optimizer steps already made when the run was resumed; null for a run from the start. */
  resumedFrom: number | null
}

/** Data of a run. */
export interface RunDataFacts {
  /** Path of the data, or name of a program's rows; null for a share of the training data. */
  name: string | null
  /** Number of rows used; null for streamed data. */
  rows: number | null
  /** Content hash. */
  hash: string
}

/** A learning rate chosen before the run. */
export interface RateSearch {
  learningRate: number
  /** Why it is the default of the strategy instead of a result of the search; null if it is one. */
  reason: string | null
  /** Rates tried in short runs, ascending, and their held-out loss, nats; null if it is not finite. */
  rates: readonly { rate: number; loss: number | null }[]
  /** Optimizer steps that the search took. */
  steps: number
  seconds: number
}

/** The learning rate was chosen by `learning_rate: auto`. */
export interface RateEvent extends RateSearch {
  event: 'rate'
}

/** The planned memory, before the first step. */
export interface PlanEvent {
  event: 'plan'
  /** Most bytes that the run holds at once. */
  peakBytes: number
  /** On a GPU: bytes of pinned host memory, in addition. */
  pinnedBytes?: number
  /** Resident bytes of the process before it opened the model: Node.js and the program. */
  runtimeBytes: number
  /** Bytes by category; the rows add up to `peakBytes`. */
  rows: readonly PlanRow[]
  /** Only in private training. */
  privacy?: PrivacyReport
}

/** One completed optimizer step; for preference tasks and `grpo`, with their metrics. */
export interface TrainStep extends PreferenceMetrics, RewardMetrics {
  event: 'step'
  /** Optimizer steps so far, from 1. */
  step: number
  totalSteps: number
  /** Fractional passes over the data so far; for a stream, completed passes. */
  epoch: number
  /**
   * Mean over the step's supervised tokens before the update, nats; NaN for a round that sampled no clients.
   * For preference pairs and `grpo`, the loss of the task.
   */
  loss: number
  /** L2 norm of the gradient before clipping; in private training, of the noisy mean. */
  gradNorm: number
  learningRate: number
  /** Tokens of this step. */
  tokens: number
  /** Tokens with a label. */
  supervisedTokens: number
  tokensPerSecond: number
  /** Estimated time until training ends, without evaluations. */
  secondsLeft: number
  /** Only after a round of private training. */
  privacy?: RoundPrivacy
}

/** The held-out data was evaluated. */
export interface EvalEvent extends Evaluation {
  event: 'eval'
  /** Optimizer steps made before the evaluation; 0 is before the first step. */
  step: number
}

/** A held-out row with the greedy answer of the adapter at some step. */
export interface StepAnswer {
  prompt: string
  /** The system prompt of the row. */
  system: string | null
  /** Form in which the row was asked: through the chat template, or as raw text; absent if it is the adapter's default. */
  form?: 'chat' | 'raw'
  /** Names of the row's tools; absent without tools. */
  tools?: readonly string[]
  expected: string
  answer: string
  /** True if an answer was truncated after `ANSWER_TOKENS`. */
  cut: boolean
}

/** The adapter's answers to held-out rows after an evaluation, if `evalGenerate` is set. */
export interface AnswersEvent {
  event: 'answers'
  /** Optimizer steps made before the answers; 0 is before the first step. */
  step: number
  rows: readonly StepAnswer[]
}

/** A checkpoint was saved. */
export interface CheckpointEvent {
  event: 'checkpoint'
  step: number
  /** Path of its folder. */
  path: string
}

/** Memory held between two steps: before the first step, and at most a hundred times during a run. */
export interface MemoryEvent {
  event: 'memory'
  /** Optimizer steps so far. */
  step: number
  /** Bytes allocated by the engine for the whole process, by category. */
  allocated: Readonly<Partial<Record<Category, number>>>
  /** Resident set of the process in bytes. */
  residentBytes: number
}

/** Current ranks under a strategy that allocates them, when they have changed; at most fifty times during a run. */
export interface RanksEvent {
  event: 'ranks'
  step: number
  /** Keyed by the path of the linear layer. */
  ranks: Readonly<Record<string, number>>
}

/** The run waits between two steps, after `TrainingRun.pause`. */
export interface PausedEvent {
  event: 'paused'
  /** Optimizer steps so far. */
  step: number
}

/** A paused run continues. */
export interface ResumedEvent {
  event: 'resumed'
  step: number
}

/** The run was ended early by `TrainingRun.stop` or by its signal. */
export interface StoppedEvent {
  event: 'stopped'
  step: number
  /** The checkpoint to resume from; null if none was saved. */
  path: string | null
}

/** The run is complete. */
export interface DoneEvent {
  event: 'done'
  /** Location of the result; null if the run saves nothing. */
  outputDir: string | null
  /** Mean loss of the steps, weighted by their supervised tokens, nats. */
  trainLoss: number
  steps: number
  /** True if the metric did not improve for `earlyStoppingPatience` evaluations. */
  stoppedEarly?: true
  /** The best evaluation, if there is held-out data. */
  best?: BestReport
  /** Peak resident set of the process, in bytes. */
  peakRssBytes: number
  tokensPerSecond: number
  /** Only in private training. */
  privacy?: PrivacyReport
}

/** An event of a run, discriminated by `event`. */
export type TrainEvent =
  | StartEvent
  | RateEvent
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
