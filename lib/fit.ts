/**
 * Settings with which a run fits into so much memory. Each optimiser step sees the same sequences whatever is chosen: what
 * a smaller micro-batch leaves over, gradient accumulation makes up for.
 */
import type { MemoryReport } from './memory.js'
import { openPlanner, type PlanModelOptions, type Planner } from './plan.js'

/** One way to run. */
export interface FitChoice {
  perDeviceTrainBatchSize: number
  gradientAccumulationSteps: number
  gradientCheckpointing: boolean
  memory: MemoryReport
  /** Of an optimiser step's products with base weights. */
  multiplyAdds: number
}

/** What was found. */
export interface Fit extends Pick<Planner, 'quantization'> {
  /** Those that fit, by their multiply-adds; of equal ones the largest micro-batch comes first. */
  choices: FitChoice[]
  /** The one that takes least, whether it fits or not. */
  least: FitChoice
}

/**
 * Plans every micro-batch that divides the sequences of an optimiser step, with activations kept and recomputed.
 * @param options.gradientAccumulationSteps times `perDeviceTrainBatchSize` are those sequences
 * @param budget bytes
 */
export async function fitRun(
  name: string,
  {
    gradientAccumulationSteps,
    perDeviceTrainBatchSize,
    ...options
  }: PlanModelOptions & { gradientAccumulationSteps: number; perDeviceTrainBatchSize: number },
  budget: number,
): Promise<Fit> {
  const planner = await openPlanner(name, options)
  const sequences = perDeviceTrainBatchSize * gradientAccumulationSteps
  const all = divisors(sequences).flatMap((batch) =>
    [false, true].map((recompute) => choiceOf(planner, batch, sequences / batch, recompute)),
  )
  const choices = all
    .filter(({ memory }) => memory.peakBytes <= budget)
    .sort((a, b) => a.multiplyAdds - b.multiplyAdds || b.perDeviceTrainBatchSize - a.perDeviceTrainBatchSize)
  const least = all.reduce((found, one) => (one.memory.peakBytes < found.memory.peakBytes ? one : found))
  return { quantization: planner.quantization, choices, least }
}

function choiceOf(planner: Planner, batch: number, steps: number, recompute: boolean): FitChoice {
  const shape = { perDeviceTrainBatchSize: batch, gradientCheckpointing: recompute }
  const memory = planner.plan(shape)
  // The steps of training alone: an evaluation's would not say what training costs.
  const { timeline } = planner.plan({ ...shape, evaluates: false })
  return {
    perDeviceTrainBatchSize: batch,
    gradientAccumulationSteps: steps,
    gradientCheckpointing: recompute,
    memory,
    multiplyAdds: steps * timeline.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0),
  }
}

/** From the largest. */
function divisors(count: number): number[] {
  const small = Array.from({ length: Math.floor(Math.sqrt(count)) }, (_, i) => i + 1).filter(
    (one) => count % one === 0,
  )
  return [...new Set([...small, ...small.map((one) => count / one)])].sort((a, b) => b - a)
}
