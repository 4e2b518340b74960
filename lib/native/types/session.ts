/** Types of sessions: inputs and results of training, evaluation, and generation, and the native session handle. */
import type { PlanReport } from '../boundary.js'
import type { OptimizerStep } from './adapter.js'
import type { NativeMatcher } from './grammar.js'
import type { Job } from './job.js'

/** A packed micro-batch; sequence s is tokens cuSeqlens[s] .. cuSeqlens[s + 1] - 1. */
export interface MicroBatch {
  tokens: Int32Array
  cuSeqlens: Int32Array
  /** Token id to predict at each position, or -100; already shifted. */
  labels: Int32Array
}

export interface TrainInput extends MicroBatch {
  /** Factor on every token's loss gradient: 1 / labeled tokens of the whole accumulation window. */
  lossScale: number
  /**
   * Weight of each labeled position in order, replacing `lossScale`; only, and required, for plans with `rowWeights`.
   */
  weights?: Float32Array
  /** Divides the logits; default 1. */
  temperature?: number
  /** Label smoothing: fraction of each label spread over the vocabulary; default 0. */
  labelSmoothing?: number
  /** Alpha of NEFTune's noise on the embeddings; default 0, no noise. */
  embeddingNoise?: number
  /** Counters for random dropout and noise. */
  seed: number
  step: number
  microStep: number
  /** Number of leading ranks in use; default all. */
  activeRank?: number
  /** Whether only the last of those ranks gets gradients. Default false. */
  lastRankOnly?: boolean
  /**
   * Clipping bound for the gradient of each sequence (a mean over its own labels), if the adapter is trained privately
   * by `examples`: clipped gradients are added to the round's sum, and the adapter's gradient is unchanged.
   */
  clippingNorm?: number
  /**
   * True for the last micro-batch of this rank in a step. Its gradients are summed over ranks while the backward pass
   * goes on; `sumGradients` waits for that. Default false.
   */
  lastOfStep?: boolean
  /**
   * Update to make during the backward pass, if and only if the adapter's state is `inBackward`; without clipping. If
   * the loss is not finite, nothing is updated. Rejects with DIVERGED for a gradient that is not finite; parameters
   * whose gradients came earlier in the backward pass have then been updated, as when the job is canceled.
   */
  update?: OptimizerStep
}

export interface LossResult {
  /** Sum over labeled positions, nats. */
  lossSum: number
  /** Number of labeled positions. */
  count: number
  /** Gradient norms of the sequences before clipping, if they are clipped. */
  norms?: Float64Array
  /** Norm of the gradient, if an update was made in the backward pass. */
  gradNorm?: number
  /** Labeled positions whose label has the largest logit; for plans that count them. */
  hits?: number
  /** Log-probability of each labeled position in order; for plans with `rowWeights`, or if requested. */
  logProbs?: Float32Array
  /** Logits of each labeled position `[positions, labels]`; for evaluations, if requested. */
  logits?: Float32Array
}

/** Input of an evaluation. */
export interface EvaluateInput extends MicroBatch {
  /** Divides the logits; default 1. */
  temperature?: number
  /** Return `logProbs`. */
  wantLogProbs?: boolean
  /** Return `logits`; rejects with CONFIG if they exceed what the plan holds at a time. */
  wantLogits?: boolean
}

export interface Sampling {
  /** 0 is greedy. */
  temperature: number
  topK: number
  topP: number
  seed: number
  /** Counter for the random draw. */
  position: number
  /** Subtracted from a token's logit for each time that it is among `drawn`, before the temperature. Default 0. */
  frequencyPenalty?: number
  /** Subtracted once from the logit of each token among `drawn`. Default 0. */
  presencePenalty?: number
  /** The answer so far, if there are penalties. */
  drawn?: Int32Array
  /** Added to the logits of tokens. */
  logitBias?: { ids: Int32Array; values: Float32Array }
  /** Only tokens that may come next are drawn; the drawn one moves it on. */
  rules?: NativeMatcher
}

/**
 * Log-probabilities in nats in the model's own distribution, which temperature, penalties, biases, and grammars do not
 * change.
 */
export interface OwnLogProbs {
  /** Log-probability of the drawn token. */
  logProb: number
  /** The likeliest tokens, in descending order; ties by id. */
  top: Int32Array
  topLogProbs: Float64Array
}

/** New tokens of one of several texts that share a cache. */
export interface TextInput
  extends Pick<ForwardInput, 'tokens' | 'past' | 'reach' | 'sampling' | 'wantLogProb' | 'topLogProbs'> {
  /** First token of the text's own part of the cache. */
  begin: number
  /** Numbers of the session's adapters that act on the text, ascending. */
  adapters: Int32Array
}

export interface ForwardInput {
  tokens: Int32Array
  /** Number of tokens already in the KV cache, followed by the new ones. */
  past: number
  /**
   * Maximum tokens that the cached text may reach, which selects the frequencies in models with separate ones for long
   * texts; must be the same in all calls for one text. Default: the tokens so far, including this call.
   */
  reach?: number
  /** Rows of `tokens` whose logits are needed, ascending; usually only the last, and none while processing a prompt. */
  rows: Int32Array
  /** Return the logits `[rows, vocab]` (tests, scoring). */
  wantLogits?: boolean
  /** Sample the next token from the last row. */
  sampling?: Sampling
  /** Return the log-probability of that token. */
  wantLogProb?: boolean
  /** Return `own`, with this many of the likeliest tokens. */
  topLogProbs?: number
}

/** A token drawn after a text. */
export type Drawn = ForwardResult & { token: number }

export interface ForwardResult {
  token?: number
  /** Log-probability of `token` in nats: the softmax of logits / temperature over the whole vocabulary. */
  logProb?: number
  own?: OwnLogProbs
  logits?: Float32Array
}

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
