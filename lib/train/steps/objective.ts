/** The losses of tasks, for the steps of a run. */
import type { MicroBatch } from '../../data/pack.js'
import type { Metrics } from '../../losses/rows.js'
import type { NativeSession } from '../../native/addon.js'
import type { Work } from '../engine/gradients.js'
import type { BatchSource, Window } from '../rows/batches.js'
import type { EvaluateControl, Evaluation } from './evaluate.js'
import type { RunPlace } from './step.js'

/** The loss of a task. */
export interface Objective {
  /** What the losses of a window's micro-batches are: sums over tokens, or parts of a mean. */
  readonly losses: 'sums' | 'parts of a mean'
  /** Computes what steps and evaluations need; called before the first of them. */
  prepare?(session: NativeSession, about: RunPlace): Promise<void>
  evaluate(session: NativeSession, source: BatchSource, control: EvaluateControl): Promise<Evaluation>
  /** Replaces the rows of a window by answers to them. @param step its number, from 1 */
  answered?(session: NativeSession, window: Window, step: number): Promise<Window>
  /** Begins the window of an optimizer step; returns the loss of each of its micro-batches. */
  window(session: NativeSession, window: Window): WorkOf | Promise<WorkOf>
  /** Means of its metrics, named as in events. */
  named(metrics: Metrics): Partial<Evaluation>
}

export type WorkOf = (batch: MicroBatch) => Work
