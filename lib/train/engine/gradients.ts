/**
 * The engine of training: computes the gradients of micro-batches for any loss, accumulates them in the adapter, and
 * updates it. A loss that depends on log-probabilities runs the head twice and the blocks once, so that logits are never
 * stored.
 */
import type { AdapterState } from '../../base/base.js'
import { DivergedError } from '../../core/errors.js'
import type { Metrics } from '../../losses/rows.js'
import type {
  Job,
  LossResult,
  MicroBatch,
  NativeSession,
  OptimizerStep,
  TrainInput,
} from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import { trainingPass } from '../../native/handles.js'
import { warnOfRemarks } from '../../native/remarks.js'
import type { StepRules } from '../../strategies/strategy.js'
import type { Made, Passes } from './passes.js'

/** A micro-batch with its loss. */
export interface Work {
  batch: MicroBatch
  head: Head
}

/** How the head computes the gradient. */
export type Head =
  /** Cross-entropy, which the engine computes itself; all labels have one weight. */
  | { kind: 'scaled'; lossScale: number }
  /** The weight of each label is known before the pass. */
  | { kind: 'weighted'; weights: Float32Array; value?(logProbs: Float32Array): Value }
  /** The weight of each label depends on the log-probabilities. */
  | { kind: 'scored'; value(logProbs: Float32Array): WeightedValue | Promise<WeightedValue> }

/** Loss of a micro-batch, and sums of its metrics. */
export interface Value {
  loss: number
  metrics?: Metrics
}

export interface WeightedValue extends Value {
  /** Weight of each label, in order. */
  weights: Float32Array
}

/** Settings of a step, which all of its micro-batches share. */
export interface StepInput
  extends Pick<TrainInput, 'seed' | 'step' | 'temperature' | 'labelSmoothing' | 'embeddingNoise'>,
    Pick<TrainInput, 'activeRank' | 'lastRankOnly' | 'update'> {}

/** Control of `Gradients.add`. */
export interface AddControl {
  /** Micro-batches of the step in earlier calls. Default 0. */
  before?: number
  /** Called whenever the engine has begun to compute. */
  onBegun?(): void
  /** Stops between micro-batches. */
  signal?: AbortSignal | undefined
}

/** A loss or a gradient that is not finite. */
export type Divergence = { loss: number } | { gradient: DivergedError }

interface GradientsSetup {
  adapter: AdapterState
  /** Names of the session's plans for heads that run once and twice. */
  plans: { once: string; twice: string }
  passes: Passes
  rules: StepRules
  /** The error to report. */
  diverged(found: Divergence): Error
}

const NOTHING: MicroBatch = {
  ...{ tokens: new Int32Array(), cuSeqlens: new Int32Array(), labels: new Int32Array() },
}

export class Gradients {
  readonly #setup: GradientsSetup

  constructor(setup: GradientsSetup) {
    this.#setup = setup
  }

