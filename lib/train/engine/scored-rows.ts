/** Rows with their log-probabilities under the current model, without dropout and without gradients. */
import { type RowBatch, scoredRows } from '../../losses/micro-batches.js'
import type { ScoredRow } from '../../losses/rows.js'
import type { NativeSession } from '../../native/addon.js'

/**
 * @param plan of an evaluation
 * @param options `signal` stops between micro-batches
 */
export async function scoredBy(
  session: NativeSession,
  plan: string,
  batches: readonly RowBatch[],
  { temperature = 1, signal }: { temperature?: number; signal?: AbortSignal | undefined } = {},
): Promise<ScoredRow[]> {
  const rows: ScoredRow[] = []
  for (const made of batches) {
    signal?.throwIfAborted()
    const input = { ...made.batch, temperature, wantLogProbs: true }
    const { logProbs } = await session.evaluate(plan, input).promise
    rows.push(...scoredRows(made, logProbs as Float32Array))
  }
  return rows
}
