/** The handle of sessions. */
import type {
  EvaluateInput,
  ForwardInput,
  ForwardResult,
  LossResult,
  PlanReport,
  TextInput,
  TrainInput,
} from '../boundary.js'
import type { Job } from './job.js'

/** A token drawn after a text. */
export type Drawn = ForwardResult & { token: number }

/** Plans over one model and a list of adapters, sharing one arena the size of the largest plan. */
export interface NativeSession {
  report(plan: string): PlanReport
  /** The report of the whole session: the maximum over its plans, by category. */
  total(): PlanReport
  /**
   * Forward and backward pass of one micro-batch. Gradients accumulate in the (single) adapter, or are applied by an
   * update.
   */
  trainStep(plan: string, input: TrainInput): Job<LossResult>
  /**
   * The forward pass of a micro-batch on a rank whose layers are not the last. Its `trainStep` comes later, with the same
   * input; it computes the forward pass again unless it is the session's next call.
   */
  forwardStep(plan: string, input: TrainInput): Job<void>
  /**
   * Makes up for failed or omitted passes of a rank that holds a part of the layers, until it has made `forwards`
   * forward and `backwards` backward passes: receives what the other ranks sent for them, and tells these that it failed.
   */
  skipPasses(forwards: number, backwards: number): Job<void>
  /**
   * First half of a step for plans with `twoPasses`: the forward pass and `logProbs`. Values for the backward pass are
   * kept until the session's next call.
   */
  scoreStep(plan: string, input: TrainInput): Job<LossResult>
  /**
   * Second half: the backward pass, with a weight for each of those positions. Rejects with CONFIG if the first half
   * was not the session's last call, or the adapter has changed since.
   */
  finishStep(input: { weights: Float32Array }): Job<LossResult>
  /**
   * Sums the gradients of all ranks, in rank order, or waits for the sums begun by a pass that was `lastOfStep`. All
   * ranks must call it, with or without such a pass.
   */
  sumGradients(plan: string): Job<void>
  evaluate(plan: string, input: EvaluateInput): Job<LossResult>
  /**
   * Sums of ||output||^2 of the first adapter at each of its terms, over all tokens evaluated so far by plans with
   * `outputNorms`. Rejects with UNSUPPORTED for a term without a rank.
   */
  outputNorms(): Job<Float64Array>
  forward(plan: string, input: ForwardInput): Job<ForwardResult>
  /**
   * Continues several texts, each in a part of the cache of its own, and draws the next token of each that has a
   * sampling, in order. Every text gets the bits that `forward` gives it alone. Rejects with UNSUPPORTED for models that
   * keep other states than keys and values, and for texts with different adapters unless all of these only add to
   * products, as LoRA does.
   */
  decode(plan: string, texts: readonly TextInput[]): Job<Drawn[]>
  /** Copies the first tokens of one part of the cache to the beginning of another. */
  copyCache(plan: string, from: number, to: number, tokens: number): Job<void>
  dispose(): Promise<void>
}
