/** The result of a run, which a program waits for once the run has ended. */

import { type BestReport, bestReport, type RunEvaluation } from '../steps/best.js'
import type { DoneEvent } from '../steps/events.js'
import type { TrainingState } from '../steps/step.js'
import type { RunSetup } from './run-setup.js'

/** How a run ended, and what it found. */
export interface RunResult {
  /** `stopped`: by `stop()`, or by leaving its loop; `early_stopping`: the metric no longer improved. */
  ended: 'completed' | 'early_stopping' | 'stopped'
  /** Optimizer steps made, including those before the run was resumed. */
  steps: number
  /** Mean loss of the steps, weighted by their supervised tokens, nats; null if there was no step. */
  trainLoss: number | null
  /** The best evaluation; null without held-out data. */
  best: BestReport | null
  /** All evaluations, with their metrics. */
  evaluations: readonly RunEvaluation[]
  /** Paths of the checkpoints that the run saved. */
  checkpoints: readonly string[]
  /** Folder of the adapter; null if the run saves nothing. */
  outputDir: string | null
}

const NOT_BEGUN = { step: 0, totals: { supervisedTokens: 0, lossSum: 0 }, evaluations: [] }

/**
 * @param state undefined for a run that has not begun
 * @param done undefined for a run that was stopped
 */
export function resultOf(
  { options, folders }: RunSetup,
  state: TrainingState | undefined,
  checkpoints: readonly string[],
  done: DoneEvent | undefined,
): RunResult {
  const { step, totals, evaluations } = state ?? NOT_BEGUN
  return {
    ended: done === undefined ? 'stopped' : done.stoppedEarly ? 'early_stopping' : 'completed',
    steps: step,
    trainLoss: totals.supervisedTokens > 0 ? totals.lossSum / totals.supervisedTokens : null,
    best: bestReport(evaluations, options, step) ?? null,
    evaluations,
    checkpoints,
    outputDir: folders?.outputDir ?? null,
  }
}

/** A promise of the result, settled from outside. A failure that nobody waits for is no unhandled rejection. */
export class Outcome {
  readonly result: Promise<RunResult>
  resolve!: (result: RunResult) => void
  reject!: (error: unknown) => void

  constructor() {
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    this.result.catch(() => undefined)
  }
}
