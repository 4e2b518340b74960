/**
 * The contract of a step: the interface implemented by gradient steps (`gradient-steps.ts`) and by rounds of
 * private training, its inputs, and the rules that both follow.
 */
import type { AdapterState } from '../../base/base.js'
import type { NativeSession, OptimizerStep, TrainInput } from '../../native/addon.js'
import { nativeOptimizer, optimizerOf } from '../../options/optimizers.js'
import type { RunOptions } from '../../options/options.js'
import { rulesOf } from '../../strategies/index.js'
import type { PrivacyReport } from '../../strategies/privacy-report.js'
import type { StepRanks, StepRules } from '../../strategies/strategy.js'
import type { LayerPipe } from '../processes/pipe.js'
import type { Processes } from '../processes/processes.js'
import type { BatchSource, DataCursor } from '../rows/batches.js'
import type { RunData } from '../rows/data.js'
import type { RunEvaluation } from './best.js'
import type { EvaluateControl, Evaluation } from './evaluate.js'
import type { TrainStep } from './events.js'

/** Makes the steps of a run. */
export interface Steps {
  readonly totalSteps: number
  /** Privacy guarantee, and the budget spent so far. */
  readonly privacy?: PrivacyReport
  /** Warnings that depend on the data; one sentence each. */
  readonly remarks?: readonly string[]
  /** Current rank of each linear layer, for a strategy that allocates ranks. */
  readonly ranksLeft?: Readonly<Record<string, number>> | undefined
  /** Computes what steps and evaluations need, such as reference log-probabilities; called before the first of them. */
  prepare?(session: NativeSession, about: RunPlace): Promise<void>
  /** Evaluates by the loss of the task. Default: next-token prediction. */
  evaluate?(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation>
  /** Makes one step; the state of the run advances only when the step is complete. */
  next(session: NativeSession): Promise<TrainStep>
  /** Releases the data. */
  close(): Promise<void>
}

/** Identity and folders of a starting run. */
export interface RunPlace {
  /** Hash of its model and its data. */
  key: string
  /** Folder of its checkpoints; null keeps nothing. */
  runDir: string | null
  /** Folder of the checkpoint that the run was resumed from; null for a run from the start. */
  resumedFrom: string | null
  control: EvaluateControl
}

/** The inputs of steps. */
export interface StepSetup {
  adapter: AdapterState
  options: RunOptions
  beginning: { resume: string | boolean }
  signal: AbortSignal | undefined
  /** The processes that train together. */
  ranks: Processes
  /** Factor on the learning rate after `completed` steps. Default: the schedule of the options. */
  schedule?: (completed: number) => number
  /** For a model whose layers are split over these processes. */
  pipe?: LayerPipe | undefined
}

/** @param state position of the run, advanced by each step */
export type MakeSteps = (setup: StepSetup, state: TrainingState, data: RunData) => Steps | Promise<Steps>

/** State of a run between two steps. */
export interface TrainingState {
  /** Name of the run, which stays the same when it is resumed. */
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
   * Number of ranks that the run started with. Together with gradient accumulation it sets the micro-batches
   * per step, which stay the same if the run is resumed with another number of ranks.
   */
  ranks: number
  /** State of the strategy's rules between steps (`StepRules.state`). */
  rules?: unknown
}

/** The strategy's actions around the steps, restored from the state in a checkpoint. */
export function stepRules({ adapter, options }: StepSetup, totalSteps: number, state: unknown): StepRules {
  const { strategy } = adapter.description
  const run = { seed: options.seed, totalSteps, description: adapter.description, native: adapter.native }
  return rulesOf(strategy).steps?.(strategy)?.begin(run, state) ?? {}
}

interface UpdateSetup {
  adapter: Pick<AdapterState, 'description'>
  options: Pick<RunOptions, 'optimizer' | 'learningRate' | 'weightDecay'>
}

/**
 * An update by the run's optimizer. Gradients are not clipped unless the caller adds it.
 * @param schedule fraction of the peak learning rate, for all groups, in this step
 */
export function updateOf({ adapter, options }: UpdateSetup, schedule: number, step: number): OptimizerStep {
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

/** The ranks in use in a step, as training inputs. */
export function inUse(ranks: StepRanks | undefined): Pick<TrainInput, 'activeRank' | 'lastRankOnly'> {
  return ranks ? { activeRank: ranks.active, lastRankOnly: ranks.lastOnly } : {}
}

/** Regularization of a step, as training inputs. */
export function regularizers({
  labelSmoothingFactor,
  neftuneNoiseAlpha,
}: RunOptions): Pick<TrainInput, 'labelSmoothing' | 'embeddingNoise'> {
  return { labelSmoothing: labelSmoothingFactor, embeddingNoise: neftuneNoiseAlpha ?? 0 }
}

/** The ranks of a step, as an update takes them if each has its own count. */
export function countedRanks(ranks: StepRanks | undefined): Pick<OptimizerStep, 'ranks'> {
  if (ranks?.draws === undefined) return {}
  const { active, lastOnly, draws } = ranks
  return { ranks: { active, lastOnly, draws } }
}

/** Advances the state of a run by one step, and returns the fields common to all steps. */
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
