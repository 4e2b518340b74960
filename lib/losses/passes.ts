/** Trains on a micro-batch whose loss depends on its log-probabilities: two passes of the head, one of the blocks. */
import type { LossResult, NativeSession, TrainInput } from '../native/addon.js'

/**
 * @param plan name of a two-pass plan of the session
 * @param weightsOf computes the weight of each labeled position from its log-probability
 */
export async function lossPasses(
  session: NativeSession,
  plan: string,
  input: Omit<TrainInput, 'lossScale' | 'weights'>,
  weightsOf: (logProbs: Float32Array) => Float32Array | Promise<Float32Array>,
): Promise<LossResult> {
  const scored = await session.scoreStep(plan, { ...input, lossScale: 1 }).promise
  const weights = await weightsOf(scored.logProbs ?? new Float32Array())
  // The loss of another rank: none makes the updates of the second half.
  if (input.update && !Number.isFinite(scored.lossSum)) return scored
  return session.finishStep({ weights }).promise
}
