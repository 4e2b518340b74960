/** Gradient steps: accumulates the gradients of some micro-batches, then updates the adapter. */
import { DataError, DivergedError } from '../core/errors.js'
import type { MicroBatch } from '../data/pack.js'
import { join, type Metrics } from '../losses/rows.js'
import type { NativeSession, OptimizerStep } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { warnOfRemarks } from '../native/remarks.js'
import { scheduleAt } from '../options/schedules.js'
import { EVAL_PLAN, TRAIN_PLAN } from '../planning/plans.js'
import type { StepRules } from '../strategies/strategy.js'
import { taskRules } from '../tasks/index.js'
import type { BatchSource, Window, WindowSource } from './batches.js'
import { Classification, weightsOfClasses } from './classification.js'
import { type Examples, type RunData, windowsOf } from './data.js'
import { type EvaluateControl, type Evaluation, evaluateBatches } from './evaluate.js'
import type { TrainStep } from './events.js'
import type { Objective } from './objective.js'
import type { LayerPipe } from './pipe.js'
import { PairObjective } from './preference.js'
import {
  countedRanks,
  finished,
  inUse,
  type MakeSteps,
  type RunPlace,
  regularizers,
  type StepSetup,
  type Steps,
  stepRules,
  type TrainingState,
  updateOf,
} from './step.js'
import { UnpairedObjective } from './unpaired.js'

/** Makes the objective of a run; undefined for next-token prediction. */
type MakeObjective = (setup: StepSetup, state: TrainingState, data: RunData) => Objective | undefined

/** Steps by the gradient of an objective. */
export const stepsOf = (objectiveOf: MakeObjective) =>
  ((setup, state, data) =>
    new GradientSteps(setup, state, data, objectiveOf(setup, state, data))) satisfies MakeSteps

/** Steps of a run whose strategy or task does not define its own. */
export const gradientSteps = stepsOf((...run) => objectiveOf(...run))

/** Steps that each use the gradients of one window of the data. */
class GradientSteps implements Steps {
  readonly totalSteps: number
  readonly #setup: StepSetup
  readonly #state: TrainingState
  readonly #windows: WindowSource
  readonly #rules: StepRules
  /** Undefined for next-token prediction. */
  readonly #objective: Objective | undefined
  #coming: Promise<Window> | undefined

  /** @param state position of the run, advanced by each step */
  constructor(setup: StepSetup, state: TrainingState, data: RunData, objective: Objective | undefined) {
    const { windows, totalSteps } = windowsOf(data.train, setup.options, state.ranks)
    this.totalSteps = totalSteps
    this.#objective = objective
    this.#setup = setup
    this.#state = state
    this.#windows = windows
    this.#rules = stepRules(setup, totalSteps, state.rules)
    setup.ranks.sumsWithinPasses = setup.options.optimizerInBackward
    // Training without privacy invalidates earlier guarantees.
    setup.adapter.privacy = []
  }

