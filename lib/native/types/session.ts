/** Types of sessions: inputs and results of training, evaluation and generation, and the handle of the native session. */
import type { OptimizerStep } from './adapter.js'
import type { Job } from './job.js'
import type { PlanReport } from './plan.js'

/** A packed micro-batch; sequence s is tokens cuSeqlens[s] .. cuSeqlens[s + 1] - 1. */
export interface MicroBatch {
  tokens: Int32Array
  cuSeqlens: Int32Array
  /** Id that each position should predict, or -100; already shifted. */
  labels: Int32Array
}

export interface TrainInput extends MicroBatch {
  /** Multiplies every token's loss gradient: 1 / labeled tokens of the whole accumulation window. */
  lossScale: number
  /** Weight of each labeled position in order, in place of `lossScale`; where the plan has `rowWeights`, and only there. */
  weights?: Float32Array
  /** Divides the logits; default 1. */
  temperature?: number
  /** Share of each label that goes to the whole vocabulary; default 0. */
  labelSmoothing?: number
  /** Alpha of NEFTune's noise on the embeddings; default 0, none. */
  embeddingNoise?: number
  /** Counters behind dropout and noise. */
  seed: number
  step: number
  microStep: number
  /** Ranks in use, from the first; default all. */
  activeRank?: number
  /** Only the last of those ranks gets gradients. Default false. */
  lastRankOnly?: boolean
  /**
   * Bound of the gradient of each sequence, a mean over its own labels, if the adapter is trained privately by `examples`:
   * the clipped gradients are added to the round's sum, and the adapter's gradient is left alone.
   */
  clippingNorm?: number
  /**
   * Made in the backward pass, where the adapter's state is `inBackward`, and there only; without clipping. With a loss
   * that is not finite nothing is updated. Rejects with DIVERGED for a gradient that is not: what came before it in the
   * backward pass is updated then, as it is when the job is canceled.
   */
  update?: OptimizerStep
}

export interface LossResult {
  /** Sum over labeled positions, nats. */
  lossSum: number
  /** Labeled positions. */
  count: number
  /** Norms of the sequences' gradients before clipping, where they are clipped. */
  norms?: Float64Array
  /** Norm of the gradient, where it was used up by an update. */
  gradNorm?: number
  /** Log-probability of each labeled position in order; of plans with `rowWeights`, and where it is asked for. */
  logProbs?: Float32Array
  /** Logits of each labeled position `[positions, labels]`; of an evaluation, where they are asked for. */
  logits?: Float32Array
}

/** Input of an evaluation. */
export interface EvaluateInput extends MicroBatch {
  /** Divides the logits; default 1. */
  temperature?: number
  /** Return `logProbs`. */
  wantLogProbs?: boolean
  /** Return `logits`; rejects with CONFIG where they are more than the plan holds at a time. */
  wantLogits?: boolean
}

export interface Sampling {
  /** 0 is greedy. */
  temperature: number
  topK: number
  topP: number
  seed: number
  /** Counter of the draw. */
  position: number
}

export interface ForwardInput {
  tokens: Int32Array
  /** Tokens already in the KV cache; the new ones follow them. */
  past: number
  /**
   * Tokens that the text in the cache may come to have, which decides the frequencies of models that have others for long
   * texts; alike in all calls of one text. Default: those of this call and before.
   */
  reach?: number
  /** Rows of `tokens` whose logits are wanted, ascending; usually just the last, and none while a prompt goes in. */
  rows: Int32Array
  /** Return the logits `[rows, vocab]` (tests, scoring). */
  wantLogits?: boolean
  /** Draw the next token from the last row. */
  sampling?: Sampling
  /** Return the log-probability of that token. */
  wantLogProb?: boolean
}

export interface ForwardResult {
  token?: number
  /** Log-probability of `token` in nats: the softmax of logits / temperature over the whole vocabulary. */
  logProb?: number
  logits?: Float32Array
}

/** Plans over one model and a list of adapters, sharing one arena of the largest plan's size. */
export interface NativeSession {
  report(plan: string): PlanReport
  /** The report of the whole session: the largest over its plans, by category. */
  total(): PlanReport
  /** Forward and backward of one micro-batch; gradients add up in the (single) adapter, or are used up by an update. */
  trainStep(plan: string, input: TrainInput): Job<LossResult>
  /**
   * The first half of a step by a plan of `twoPasses`: the forward pass, and `logProbs`. The values for the backward pass
   * stay until the session's next call.
   */
  scoreStep(plan: string, input: TrainInput): Job<LossResult>
  /**
   * The second half: the backward pass, by a weight for each of those positions. Rejects with CONFIG where the first half
   * was not the session's last call, or the adapter has changed since.
   */
  finishStep(input: { weights: Float32Array }): Job<LossResult>
  evaluate(plan: string, input: EvaluateInput): Job<LossResult>
  /**
   * Sums of ||output||^2 of the first adapter at each of its terms, over all tokens of the evaluations so far by plans
   * with `outputNorms`. Rejects with UNSUPPORTED for a term without a rank.
   */
  outputNorms(): Job<Float64Array>
  forward(plan: string, input: ForwardInput): Job<ForwardResult>
  dispose(): Promise<void>
}
