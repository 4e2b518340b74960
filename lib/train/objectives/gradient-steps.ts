/** Gradient steps: each accumulates the gradients of a window of micro-batches, then updates the adapter. */
import { DataError, DivergedError } from '../../core/errors.js'
import type { MicroBatch } from '../../data/pack.js'
import { join, type Metrics } from '../../losses/rows.js'
import type { NativeSession } from '../../native/addon.js'
import { scheduleAt } from '../../options/schedules.js'
import { TRAIN_PLAN } from '../../planning/plans.js'
import type { StepRules } from '../../strategies/strategy.js'
import { taskRules } from '../../tasks/index.js'
import { type Divergence, Gradients } from '../engine/gradients.js'
import { type Made, passesOf } from '../engine/passes.js'
import type { BatchSource, Window, WindowSource } from '../rows/batches.js'
import { windowsOf } from '../rows/batches.js'
import type { Examples, RunData } from '../rows/data.js'
import type { EvaluateControl, Evaluation } from '../steps/evaluate.js'
import type { TrainStep } from '../steps/events.js'
import type { Objective } from '../steps/objective.js'
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
} from '../steps/step.js'
import { Classification, weightsOfClasses } from './classification.js'
import { NextToken } from './next-token.js'
import { ScoredObjective } from './scored-objective.js'

/** Makes the objective of a run. */
type MakeObjective = (setup: StepSetup, state: TrainingState, data: RunData) => Objective

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
  readonly #objective: Objective
  readonly #gradients: Gradients
  #coming: Promise<Window> | undefined

  /** @param state position of the run, advanced by each step */
  constructor(setup: StepSetup, state: TrainingState, data: RunData, objective: Objective) {
    const { windows, totalSteps } = windowsOf(data.train, setup.options, state.ranks)
    this.totalSteps = totalSteps
    this.#objective = objective
    this.#setup = setup
    this.#state = state
    this.#windows = windows
    this.#rules = stepRules(setup, totalSteps, state.rules)
    this.#gradients = new Gradients({
      adapter: setup.adapter,
      plans: { once: TRAIN_PLAN, twice: TRAIN_PLAN },
      passes: passesOf(setup),
      rules: this.#rules,
      diverged: (found) => this.#diverged(found),
    })
    setup.ranks.sumsWithinPasses = setup.options.optimizerInBackward
    // Training without privacy invalidates earlier guarantees.
    setup.adapter.privacy = []
  }

  async prepare(session: NativeSession, about: RunPlace): Promise<void> {
    await this.#objective.prepare?.(session, about)
  }

  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation> {
    return this.#objective.evaluate(session, source, control)
  }

  get ranksLeft(): Readonly<Record<string, number>> | undefined {
    return this.#rules.ranksLeft?.()
  }

  async close(): Promise<void> {
    await this.#windows.close()
  }

  /** Computes the gradients of a whole window and updates the adapter; the state advances only when both succeed. */
  async next(session: NativeSession): Promise<TrainStep> {
    const { options } = this.#setup
    const state = this.#state
    const objective = this.#objective
    const read = await (this.#coming ?? this.#windows.at(state.cursor))
    this.#coming = undefined
    const begin = performance.now()
    const index = state.step + 1
    // Prompts alone have no tokens to train on before they are answered.
    const window = (await objective.answered?.(session, read, index)) ?? read
    if (window.supervised === 0)
      throw new DataError(`step ${index} has no tokens to train on; the data is empty.`)
    const schedule = this.#setup.schedule?.(state.step) ?? scheduleAt(options, state.step, this.totalSteps)
    const made = await this.#update(session, window, schedule)
    state.cursor = window.next
    state.rules = this.#rules.state?.()
    const { tokens, supervised } = window
    const { loss, metrics, gradNorm } = made
    const losses = objective.losses === 'sums' ? { lossSum: loss } : { loss, lossSum: loss * supervised }
    const learningRate = options.learningRate * schedule
    const step = finished(state, { ...losses, tokens, supervised, begin }, this.totalSteps)
    return { ...step, epoch: window.epoch, gradNorm, learningRate, ...objective.named(metrics) }
  }

  /** Prepares the next micro-batches while the engine works on these. */
  #prefetch(next: Window['next']): void {
    if (this.#coming !== undefined || this.#state.step + 1 >= this.totalSteps) return
    this.#coming = this.#windows.at(next)
    // A failure is reported when the window is awaited.
    this.#coming.catch(() => undefined)
  }

  async #update(session: NativeSession, window: Window, schedule: number) {
    const { options } = this.#setup
    const index = this.#state.step + 1
    const ranks = this.#rules.ranks?.(index)
    const update = {
      ...updateOf(this.#setup, schedule, index),
      maxGradNorm: options.maxGradNorm,
      ...countedRanks(ranks),
    }
    const workOf = await this.#objective.window(session, window)
    const input = {
      ...{ seed: options.seed, step: index },
      ...inUse(ranks),
      ...regularizers(options),
      ...(options.optimizerInBackward ? { update } : {}),
    }
    const made = await this.#gradients.add(
      session,
      window.batches.length,
      (microBatch) => workOf(window.batches[microBatch] as MicroBatch),
      input,
      { onBegun: () => this.#prefetch(window.next) },
    )
    // A step that updates in its backward pass is one micro-batch on each process.
    const { gradNorm = Number.NaN } = options.optimizerInBackward
      ? (made[0] as Made)
      : await this.#gradients.update(session, update)
    return { ...summed(made), gradNorm }
  }

  /**
   * Some tensors may have been updated in the backward pass; otherwise nothing was, since all gradients are checked
   * before the first update.
   */
  #diverged(found: Divergence): DivergedError {
    const { learningRate, maxGradNorm, optimizerInBackward } = this.#setup.options
    const last = this.#state.step
    const step = last + 1
    const isPartial = optimizerInBackward && 'gradient' in found
    const what = 'loss' in found ? `loss is ${found.loss}` : 'gradient is not finite'
    const milder = `Lower learning_rate (${learningRate}), use a longer warm-up (warmup_steps)`
    const clip = `clip the gradient (max_grad_norm, ${maxGradNorm || '0: off'}) more.`
    const advice = isPartial
      ? `Some tensors were already updated (optimizer_in_backward), so the adapter is in between two steps: resume from the newest checkpoint (save_steps). ${milder}, or turn optimizer_in_backward off and ${clip}`
      : last === 0
        ? 'This was the first step, so check the start: a damaged model or adapter, or too low a precision.'
        : `The adapter is in its state after step ${last}. ${milder}, or ${clip}`
    const details = { step, lastGoodStep: isPartial ? null : last, learningRate, maxGradNorm }
    const cause = 'gradient' in found ? { cause: found.gradient } : undefined
    return new DivergedError(`training diverged: the ${what} at step ${step}. ${advice}`, details, cause)
  }
}

/** The sum of losses and of metrics over the micro-batches of a step. */
function summed(made: readonly Made[]): { loss: number; metrics: Metrics } {
  const metrics: Metrics = {}
  for (const one of made) join(metrics, one.metrics)
  return { loss: made.reduce((sum, { loss = 0 }) => sum + loss, 0), metrics }
}

/** The loss of the task. */
function objectiveOf({ adapter, options }: StepSetup, { run }: TrainingState, data: RunData): Objective {
  const { classes, loss } = taskRules(options.task)
  if (classes) {
    const labels = adapter.description.labels as readonly string[]
    return new Classification(weightsOfClasses(options.classWeights, labels, data.examples as Examples))
  }
  return loss === undefined ? new NextToken() : new ScoredObjective(loss({ ...options }), options, run, data)
}
