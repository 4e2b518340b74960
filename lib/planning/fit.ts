/**
 * Finds settings with which a run fits in a memory budget. Each optimizer step sees the same sequences in every
 * setting: smaller micro-batches are compensated by gradient accumulation. If that is not enough, gradients can be
 * applied during the backward pass; checkpointed activations, optimizer state, and a frozen base can be kept on disk
 * (with a GPU, in pinned memory); and the state can be 8-bit.
 */

import { once } from '../core/once.js'
import { obstacleInBackward } from '../options/in-backward.js'
import { type FitOption, memoryOptions } from '../options/memory-shape.js'
import { adamWHeld, optimizerOf, statesOf } from '../options/optimizers.js'
import type { AdamW, MemoryShape, Optimizer } from '../options/types.js'
import { rulesOf } from '../strategies/index.js'
import type { MemoryReport } from './memory-report.js'
import { openPlanner, type PlanModelOptions, type Planner, type PlanShape } from './plan.js'

/** Options that differ from what was requested. */
export interface FitChanges extends Partial<Pick<MemoryShape, FitOption>> {
  optimizer?: Optimizer
}

/** One way to run. */
export interface FitChoice extends FitChanges {
  perDeviceTrainBatchSize: number
  gradientAccumulationSteps: number
  gradientCheckpointing: boolean
  memory: MemoryReport
  /** Multiply-adds per optimizer step in products with base weights. */
  multiplyAdds: number
  /** Bytes of offloaded activations that a micro-batch writes and reads, on disk or in pinned memory. */
  activationBytesMoved: number
  /** Bytes of paged state that an optimizer step reads and writes. */
  stateBytesMoved: number
  /** Bytes of a paged base that a training micro-batch reads. */
  baseBytesRead: number
}

/** Result of the search. */
export interface Fit extends Pick<Planner, 'quantization' | 'embeddingQuantization' | 'setting'> {
  /**
   * Settings that fit. For each micro-batch size, with and without checkpointing, no setting includes all changes of
   * another one that fits. Settings without changes come first, ordered by multiply-adds and then by descending
   * micro-batch size.
   */
  choices: FitChoice[]
  /** If nothing fits, the setting with the smallest peak. */
  least?: FitChoice
}

type FitOptions = PlanModelOptions & {
  gradientAccumulationSteps: number
  perDeviceTrainBatchSize: number
  /** As in training. Default 1. */
  maxGradNorm?: number
}

/** Settings that may be changed. */
type Change = 'pagedState' | 'pagedBase' | 'eightBitState'

/**
 * Combinations of changes for state and base: first those that leave results unchanged, then those that round
 * differently.
 */
const WAYS: readonly (readonly Change[])[] = [
  [],
  ['pagedState'],
  ['pagedBase'],
  ['eightBitState'],
  ['pagedState', 'pagedBase'],
  ['pagedState', 'eightBitState'],
  ['eightBitState', 'pagedBase'],
  ['pagedState', 'eightBitState', 'pagedBase'],
]

const MEBIBYTE = 1 << 20

/**
 * Plans every micro-batch size that divides the sequences of an optimizer step, with activations kept and recomputed.
 * @param options.gradientAccumulationSteps times `perDeviceTrainBatchSize` gives the sequences per step
 * @param budget bytes
 */
export async function fitRun(
  name: string,
  { gradientAccumulationSteps, perDeviceTrainBatchSize, maxGradNorm = 1, ...options }: FitOptions,
  budget: number,
): Promise<Fit> {
  const planner = await openPlanner(name, options)
  const { quantization, embeddingQuantization, setting } = planner
  const held = { quantization, embeddingQuantization, setting }
  const ways = waysOf(planner, options)
  const sequences = perDeviceTrainBatchSize * gradientAccumulationSteps
  // Gradients applied during the backward pass cannot be accumulated over micro-batches.
  const batches = options.optimizerInBackward ? [sequences] : divisors(sequences)
  const planned = (batch: number, recompute: boolean, more: FitChanges): Shape => {
    const batched = { perDeviceTrainBatchSize: batch, gradientCheckpointing: recompute, ...more }
    const shape = { ...batched, gradientAccumulationSteps: sequences / batch }
    const memory = planner.plan(batched)
    if (memory.peakBytes <= budget || options.optimizerInBackward) return { ...shape, memory }
    if (obstacleInBackward({ ...shape, maxGradNorm }, options.strategy)) return { ...shape, memory }
    // Same results in the same time, so this is tried before the other changes.
    const used = { ...batched, optimizerInBackward: true } as const
    return { ...shape, ...used, memory: planner.plan(used) }
  }
  // Each micro-batch size with and without checkpointing: as requested, then with activations offloaded.
  const variants = batches.flatMap((batch): Shape[][] => {
    const recomputed = planned(batch, true, {})
    const fits = options.activationOffloading || recomputed.memory.peakBytes <= budget
    const again = [recomputed, ...(fits ? [] : [planned(batch, true, { activationOffloading: true })])]
    // These options imply checkpointing, so there is no variant without it.
    return memoryOptions.some(([key, { needs }]) => needs?.option === 'gradientCheckpointing' && options[key])
      ? [again]
      : [[planned(batch, false, {})], again]
  })
  const found = variants.flatMap((shapes) => {
    const fitting: Way[] = []
    return shapes.flatMap((shape) => {
      const spareOf = (way: Way) => budget + way.saves() - shape.memory.peakBytes
      const these = ways.filter((way) => {
        const needless = fitting.some(({ has }) => has.every((change) => way.has.includes(change)))
        if (needless || spareOf(way) < 0) return false
        fitting.push(way)
        return true
      })
      return these.map((way) => ({
        place: 2 * ways.indexOf(way) + (shape.activationOffloading ? 1 : 0),
        choice: choiceOf(planner, shape, way.changes(spareOf(way)), options.evaluates),
      }))
    })
  })
  if (found.length > 0) {
    const order = found.sort(
      (a, b) =>
        a.place - b.place ||
        a.choice.multiplyAdds - b.choice.multiplyAdds ||
        b.choice.perDeviceTrainBatchSize - a.choice.perDeviceTrainBatchSize,
    )
    return { ...held, choices: order.map(({ choice }) => choice) }
  }
  const shape = variants
    .flat()
    .reduce((least, one) => (one.memory.peakBytes < least.memory.peakBytes ? one : least))
  const way = ways.reduce((most, one) => (one.saves() > most.saves() ? one : most))
  return { ...held, choices: [], least: choiceOf(planner, shape, way.changes(0), options.evaluates) }
}

