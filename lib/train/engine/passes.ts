/**
 * How the micro-batches of a step reach the adapter: computed by a process alone, dealt out to processes that each hold
 * the whole model, or piped through processes that each hold some layers. A run uses one way throughout.
 */
import type { AdapterState } from '../../base/base.js'
import type { Metrics } from '../../losses/rows.js'
import type { NativeSession, OptimizerStep } from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import { TRAIN_PLAN } from '../../planning/plans.js'
import type { LayerPipe } from '../processes/pipe.js'
import type { Processes } from '../processes/processes.js'

/** Result of a micro-batch. */
export interface Made {
  microStep: number
  /** Undefined if the loss is not known here. */
  loss?: number | undefined
  metrics: Metrics
  /** Norm of the gradient, if an update was made in the backward pass. */
  gradNorm?: number | undefined
}

/** The work of a process in a step. */
export interface StepWork {
  /** @param isLast true if this process has no other micro-batch in the step, and others wait for its gradients */
  pass(microBatch: number, isLast: boolean): Promise<Made>
  /** The forward pass of a process whose layers are not the last. */
  forward(microBatch: number): Promise<void>
  /** The step of a process without a micro-batch. */
  idle(): Promise<void>
}

export interface Passes {
  /** True if this process knows the loss of the micro-batches that it computes. */
  readonly knowsLoss: boolean
  /** @returns the results of all processes, in the order of micro-batches, as a single process has them */
  run(count: number, work: StepWork): Promise<readonly Made[]>
  /** Sums the gradients over all processes; returns their norm where a process has only a part of the gradient. */
  sum(session: NativeSession, adapter: AdapterState): Promise<Pick<OptimizerStep, 'gradNorm'>>
}

/** The way of a run. */
export function passesOf({ ranks, pipe }: { ranks: Processes; pipe?: LayerPipe | undefined }): Passes {
  if (pipe !== undefined) return new Piped(ranks, pipe)
  return ranks.isAlone ? ALONE : new DealtOut(ranks)
}

/** A process without others. */
export const ALONE: Passes = {
  knowsLoss: true,
  async run(count, { pass }) {
    const made: Made[] = []
    for (let i = 0; i < count; i++) made.push(await pass(i, false))
    return made
  },
  sum: async () => ({}),
}

/** Micro-batch i belongs to process i modulo their number. */
class DealtOut implements Passes {
  readonly knowsLoss = true
  readonly #ranks: Processes

  constructor(ranks: Processes) {
    this.#ranks = ranks
  }

  async run(count: number, { pass, idle }: StepWork): Promise<readonly Made[]> {
    const { rank, size } = this.#ranks
    const all = await this.#ranks.together('a step', async () => {
      const made: Made[] = []
      for (let i = rank; i < count; i += size) made.push(await pass(i, i + size >= count))
      if (made.length === 0) await idle()
      return made
    })
    return all.flat().sort((a, b) => a.microStep - b.microStep)
  }

  async sum(session: NativeSession): Promise<Pick<OptimizerStep, 'gradNorm'>> {
    await this.#ranks.summing(() => translatedAsync(() => session.sumGradients(TRAIN_PLAN).promise))
    return {}
  }
}

/** Layers are split over processes, the last of which has the head. */
class Piped implements Passes {
  readonly #ranks: Processes
  readonly #pipe: LayerPipe

  constructor(ranks: Processes, pipe: LayerPipe) {
    this.#ranks = ranks
    this.#pipe = pipe
  }

  get knowsLoss(): boolean {
    return this.#pipe.isLast
  }

  async run(count: number, { pass, forward }: StepWork): Promise<readonly Made[]> {
    const pipe = this.#pipe
    const all = await this.#ranks.together('a step', async () => {
      const made: Made[] = []
      await pipe.run(pipe.passes(count), async ({ kind, microBatch }) => {
        if (kind === 'forward') await forward(microBatch)
        else made.push(await pass(microBatch, false))
      })
      return made
    })
    pipe.expectWhole()
    return all.at(-1) as readonly Made[]
  }

  async sum(_: NativeSession, adapter: AdapterState): Promise<Pick<OptimizerStep, 'gradNorm'>> {
    return { gradNorm: await this.#pipe.gradNorm(adapter) }
  }
}
