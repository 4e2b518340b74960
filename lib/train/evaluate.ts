/** Loss and perplexity over tokenized data. */
import { exp } from '../core/portable-exp.js'
import type { NativeSession } from '../native/addon.js'
import type { BatchSource } from './batches.js'
import type { ClassMetrics } from './class-metrics.js'
import { Ranks } from './ranks.js'

/** Means over pairs of answers. */
export interface PreferenceMetrics {
  /** Reward of the chosen answer: `beta` times how much likelier it is than by the reference; with ORPO, than nothing. */
  rewardsChosen?: number
  rewardsRejected?: number
  /** Their difference. */
  rewardsMargins?: number
  /** Share of pairs whose chosen answer has the larger reward. */
  rewardsAccuracies?: number
  /** Log-probability of the chosen answer, nats. */
  logpsChosen?: number
  logpsRejected?: number
  /** ORPO: mean over the tokens of chosen answers, nats. */
  nllLoss?: number
  /** ORPO: logarithm of the odds ratio. */
  logOddsChosen?: number
  /** ORPO: logarithm of the logistic function of it. */
  logOddsRatio?: number
}

/** Result of an evaluation; of pairs of answers, and of classes, with their metrics. */
export interface Evaluation extends PreferenceMetrics, ClassMetrics {
  /** Mean over supervised tokens, nats; of classes over rows, of pairs of answers the loss of the task. */
  loss: number
  /** exp(loss). */
  perplexity: number
  /** All tokens that were processed. */
  tokens: number
  supervisedTokens: number
  /** Share of rows answered word for word, where `metricForBestModel` asks for it. */
  exactMatch?: number
}

/** Callbacks and signal of an evaluation. */
export interface EvaluateControl {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: EvaluateProgress) => void) | undefined
  /** Processes that share the batches; default: this one alone. */
  ranks?: Ranks | undefined
}

/** Progress of an evaluation. */
export interface EvaluateProgress {
  batches: number
  totalBatches: number
}

/**
 * Runs every micro-batch of the source's first epoch; an abort rejects with the signal's reason between two of them.
 */
export async function evaluateBatches(
  session: NativeSession,
  plan: string,
  source: BatchSource,
  { signal, onProgress, ranks = Ranks.alone() }: EvaluateControl = {},
): Promise<Evaluation> {
  const count = source.count(0)
  const own = async () => {
    const found: { index: number; lossSum: number; count: number; tokens: number }[] = []
    for (let index = ranks.rank; index < count; index += ranks.size) {
      signal?.throwIfAborted()
      const batch = source.get(0, index)
      const result = await session.evaluate(plan, batch).promise
      found.push({ index, ...result, tokens: batch.tokens.length })
      onProgress?.({ batches: Math.min(index + ranks.size, count), totalBatches: count })
    }
    return found
  }
  const found = (await ranks.together('batches of an evaluation', own)).flat()
  let lossSum = 0
  let supervisedTokens = 0
  let tokens = 0
  // In the order of batches, so that the sums are those of a process alone.
  for (const batch of found.sort((a, b) => a.index - b.index)) {
    lossSum += batch.lossSum
    supervisedTokens += batch.count
    tokens += batch.tokens
  }
  const loss = lossSum / supervisedTokens
  return { loss, perplexity: exp(loss), tokens, supervisedTokens }
}