type Shape = FitChanges &
  Pick<
    FitChoice,
    'perDeviceTrainBatchSize' | 'gradientAccumulationSteps' | 'gradientCheckpointing' | 'memory'
  >

interface Way {
  has: readonly Change[]
  /** Upper bound on the bytes saved compared with the request. */
  saves(): number
  /** @param spare bytes beyond the minimum; state gets them before the base, because state is also written */
  changes(spare: number): FitChanges
}

/** The applicable combinations of changes for a run. */
function waysOf(
  planner: Planner,
  { optimizer = 'adamw', pagedWeights = false, strategy }: PlanModelOptions,
): Way[] {
  const asked = optimizerOf(optimizer)
  const states = asked.type === 'adamw' ? statesOf(strategy) : { paged: false, eightBit: false }
  const possible: Record<Change, boolean> = {
    pagedState: states.paged,
    eightBitState: states.eightBit,
    pagedBase: pagedWeights === false && rulesOf(strategy).saves !== 'model',
  }
  // Memory held throughout the run does not depend on the micro-batch.
  const held = (changes: FitChanges) =>
    planner.plan({ ...changes, perDeviceTrainBatchSize: 1, evaluates: false })
  const usual = once(() => held({}))
  return WAYS.filter((has) => has.every((change) => possible[change])).map((has) => {
    const [pagedState, pagedBase, eightBit] = (['pagedState', 'pagedBase', 'eightBitState'] as const).map(
      (change) => has.includes(change),
    )
    const changes = (spare: number): FitChanges => {
      const resident = pagedState ? mebibytes(Math.max(spare, MEBIBYTE)) : undefined
      const wider = spare >= MEBIBYTE && !pagedState
      const pages = wider ? mebibytes(least().bytes('paged_weights') + spare) : true
      return {
        ...((pagedState || eightBit) && { optimizer: adamWHeld(asked as AdamW, eightBit, resident) }),
        ...(pagedBase && { pagedWeights: pages }),
      }
    }
    const least = once(() => held(changes(0)))
    return {
      has,
      changes,
      saves: () => (has.length > 0 ? usual().residentBytes - least().residentBytes : 0),
    }
  })
}

function choiceOf(
  planner: Planner,
  { memory: asked, ...shape }: Shape,
  changes: FitChanges,
  evaluates = false,
): FitChoice {
  const { gradientAccumulationSteps: _, ...planned } = shape
  const plan = (more: PlanShape) => planner.plan({ ...planned, ...changes, ...more })
  const memory = Object.keys(changes).length > 0 ? plan({}) : asked
  // Count only training steps, since an evaluation does not reflect the cost of training.
  const training = evaluates ? plan({ evaluates: false }) : memory
  const multiplyAdds = training.timeline.reduce((sum, step) => sum + step.multiplyAdds, 0)
  return {
    ...shape,
    ...changes,
    memory,
    multiplyAdds: shape.gradientAccumulationSteps * multiplyAdds,
    activationBytesMoved: 2 * training.offloadedBytes,
    stateBytesMoved: 2 * training.pagedStateBytes,
    baseBytesRead: training.pagedReadBytes,
  }
}

/** Rounded down to MiB, as written in a config. */
function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / MEBIBYTE)}MiB`
}

/** Divisors in descending order. */
function divisors(count: number): number[] {
  const small = Array.from({ length: Math.floor(Math.sqrt(count)) }, (_, i) => i + 1).filter(
    (one) => count % one === 0,
  )
  return [...new Set([...small, ...small.map((one) => count / one)])].sort((a, b) => b - a)
}
