/** Trains on a micro-batch whose loss depends on its log-probabilities: two passes of the head, one of the blocks. */
import type { LossResult, NativeSession, TrainInput } from '../../native/addon.js'

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
  const { logProbs = new Float32Array() } = await session.scoreStep(plan, { ...input, lossScale: 1 }).promise
  return session.finishStep({ weights: await weightsOf(logProbs) }).promise
}
