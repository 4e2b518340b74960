/**
 * Memory for jobs: what the planner says that one takes, and what the limit of the server leaves to it beside the models.
 * A job that can never fit is refused; one that only waits for answers in progress waits.
 */
import { formatBytes } from '../core/bytes.js'
import type { Model } from '../model/model.js'
import { addon } from '../native/addon.js'
import { cardOf } from '../native/device.js'
import { translated } from '../native/errors.js'
import type { Optimizer } from '../options/types.js'
import { ownBytes, sizesOf } from '../planning/cards.js'
import { openPlanner } from '../planning/plan.js'
import { memoryAdvice } from '../planning/room.js'
import type { RunConfig } from '../train/config/config.js'
import { memorySettings, pagedHere, planShape } from '../train/config/preflight.js'
import { ApiError } from './errors.js'
import type { Models } from './models.js'

const OF_THE_BASE = ['weights', 'quantization_constants', 'paged_weights'] as const

/** Memory that a job needs. */
export interface PlannedJob {
  /** Peak of the run with its base, as `lowrank plan` prints it. */
  plannedBytes: number
  /** The same without the base, which the server holds already. */
  needed: number
  /** The optimizer that the run would choose on this machine; null for the one of the config. */
  optimizer: Optimizer | null
  /** Options with which the job needs less. */
  advice: string
}

export class Memory {
  readonly #models: Models
  readonly #limit: number | undefined
  readonly #free = process.availableMemory()

  /** @param limit bytes for models and jobs together; undefined for what is free now, or the memory of the card */
  constructor(models: Models, limit: number | undefined) {
    this.#models = models
    this.#limit = limit
  }

  async planned(model: Model, config: RunConfig): Promise<PlannedJob> {
    const card = cardOf(model.device)
    const { quantization, embeddingQuantization, precision } = model
    const planner = await openPlanner(model.path, {
      ...planShape(config),
      ...{
        quantization,
        embeddingQuantization,
        precision: precision === 'f32' ? 'fp32' : precision,
        ...(model.revision === null ? {} : { revision: model.revision }),
      },
      ...(card ? { card: sizesOf(card) } : {}),
    })
    const available = alone(model) + this.#availableFor(model)
    const optimizer = card ? undefined : pagedHere(config, planner.plan, available).paged?.optimizer
    const plan = planner.plan(optimizer ? { optimizer } : {})
    const needed = plan.peakBytes - sumOf(OF_THE_BASE.map((category) => plan.bytes(category)))
    return {
      ...{ plannedBytes: alone(model) + needed, needed, optimizer: optimizer ?? null },
      advice: memoryAdvice(plan, memorySettings(config, model)),
    }
  }

  /** @throws {ApiError} for a job that does not fit even while nobody asks the models */
  expectRoom(model: Model, { needed, advice }: PlannedJob): void {
    const available = this.#availableFor(model)
    if (needed <= available) return
    throw new ApiError(
      400,
      `This job needs ${shown(needed)} of memory beside the models, and ${shown(available)} are available to jobs. ${advice}`,
      'insufficient_memory',
    )
  }

  /** Planned bytes of the models, without adapters. */
  get modelBytes(): number {
    return sumOf(this.#models.bases.map(alone))
  }

  /** Planned bytes of jobs beside their models. */
  jobBytes(jobs: readonly { base: string; planned_bytes: number }[]): number {
    return sumOf(
      jobs.map(({ base, planned_bytes }) => planned_bytes - alone(this.#models.trainable(base).model)),
    )
  }

  /** Bytes that are free now. */
  freeFor(model: Model): number {
    const held = addon().allocated(model.device === 'cpu' ? 'host' : 'device')
    return Math.max(0, this.#limitOf(model) - sumOf(Object.values(held)))
  }

  /** Bytes for jobs while nobody asks the models. */
  #availableFor(model: Model): number {
    return Math.max(0, this.#limitOf(model) - sumOf(this.#besides(model).map(alone)))
  }

  #limitOf(model: Model): number {
    if (this.#limit !== undefined) return this.#limit
    const card = cardOf(model.device)
    return card ? card.memoryBytes - ownBytes(card) : this.#free + sumOf(this.#besides(model).map(alone))
  }

  /** The models of the same device, this one too. */
  #besides({ device }: Model): Model[] {
    return this.#models.bases.filter((model) => model.device === device)
  }
}

/** Bytes of a model without adapters. */
function alone({ base }: Model): number {
  return translated(() => base.native.plan([], {})).peakBytes
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, bytes) => sum + bytes, 0)
}

/** For people, and exactly. */
export function shown(bytes: number): string {
  return `${formatBytes(bytes)} (${bytes} bytes)`
}
