/** The steps of a run, one at a time: gradients of some micro-batches, then an update of the adapter. */
import { DataError, DivergedError } from '../core/errors.js'
import type { MicroBatch } from '../data/pack.js'
import type { PrivacyReport } from '../federated/privacy.js'
import type { NativeSession, OptimizerStep, TrainInput } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { nativeOptimizer, optimizerOf } from '../options/optimizers.js'
import { scheduleAt } from '../options/schedules.js'
import { TRAIN_PLAN } from '../planning/plans.js'
import { rulesOf } from '../strategies/index.js'
import type { StepRanks, StepRules } from '../strategies/strategy.js'
import type { Window, WindowSource } from './batches.js'
import { type RunData, windowsOf } from './data.js'
import type { TrainStep } from './events.js'
import type { RunSetup } from './run.js'
import type { TrainingState } from './training-state.js'

/** What makes the steps of a run. */
export interface Steps {
  readonly totalSteps: number
  /** What private training promises, and has spent so far. */
  readonly privacy?: PrivacyReport
  /** Makes one; the state of the run moves on only when it is whole. */
  next(session: NativeSession): Promise<TrainStep>
  /** Lets the data go. */
  close(): Promise<void>
}

/** Steps by the gradients of one window of the data each. */
export class GradientSteps implements Steps {
  readonly totalSteps: number
  readonly #setup: RunSetup
  readonly #state: TrainingState
  readonly #windows: WindowSource
  readonly #rules: StepRules
  #coming: Promise<Window> | undefined

  /** @param state where the run stands; it moves on with every step */
  constructor(setup: RunSetup, state: TrainingState, data: RunData) {
    const { windows, totalSteps } = windowsOf(data.train, setup.options)
    this.totalSteps = totalSteps
    this.#setup = setup
    this.#state = state
    this.#windows = windows
    this.#rules = stepRules(setup, totalSteps, state.rules)
    // What is trained in the open keeps no promise that was made before.
    setup.adapter.privacy = []
  }

