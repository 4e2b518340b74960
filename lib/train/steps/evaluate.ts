/** Loss and perplexity over tokenized data. */
import { exp } from '../../core/portable-exp.js'
import type { NativeSession } from '../../native/addon.js'
import type { LayerPipe } from '../processes/pipe.js'
import { Processes } from '../processes/processes.js'
import type { BatchSource } from '../rows/batches.js'
import type { ClassMetrics } from './class-metrics.js'

/** Means over preference pairs; of `kto`, over the good answers as chosen and the bad ones as rejected. */
export interface PreferenceMetrics {
  /**
   * Reward of the chosen answer: `beta` times its log-probability minus the reference's; with ORPO, `beta` times its
   * mean log-probability per token.
   */
  rewardsChosen?: number
  rewardsRejected?: number
  /** Chosen minus rejected reward. */
  rewardsMargins?: number
  /** Share of pairs in which the chosen answer has the larger reward. */
  rewardsAccuracies?: number
  /** Log-probability of the chosen answer, nats. */
  logpsChosen?: number
  logpsRejected?: number
  /** ORPO: mean negative log-likelihood over the tokens of chosen rows that `nllOn` names, nats. */
  nllLoss?: number
  /** ORPO: log odds ratio. */
  logOddsChosen?: number
  /** ORPO: log-sigmoid of the log odds ratio. */
  logOddsRatio?: number
  /** KTO: divergence from the reference, estimated on answers to other prompts, nats; at least 0. */
  kl?: number
}

/** Task `grpo`: means over the answers of a step. */
export interface RewardMetrics {
  /** Mean reward of the answers; of an evaluation, of the greedy ones, if it is the `metricForBestModel`. */
  reward?: number
  /** Standard deviation of the rewards. */
  rewardStd?: number
  /** Share of prompts whose answers all have the same reward, so that nothing is learned from them. */
  fracRewardZeroStd?: number
  /** Mean reward by each function, by its name. */
  rewards?: Readonly<Record<string, number>>
  /** Mean number of tokens in an answer, with its end token. */
  completionsMeanLength?: number
  /** Share of answers that were cut before their end. */
  completionsClippedRatio?: number
}

/** Result of an evaluation; for preference pairs, rewards, and classes, with their metrics. */
export interface Evaluation extends PreferenceMetrics, RewardMetrics, ClassMetrics {
  /** Mean over supervised tokens, nats; for classification over rows; for preference pairs the loss of the task. */
  loss: number
  /** exp(loss). */
  perplexity: number
  /** All tokens processed. */
  tokens: number
  supervisedTokens: number
  /** Share of supervised tokens that are the likeliest ones; with `tokenAccuracy`. */
  meanTokenAccuracy?: number
  /** Share of rows answered word for word, if it is the `metricForBestModel`. */
  exactMatch?: number
  /** Mean word F1 of the generated answers over rows, if it is the `metricForBestModel`. */
  f1?: number
  /** Mean over rows of each custom metric, by name. */
  scores?: Readonly<Record<string, number>>
}

/** Callbacks and signal of an evaluation. */
export interface EvaluateControl {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: EvaluateProgress) => void) | undefined
  /** Processes that share the batches. Default: this process alone. */
  ranks?: Processes | undefined
  /** For a model whose layers are split over the ranks. */
  pipe?: LayerPipe | undefined
}

/** Progress of an evaluation. */
export interface EvaluateProgress {
  batches: number
  totalBatches: number
}

/** Batches that a rank evaluates before it checks whether another rank was asked to stop. */
const MEASURED_ALONE = 8

/**
 * Measures `count` batches, distributed over the ranks. An abort rejects with the signal's reason between two
 * batches; with several ranks, where they synchronize.
 * @returns the result of `measure` for each batch, in order, on all ranks
 */
export async function measured<Found>(
  count: number,
  { signal, onProgress, ranks = Processes.alone(), pipe }: EvaluateControl,
  measure: (index: number) => Promise<Found>,
): Promise<Found[]> {
  const found: Found[] = []
  const length = ranks.isAlone ? 1 : MEASURED_ALONE * (pipe ? 1 : ranks.size)
  for (let begin = 0; begin < count; begin += length) {
    signal?.throwIfAborted()
    const end = Math.min(count, begin + length)
    if (pipe !== undefined) {
      const indices = Array.from({ length: end - begin }, (_, i) => begin + i)
      found.push(...(await pipe.measured(indices, measure)))
      onProgress?.({ batches: end, totalBatches: count })
      continue
    }
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
 * Evaluates every micro-batch of the source's first epoch; an abort rejects with the signal's reason between
 * micro-batches.
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
  let hits: number | undefined
  // Sum in batch order, so that the result does not depend on the number of ranks.
  for (const batch of found) {
    lossSum += batch.lossSum
    supervisedTokens += batch.count
    tokens += batch.tokens
    if (batch.hits !== undefined) hits = (hits ?? 0) + batch.hits
  }
  const loss = lossSum / supervisedTokens
  const accuracy = hits === undefined ? {} : { meanTokenAccuracy: hits / supervisedTokens }
  return { loss, perplexity: exp(loss), tokens, supervisedTokens, ...accuracy }
}
