/** Events of a training run. JSON lines have the same fields in snake_case. Written by `node scripts/options.mjs`. */
import type { Category, Device, PlanRow } from '../../native/addon.js'
import type { PrivacyReport, RoundPrivacy } from '../../strategies/privacy-report.js'
import type { BestReport } from './best.js'
import type { Evaluation, PreferenceMetrics, RewardMetrics } from './evaluate.js'

/** Data of a run. */
export interface RunDataFacts {
  /** Path; null for a share of the training data. */
  readonly name: string | null
  /** Rows that are used; null if they are streamed. */
  readonly rows: number | null
  /** Content hash. */
  readonly hash: string
}

/** A held-out row with the greedy answer of the adapter at some step. */
export interface StepAnswer {
  readonly prompt: string
  /** The system prompt of the row. */
  readonly system: string | null
  /** Form in which the row was asked; absent if it is the adapter's default. */
  readonly form?: 'chat' | 'raw'
  /** Names of the row's tools. */
  readonly tools?: readonly string[]
  readonly expected: string
  /** Answer by greedy generation. */
  readonly answer: string
  /** True if it ended at the token limit. */
  readonly cut: boolean
}

/** A learning rate chosen before the run. */
export interface RateSearch {
  /** The chosen rate. */
  readonly learningRate: number
  /** Why it is the default of the strategy; null if the search chose it. */
  readonly reason: string | null
  /** Rates tried in short runs, ascending. */
  readonly rates: readonly { readonly rate: number; readonly loss: number | null }[]
  /** Optimizer steps that the search took. */
  readonly steps: number
  readonly seconds: number
}

/** The run begins; also of a run that is resumed. */
export interface StartEvent {
  readonly event: 'start'
  /** Version of lowrank. */
  readonly version: string
  readonly model: { readonly name: string; readonly fingerprint: string }
  /** The strategy with all its options. */
  readonly strategy: Readonly<Record<string, unknown>>
  /** Its name in the literature; absent in older files. */
  readonly strategyLabel: string
  /** Numbers that train. */
  readonly trainableParameters: number
  /** task classification: the classes in the order of their ids. */
  readonly labels?: readonly string[]
  /** The training data. */
  readonly data: RunDataFacts
  /** The held-out data; null if there is none. */
  readonly evaluation: RunDataFacts | null
  readonly device: Device
  /** Instruction set of the kernels. */
  readonly level: string
  readonly threads: number
  /** Steps of the whole run. */
  readonly totalSteps: number
  /** Options that differ from their defaults. */
  readonly config: Readonly<Record<string, unknown>>
  /** Command that repeats the run, if it is known. */
  readonly command: string | null
  /** Steps that were made when it was resumed; null if it was not. */
  readonly resumedFrom: number | null
}

/** The learning rate was searched; with `learningRate: auto`. */
export interface RateEvent extends RateSearch {
  readonly event: 'rate'
}

/** The planned memory, before the first step. */
export interface PlanEvent {
  readonly event: 'plan'
  /** Most bytes that the run will hold at once. */
  readonly peakBytes: number
  /** Pinned memory of the host in addition, on a GPU. */
  readonly pinnedBytes?: number
  /** Resident bytes of the process before it opened the model: Node.js and the program. */
  readonly runtimeBytes: number
  /** Parts of the peak; they add up to `peakBytes`. */
  readonly rows: readonly PlanRow[]
  readonly privacy?: PrivacyReport
}

/** An optimizer step was made. */
export interface TrainStep extends PreferenceMetrics, RewardMetrics {
  readonly event: 'step'
  /** Optimizer steps made so far, from 1. */
  readonly step: number
  /** Steps of the whole run. */
  readonly totalSteps: number
  /** Passes over the data so far; over a stream, completed ones. */
  readonly epoch: number
  /**
   * Mean over the supervised tokens of the step before its update, in nats; for preference pairs and grpo, the loss of
   * the task. For a round that drew nobody: null in JSON, NaN in programs.
   */
  readonly loss: number
  /** L2 norm of the gradient before clipping. */
  readonly gradNorm: number
  /** Learning rate of this step. */
  readonly learningRate: number
  /** All tokens of the step. */
  readonly tokens: number
  /** Tokens of the step that have a label. */
  readonly supervisedTokens: number
  /** All tokens processed, per second. */
  readonly tokensPerSecond: number
  /** Estimated, without evaluations. */
  readonly secondsLeft: number
  /**
   * causal_lm: share of supervised tokens that are the likeliest ones, with token_accuracy or as the
   * metric_for_best_model.
   */
  readonly meanTokenAccuracy?: number
  /** Only after a round of private training. */
  readonly privacy?: RoundPrivacy
}

/** The held-out data was evaluated. */
export interface EvalEvent extends Evaluation {
  readonly event: 'eval'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
}

/** Held-out rows were answered, beside an evaluation; with `evalGenerate`. */
export interface AnswersEvent {
  readonly event: 'answers'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
  readonly rows: readonly StepAnswer[]
}

/** A checkpoint was saved. */
export interface CheckpointEvent {
  readonly event: 'checkpoint'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
  /** Its folder. */
  readonly path: string
}

/** Memory between two steps; at most a hundred and two lines a run. */
export interface MemoryEvent {
  readonly event: 'memory'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
  /** Bytes allocated by the engine for the whole process, by category. */
  readonly allocated: Readonly<Partial<Record<Category, number>>>
  /** Resident set of the process in bytes. */
  readonly residentBytes: number
}

/** The strategy has allocated ranks anew; at most fifty-two lines a run. */
export interface RanksEvent {
  readonly event: 'ranks'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
  /** Ranks left, by the path of the linear. */
  readonly ranks: Readonly<Record<string, number>>
}

/** The run waits between two steps; a pause was requested. */
export interface PausedEvent {
  readonly event: 'paused'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
}

/** The run goes on after a pause. */
export interface ResumedEvent {
  readonly event: 'resumed'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
}

/** The run was stopped early on request. */
export interface StoppedEvent {
  readonly event: 'stopped'
  /** Optimizer steps made so far; 0 is before the first. */
  readonly step: number
  /** The checkpoint to resume from; null if there is none. */
  readonly path: string | null
}

/** The run ended. */
export interface DoneEvent {
  readonly event: 'done'
  /** Folder of the result; null if the run saves nothing. */
  readonly outputDir: string | null
  /** Mean over the supervised tokens of all steps in nats. */
  readonly trainLoss: number
  /** Optimizer steps made so far, from 1. */
  readonly steps: number
  /** The metric did not improve for `earlyStoppingPatience` evaluations. */
  readonly stoppedEarly?: true
  /** The best evaluation, if there is held-out data. */
  readonly best?: BestReport
  /** Most bytes that the process held resident. */
  readonly peakRssBytes: number
  /** All tokens processed, per second. */
  readonly tokensPerSecond: number
  readonly privacy?: PrivacyReport
}

/** An event of a run, discriminated by `event`. */
export type TrainEvent =
  | StartEvent
  | RateEvent
  | PlanEvent
  | TrainStep
  | EvalEvent
  | AnswersEvent
  | CheckpointEvent
  | MemoryEvent
  | RanksEvent
  | PausedEvent
  | ResumedEvent
  | StoppedEvent
  | DoneEvent