  async next(session: NativeSession): Promise<TrainStep> {
    const state = this.#state
    const window = await (this.#coming ?? this.#windows.at(state.cursor))
    const upcoming = () => {
      if (state.step + 1 >= this.totalSteps) return
      this.#coming = this.#windows.at(window.next)
      // Whether it failed is asked when it is needed.
      this.#coming.catch(() => undefined)
    }
    return this.#step(session, window, upcoming)
  }

  async close(): Promise<void> {
    await this.#windows.close()
  }

  /** Gradients of the whole window, and the update by them; the state moves on only when both are done. */
  async #step(session: NativeSession, window: Window, upcoming: () => void): Promise<TrainStep> {
    const { options, adapter } = this.#setup
    const state = this.#state
    const begin = performance.now()
    if (window.supervised === 0)
      throw new DataError(`step ${state.step + 1} has no token to learn from; the data is empty.`)
    const index = state.step + 1
    const ranks = this.#rules.ranks?.(index)
    const schedule = scheduleAt(options, state.step, this.totalSteps)
    const update = {
      ...updateOf(this.#setup, schedule, index),
      maxGradNorm: options.maxGradNorm,
      ...countedRanks(ranks),
    }
    const { optimizerInBackward: inBackward } = options
    let lossSum = 0
    const pass = async (microStep: number, { tokens, cuSeqlens, labels }: MicroBatch) => {
      const job = session.trainStep(TRAIN_PLAN, {
        tokens,
        cuSeqlens,
        labels,
        lossScale: 1 / window.supervised,
        seed: options.seed,
        step: index,
        microStep,
        ...inUse(ranks),
        ...(inBackward ? { update } : {}),
      })
      // What comes next is packed while the engine works on this.
      if (microStep === 0) upcoming()
      const made = await this.#finite(index, () => job.promise)
      lossSum += made.lossSum
      if (!Number.isFinite(lossSum)) throw this.#diverged(index, `loss is ${lossSum}`)
      return made.gradNorm ?? Number.NaN
    }
    let gradNorm = Number.NaN
    for (const [microStep, batch] of window.batches.entries())
      gradNorm = await (inBackward
        ? this.#change(index, () => pass(microStep, batch))
        : pass(microStep, batch))
    if (!inBackward)
      gradNorm = await this.#change(index, async () => {
        const made = await this.#finite(index, () => adapter.native.optimizerStep(update).promise)
        return made.gradNorm
      })
    state.cursor = window.next
    state.rules = this.#rules.state?.()
    const made = { lossSum, tokens: window.tokens, supervised: window.supervised, begin }
    const learningRate = options.learningRate * schedule
    return { ...finished(state, made, this.totalSteps), epoch: window.epoch, gradNorm, learningRate }
  }

  /** Runs an update, and what the strategy does after it, while nobody else has the adapter. */
  #change<Made>(step: number, update: () => Promise<Made>): Promise<Made> {
    const { adapter } = this.#setup
    adapter.version++
    return adapter.turns.run(async () => {
      const made = await update()
      await this.#rules.updated?.(step)
      return made
    })
  }

  async #finite<Made>(step: number, work: () => Promise<Made>): Promise<Made> {
    try {
      return await translatedAsync(work)
    } catch (error) {
      if (!(error instanceof DivergedError)) throw error
      throw this.#diverged(step, 'gradient is not finite', {
        cause: error,
        partial: this.#setup.options.optimizerInBackward,
      })
    }
  }

  /**
   * @param partial some tensors are updated; else nothing of the step was applied, since gradients are checked as a whole
   * before the first parameter moves
   */
  #diverged(step: number, what: string, { cause, partial = false }: Divergence = {}): DivergedError {
    const { learningRate, maxGradNorm } = this.#setup.options
    const last = step - 1
    const milder = `Lower learning_rate (${learningRate}), warm up for longer (warmup_steps)`
    const clip = `clip the gradient (max_grad_norm, ${maxGradNorm || '0: off'}) more.`
    const advice = partial
      ? `Some tensors were updated before it came up (optimizer_in_backward), so the adapter is as after no step: go on from the newest checkpoint (save_steps). ${milder}, or turn optimizer_in_backward off and ${clip}`
      : last === 0
        ? 'No step was made yet, so look at where it began: a damaged model or adapter, or a precision too low for it.'
        : `The adapter is as after step ${last}. ${milder}, or ${clip}`
    const details = { step, lastGoodStep: partial ? null : last, learningRate, maxGradNorm }
    return new DivergedError(`training diverged: the ${what} at step ${step}. ${advice}`, details, { cause })
  }
}

interface Divergence {
  cause?: Error
  partial?: boolean
}

/** What the strategy does around the steps, from what a checkpoint kept of it. */
export function stepRules({ adapter, options }: RunSetup, totalSteps: number, state: unknown): StepRules {
  const { strategy } = adapter.description
  const run = { seed: options.seed, totalSteps, description: adapter.description, native: adapter.native }
  return rulesOf(strategy).steps?.(strategy, run, state) ?? {}
}

/**
 * An update by the run's optimizer; gradients are not clipped unless more is said.
 * @param schedule the share of its peak that every group's rate has in this step
 */
export function updateOf({ adapter, options }: RunSetup, schedule: number, step: number): OptimizerStep {
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

/** The ranks of a step, as an update takes them where each has a count of its own. */
export function countedRanks(ranks: StepRanks | undefined): Pick<OptimizerStep, 'ranks'> {
  if (ranks?.draws === undefined) return {}
  const { active, lastOnly, draws } = ranks
  return { ranks: { active, lastOnly, draws } }
}

/** Moves the state of a run on by one step, and says what is known of every step. */
export function finished(
  state: TrainingState,
  made: { lossSum: number; tokens: number; supervised: number; begin: number },
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
    loss: made.lossSum / made.supervised,
    tokens: made.tokens,
    supervisedTokens: made.supervised,
    tokensPerSecond: made.tokens / seconds,
    secondsLeft: (state.totals.seconds / state.step) * (totalSteps - state.step),
  }
}
