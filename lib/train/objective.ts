/** The losses of tasks, for the steps of a run. */
import type { MicroBatch } from '../data/pack.js'
import type { Metrics } from '../losses/rows.js'
import type { LossResult, NativeSession, TrainInput } from '../native/addon.js'
import type { BatchSource, Window } from './batches.js'
import type { EvaluateControl, Evaluation } from './evaluate.js'
import type { RunPlace } from './step.js'

/** Input of a micro-batch, without the fields that the loss sets. */
export type PassInput = Omit<TrainInput, 'lossScale' | 'weights'>

/** The loss of a task. */
export interface Objective {
  /** Computes what steps and evaluations need; called before the first of them. */
  prepare?(session: NativeSession, about: RunPlace): Promise<void>
  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation>
  /** Replaces the rows of a window by answers to them. @param step its number, from 1 */
  answered?(session: NativeSession, window: Window, step: number): Promise<Window>
  /** Begins the window of an optimizer step. */
  window(session: NativeSession, batches: readonly MicroBatch[]): Pass | Promise<Pass>
  /** Means of its metrics, named as in events. */
  named(metrics: Metrics): Partial<Evaluation>
}

/**
 * Adds the gradient of a micro-batch to the adapter's.
 * @param valued called with the micro-batch's contribution to the mean loss of its window, and sums of its
 * metrics
 */
export type Pass = (
  input: PassInput,
  batch: MicroBatch,
  valued: (loss: number, metrics?: Metrics) => void,
) => Promise<LossResult>
