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
  /** Mean over rows of the F1 of words of the generated answer, where `metricForBestModel` asks for it. */
  f1?: number
  /** Mean over rows of a metric of the program's own, by its name. */
  scores?: Readonly<Record<string, number>>
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

/** Batches that a rank measures before it hears whether another one was asked to stop. */
const MEASURED_ALONE = 8

/**
 * Measures so many batches, which are dealt out to the ranks. An abort rejects with the signal's reason between two of
 * them; on ranks, where they meet.
 * @returns what `measure` gives for each, in their order, on all ranks
 */
export async function measured<Found>(
  count: number,
  { signal, onProgress, ranks = Ranks.alone() }: EvaluateControl,
  measure: (index: number) => Promise<Found>,
): Promise<Found[]> {
  const found: Found[] = []
  const length = ranks.isAlone ? 1 : MEASURED_ALONE * ranks.size
  for (let begin = 0; begin < count; begin += length) {
    signal?.throwIfAborted()
    const end = Math.min(count, begin + length)
    const all = await ranks.together('batches of an evaluation', async () => {
      const own: Found[] = []
      for (let index = begin + ranks.rank; index < end; index += ranks.size) {
        own.push(await measure(index))
        onProgress?.({ batches: Math.min(index + ranks.size, count), totalBatches: count })
      }
      return own
    })
    for (let index = 0; index < end - begin; index++)
      found.push(all[index % ranks.size]?.[Math.floor(index / ranks.size)] as Found)
  }
  return found
}

/**
 * Runs every micro-batch of the source's first epoch; an abort rejects with the signal's reason between two of them.
 */
export async function evaluateBatches(
  session: NativeSession,
  plan: string,
  source: BatchSource,
  control: EvaluateControl = {},
): Promise<Evaluation> {
  const found = await measured(source.count(0), control, async (index) => {
    const batch = source.get(0, index)
    return { ...(await session.evaluate(plan, batch).promise), tokens: batch.tokens.length }
  })
  let lossSum = 0
  let supervisedTokens = 0
  let tokens = 0
  // In the order of batches, so that the sums do not depend on the ranks.
  for (const batch of found) {
    lossSum += batch.lossSum
    supervisedTokens += batch.count
    tokens += batch.tokens
  }
  const loss = lossSum / supervisedTokens
  return { loss, perplexity: exp(loss), tokens, supervisedTokens }
}
