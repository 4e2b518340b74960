/** Loss and perplexity over tokenized data. */
import { exp } from '../core/portable-exp.js'
import type { NativeSession } from '../native/addon.js'
import type { BatchSource } from './batches.js'

/** Result of an evaluation. */
export interface Evaluation {
  /** Mean over supervised tokens, nats. */
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
  { signal, onProgress }: EvaluateControl = {},
): Promise<Evaluation> {
  const count = source.count(0)
  let lossSum = 0
  let supervisedTokens = 0
  let tokens = 0
  for (let i = 0; i < count; i++) {
    signal?.throwIfAborted()
    const batch = source.get(0, i)
    const result = await session.evaluate(plan, batch).promise
    lossSum += result.lossSum
    supervisedTokens += result.count
    tokens += batch.tokens.length
    onProgress?.({ batches: i + 1, totalBatches: count })
  }
  const loss = lossSum / supervisedTokens
  return { loss, perplexity: exp(loss), tokens, supervisedTokens }
}
