/**
 * The contract of a step: what makes the steps of a run (`gradient-steps.ts`, and the rounds of private training), what
 * it is given, and the rules that both follow.
 */
import type { AdapterState } from '../base/base.js'
import type { NativeSession, OptimizerStep, TrainInput } from '../native/addon.js'
import { nativeOptimizer, optimizerOf } from '../options/optimizers.js'
import type { RunOptions } from '../options/options.js'
import { rulesOf } from '../strategies/index.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type { StepRanks, StepRules } from '../strategies/strategy.js'
import type { BatchSource, DataCursor } from './batches.js'
import type { RunEvaluation } from './best.js'
import type { RunData } from './data.js'
import type { EvaluateControl, Evaluation } from './evaluate.js'
import type { TrainStep } from './events.js'
import type { Ranks } from './ranks.js'

/** Makes the steps of a run. */
export interface Steps {
  readonly totalSteps: number
  /** Privacy guarantee, and spending so far. */
  readonly privacy?: PrivacyReport
  /** Ranks left at each linear, of a strategy that allocates them. */
  readonly ranksLeft?: Readonly<Record<string, number>> | undefined
  /** Computes what later steps and evaluations need, such as reference log-probabilities; before the first of them. */
  prepare?(session: NativeSession, about: RunPlace): Promise<void>
  /** Evaluation by the loss of the task; default: of the next token. */
  evaluate?(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation>
  /** Makes one; the state of the run moves on only when it is whole. */
  next(session: NativeSession): Promise<TrainStep>
  /** Lets the data go. */
  close(): Promise<void>
}

/** A run that begins. */
export interface RunPlace {
  /** Hash of its model and its data. */
  key: string
  /** Folder of its checkpoints; null keeps nothing. */
  runDir: string | null
  /** Folder of the checkpoint that it goes on from; null for a run from the start. */
  resumedFrom: string | null
  control: EvaluateControl
}

/** The inputs that steps are made from. */
export interface StepSetup {
  adapter: AdapterState
  options: RunOptions
  beginning: { resume: string | boolean }
  signal: AbortSignal | undefined
  /** The processes that make the run together. */
  ranks: Ranks
}

/** @param state where the run stands; it moves on with every step */
export type MakeSteps = (setup: StepSetup, state: TrainingState, data: RunData) => Steps | Promise<Steps>

/** State of a run between two steps. */
export interface TrainingState {
  /** Name of the run, which it keeps when it is resumed. */
  run: string
  /** Completed optimizer steps. */
  step: number
  /** The next micro-batch. */
  cursor: DataCursor
  /** Steps of the whole run. */
  totalSteps: number
  /** Evaluations so far. */
  evaluations: RunEvaluation[]
  /** Sums over the run so far. */
  totals: { tokens: number; supervisedTokens: number; lossSum: number; seconds: number }
  /**
   * Ranks that the run began with. With the accumulation they are the micro-batches of its steps, which stay the same when
   * it goes on with another number of ranks.
   */
  ranks: number
  /** State of the strategy's rules between steps (`StepRules.state`). */
  rules?: unknown
}

/** Actions of the strategy around the steps, from the state in a checkpoint. */
export function stepRules({ adapter, options }: StepSetup, totalSteps: number, state: unknown): StepRules {
  const { strategy } = adapter.description
  const run = { seed: options.seed, totalSteps, description: adapter.description, native: adapter.native }
  return rulesOf(strategy).steps?.(strategy)?.begin(run, state) ?? {}
}

/**
 * An update by the run's optimizer; gradients are not clipped unless more is said.
 * @param schedule the share of its peak that every group's rate has in this step
 */
export function updateOf({ adapter, options }: StepSetup, schedule: number, step: number): OptimizerStep {
  const optimizer = optimizerOf(options.optimizer)
  return {
    ...nativeOptimizer(optimizer),
    groups: adapter.description.groups.map(({ learningRateFactor, learningRate, decays }) => ({
      learningRate: (learningRate ?? options.learningRate) * schedule * learningRateFactor,
      weightDecay: decays === false ? 0 : (optimizer.weightDecay ?? options.weightDecay),
    })),
    maxGradNorm: 0,
    step,
  }
}

/** The ranks of a step, as training inputs name them. */
export function inUse(ranks: StepRanks | undefined): Pick<TrainInput, 'activeRank' | 'lastRankOnly'> {
  return ranks ? { activeRank: ranks.active, lastRankOnly: ranks.lastOnly } : {}
}

/** Regularization of a step, as training inputs name it. */
export function regularizers({
  labelSmoothingFactor,
  neftuneNoiseAlpha,
}: RunOptions): Pick<TrainInput, 'labelSmoothing' | 'embeddingNoise'> {
  return { labelSmoothing: labelSmoothingFactor, embeddingNoise: neftuneNoiseAlpha ?? 0 }
}

/** The ranks of a step, as an update takes them where each has a count of its own. */
export function countedRanks(ranks: StepRanks | undefined): Pick<OptimizerStep, 'ranks'> {
  if (ranks?.draws === undefined) return {}
  const { active, lastOnly, draws } = ranks
  return { ranks: { active, lastOnly, draws } }
}

/** Moves the state of a run on by one step, and says what is known of every step. */
export function finished(
  state: TrainingState,
  made: { lossSum: number; loss?: number; tokens: number; supervised: number; begin: number },
  totalSteps: number,
): Omit<TrainStep, 'epoch' | 'gradNorm' | 'learningRate'> {
  const seconds = (performance.now() - made.begin) / 1000
  state.step++
  state.totals.tokens += made.tokens
  state.totals.supervisedTokens += made.supervised
  state.totals.lossSum += made.lossSum
  state.totals.seconds += seconds
  return {
    event: 'step',
    step: state.step,
    totalSteps,
    loss: made.loss ?? made.lossSum / made.supervised,
    tokens: made.tokens,
    supervisedTokens: made.supervised,
    tokensPerSecond: made.tokens / seconds,
    secondsLeft: (state.totals.seconds / state.step) * (totalSteps - state.step),
  }
}