  /**
   * Adds gradients to the adapter's.
   * @returns the results of all processes, in the order of micro-batches
   */
  async add(
    session: NativeSession,
    count: number,
    workOf: (microBatch: number) => Work,
    step: StepInput,
    { before = 0, onBegun, signal }: AddControl = {},
  ): Promise<readonly Made[]> {
    const inputOf = (index: number) => ({ ...step, microStep: before + index })
    const updating = <T>(work: () => Promise<T>) =>
      step.update ? this.#exclusively(step.step, work) : work()
    return this.#setup.passes.run(count, {
      pass: (index, lastOfStep) =>
        trainingPass(() =>
          updating(() => {
            signal?.throwIfAborted()
            const job = this.#pass(session, workOf(index), { ...inputOf(index), lastOfStep })
            onBegun?.()
            return job
          }),
        ),
      forward: async (index) => {
        const input = { ...inputOf(index), ...arraysOf(workOf(index).batch), lossScale: 1 }
        await session.forwardStep(this.#setup.plans.once, input).promise
      },
      idle: async () => {
        onBegun?.()
        // An update within passes needs those of all processes.
        const none = { kind: 'scaled', lossScale: 1 } as const
        if (step.update)
          await updating(() =>
            this.#pass(session, { batch: NOTHING, head: none }, { ...inputOf(0), lastOfStep: true }),
          )
      },
    })
  }

  /** Log-probabilities of micro-batches by the arithmetic of training, without gradients. */
  async score(
    session: NativeSession,
    batches: readonly MicroBatch[],
    step: StepInput,
    { before = 0, signal }: AddControl,
  ): Promise<Float32Array[]> {
    const scored: Float32Array[] = []
    for (const [index, batch] of batches.entries()) {
      signal?.throwIfAborted()
      const input = { ...step, ...arraysOf(batch), microStep: before + index, lossScale: 1 }
      const { logProbs } = await session.scoreStep(this.#setup.plans.twice, input).promise
      scored.push(logProbs as Float32Array)
    }
    return scored
  }

  /** Sums the gradients over processes, updates the adapter, and runs the strategy's actions. */
  update(session: NativeSession, update: OptimizerStep): Promise<{ gradNorm: number }> {
    const { adapter, passes } = this.#setup
    return this.#exclusively(update.step, async () => {
      const summed = await passes.sum(session, adapter)
      const made = await this.#finite(adapter.native.optimizerStep({ ...update, ...summed }))
      warnOfRemarks()
      return made
    })
  }

  /** Computes the gradient of one micro-batch; the engine begins before this returns. */
  async #pass(
    session: NativeSession,
    { batch, head }: Work,
    common: Omit<TrainInput, keyof MicroBatch | 'lossScale'>,
  ): Promise<Made> {
    const { plans, passes } = this.#setup
    const input = { ...common, ...arraysOf(batch), lossScale: 1 }
    let result: LossResult
    let value: Value | undefined
    if (head.kind === 'scored') {
      result = await this.#finite(session.scoreStep(plans.twice, input))
      const found = await head.value(result.logProbs ?? new Float32Array())
      value = this.#checked(found)
      // Another process's loss that is not finite: none makes the updates of the second half.
      if (!input.update || Number.isFinite(result.lossSum))
        result = await this.#finite(session.finishStep({ weights: found.weights }))
    } else if (head.kind === 'weighted') {
      result = await this.#finite(session.trainStep(plans.once, { ...input, weights: head.weights }))
      value = this.#checked(head.value?.(result.logProbs as Float32Array))
    } else {
      result = await this.#finite(session.trainStep(plans.once, { ...input, lossScale: head.lossScale }))
      const { lossSum, hits, count } = result
      const metrics: Metrics = hits === undefined ? {} : { hits: { sum: hits, count } }
      value = passes.knowsLoss ? this.#checked({ loss: lossSum, metrics }) : undefined
    }
    if (input.update) this.#checked({ loss: result.lossSum })
    const { gradNorm } = result
    return { microStep: common.microStep, loss: value?.loss, metrics: value?.metrics ?? {}, gradNorm }
  }

  #checked<Of extends Value | undefined>(value: Of): Of {
    if (value !== undefined && !Number.isFinite(value.loss)) throw this.#setup.diverged({ loss: value.loss })
    return value
  }

  async #finite<Result>(job: Job<Result>): Promise<Result> {
    try {
      return await translatedAsync(() => job.promise)
    } catch (error) {
      throw error instanceof DivergedError ? this.#setup.diverged({ gradient: error }) : error
    }
  }

  /** Runs an update and the strategy's actions after it with exclusive use of the adapter. */
  #exclusively<Result>(step: number, update: () => Promise<Result>): Promise<Result> {
    const { adapter, rules } = this.#setup
    adapter.version++
    return adapter.turns.run(async () => {
      const made = await update()
      await rules.updated?.(step)
      return made
    })
  }
}

/** The gradient of one micro-batch by cross-entropy, for steps that no other process shares. */
export function passAlone(
  session: NativeSession,
  plan: string,
  batch: MicroBatch,
  input: Omit<TrainInput, keyof MicroBatch>,
): Promise<LossResult> {
  return translatedAsync(() => session.trainStep(plan, { ...input, ...arraysOf(batch) }).promise)
}

/** A micro-batch without what only TypeScript knows of it. */
function arraysOf({ tokens, cuSeqlens, labels }: MicroBatch): MicroBatch {
  return { tokens, cuSeqlens, labels }
}