  async next(session: NativeSession): Promise<TrainStep> {
    const state = this.#state
    const window = await (this.#coming ?? this.#windows.at(state.cursor))
    const upcoming = () => {
      if (state.step + 1 >= this.totalSteps) return
      this.#coming = this.#windows.at(window.next)
      // A failure is reported when the window is awaited.
      this.#coming.catch(() => undefined)
    }
    return this.#step(session, window, upcoming)
  }

  async prepare(session: NativeSession, about: RunPlace): Promise<void> {
    await this.#objective?.prepare?.(session, about)
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    if (this.#objective === undefined) return evaluateBatches(session, EVAL_PLAN, source, control)
    return this.#objective.evaluate(session, source, control)
  }

  get ranksLeft(): Readonly<Record<string, number>> | undefined {
    return this.#rules.ranksLeft?.()
  }

  async close(): Promise<void> {
    await this.#windows.close()
  }

  /** Computes the gradients of a whole window and updates the adapter; the state advances only when both succeed. */
  async #step(session: NativeSession, read: Window, upcoming: () => void): Promise<TrainStep> {
    const { options, adapter, ranks: processes, pipe } = this.#setup
    const state = this.#state
    const begin = performance.now()
    if (read.supervised === 0)
      throw new DataError(`step ${state.step + 1} has no tokens to train on; the data is empty.`)
    const index = state.step + 1
    const window = (await this.#objective?.answered?.(session, read, index)) ?? read
    const ranks = this.#rules.ranks?.(index)
    const schedule = this.#setup.schedule?.(state.step) ?? scheduleAt(options, state.step, this.totalSteps)
    const update = {
      ...updateOf(this.#setup, schedule, index),
      maxGradNorm: options.maxGradNorm,
      ...countedRanks(ranks),
    }
    const { optimizerInBackward: inBackward } = options
    let lossSum = 0
    const losses: [microStep: number, loss: number][] = []
    const metrics: Metrics = {}
    const passOf = await this.#objective?.window(session, window.batches)
    let isPreparing = false
    const add = (microStep: number, loss: number, more: Metrics = {}) => {
      losses.push([microStep, loss])
      lossSum += loss
      this.#expectFinite(index, lossSum)
      join(metrics, more)
    }
    const prepare = () => {
      if (!isPreparing) upcoming()
      isPreparing = true
    }
    const inputOf = (microStep: number, { tokens, cuSeqlens, labels }: MicroBatch) => ({
      ...{ tokens, cuSeqlens, labels, seed: options.seed, step: index, microStep },
      ...inUse(ranks),
      ...regularizers(options),
      ...(inBackward ? { update } : {}),
    })
    const pass = async (microStep: number, batch: MicroBatch) => {
      const lastOfStep =
        !processes.isAlone && pipe === undefined && microStep + processes.size >= window.batches.length
      const input = { ...inputOf(microStep, batch), lastOfStep }
      const job =
        passOf === undefined
          ? session.trainStep(TRAIN_PLAN, { ...input, lossScale: 1 / window.supervised }).promise
          : passOf(input, batch, (loss, more) => add(microStep, loss, more))
      // Prepare the next micro-batches while the engine works on this one.
      prepare()
      const made = await this.#finite(index, () => job)
      if (passOf === undefined && pipe?.isLast !== false) add(microStep, made.lossSum)
      if (passOf !== undefined && inBackward) this.#expectFinite(index, made.lossSum)
      return made.gradNorm ?? Number.NaN
    }
    let gradNorm = Number.NaN
    const dealtOut = async () => {
      for (const [microStep, batch] of window.batches.entries())
        if (microStep % processes.size === processes.rank)
          gradNorm = await (inBackward
            ? this.#change(index, () => pass(microStep, batch))
            : pass(microStep, batch))
      if (losses.length > 0) return
      prepare()
      if (inBackward) gradNorm = await this.#change(index, () => this.#updatesOnly(session, index, update))
    }
    const piped = (pipe: LayerPipe) =>
      pipe.run(pipe.passes(window.batches.length), async ({ kind, microBatch }) => {
        const batch = window.batches[microBatch] as MicroBatch
        if (kind !== 'forward') await pass(microBatch, batch)
        else await session.forwardStep(TRAIN_PLAN, { ...inputOf(microBatch, batch), lossScale: 1 }).promise
      })
    const all = await processes.together('a step', async () => {
      await (pipe === undefined ? dealtOut() : piped(pipe))
      return { losses, metrics }
    })
    pipe?.expectWhole()
    if (!processes.isAlone) {
      // Sum in the order of micro-batches, as a single process does.
      const found = all.flatMap((each) => each.losses).sort(([a], [b]) => a - b)
      lossSum = found.reduce((sum, [, loss]) => sum + loss, 0)
      for (const [rank, each] of all.entries()) if (rank !== processes.rank) join(metrics, each.metrics)
    }
    if (!inBackward)
      gradNorm = await this.#change(index, async () => {
        const clipped = pipe === undefined ? update : { ...update, gradNorm: await pipe.gradNorm(adapter) }
        if (!processes.isAlone && pipe === undefined)
          await processes.summing(() => translatedAsync(() => session.sumGradients(TRAIN_PLAN).promise))
        const made = await this.#finite(index, () => adapter.native.optimizerStep(clipped).promise)
        warnOfRemarks()
        return made.gradNorm
      })
    state.cursor = window.next
    state.rules = this.#rules.state?.()
    const { tokens, supervised } = window
    const counted = { tokens, supervised, begin }
    // The loss of an objective is already a mean.
    const made =
      passOf === undefined
        ? { lossSum, ...counted }
        : { loss: lossSum, lossSum: lossSum * supervised, ...counted }
    const learningRate = options.learningRate * schedule
    const step = { ...finished(state, made, this.totalSteps), epoch: window.epoch, gradNorm, learningRate }
    return { ...step, ...this.#objective?.named(metrics) }
  }

  /** Makes the updates of the other ranks' passes, as a rank without a micro-batch in the step. */
  async #updatesOnly(session: NativeSession, step: number, update: OptimizerStep): Promise<number> {
    const none = { tokens: new Int32Array(), cuSeqlens: new Int32Array(), labels: new Int32Array() }
    const input = { ...none, lossScale: 1, seed: this.#setup.options.seed, step, microStep: 0 }
    const job = session.trainStep(TRAIN_PLAN, { ...input, update, lastOfStep: true }).promise
    const { lossSum, gradNorm } = await this.#finite(step, () => job)
    this.#expectFinite(step, lossSum)
    return gradNorm as number
  }

  #expectFinite(step: number, loss: number): void {
    if (!Number.isFinite(loss)) throw this.#diverged(step, `loss is ${loss}`)
  }

  /** Runs an update and the strategy's actions after it with exclusive use of the adapter. */
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
   * @param partial true if some tensors were updated; otherwise nothing was, since all gradients are checked
   * before the first update
   */
  #diverged(step: number, what: string, { cause, partial = false }: Divergence = {}): DivergedError {
    const { learningRate, maxGradNorm } = this.#setup.options
    const last = step - 1
    const milder = `Lower learning_rate (${learningRate}), use a longer warm-up (warmup_steps)`
    const clip = `clip the gradient (max_grad_norm, ${maxGradNorm || '0: off'}) more.`
    const advice = partial
      ? `Some tensors were already updated (optimizer_in_backward), so the adapter is in between two steps: resume from the newest checkpoint (save_steps). ${milder}, or turn optimizer_in_backward off and ${clip}`
      : last === 0
        ? 'This was the first step, so check the start: a damaged model or adapter, or too low a precision.'
        : `The adapter is in its state after step ${last}. ${milder}, or ${clip}`
    const details = { step, lastGoodStep: partial ? null : last, learningRate, maxGradNorm }
    return new DivergedError(`training diverged: the ${what} at step ${step}. ${advice}`, details, { cause })
  }
}

interface Divergence {
  cause?: Error
  partial?: boolean
}

/** The loss of the task; undefined for next-token prediction. */
function objectiveOf(
  { adapter, options }: StepSetup,
  { run }: TrainingState,
  data: RunData,
): Objective | undefined {
  const { classes, loss, reference } = taskRules(options.task)
  if (classes) {
    const labels = adapter.description.labels as readonly string[]
    return new Classification(weightsOfClasses(options.classWeights, labels, data.examples as Examples))
  }
  if (loss === undefined) return undefined
  return reference === 'mismatched'
    ? new UnpairedObjective(loss({ ...options }), options, run, data)
    : new PairObjective(loss({ ...options }), options, run, data)
}
