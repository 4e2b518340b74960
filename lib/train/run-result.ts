/** The result of a run, which a program waits for once the run has ended. */
import type { BestReport, RunEvaluation } from './best.js'

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
