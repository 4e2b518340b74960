/**
 * DPO (Rafailov et al. 2023, arXiv 2305.18290) with label smoothing (Mitchell 2023), and IPO (Azar et al. 2023,
 * arXiv 2310.12036).
 */
import * as z from 'zod'
import { numberWithin, positive, word } from '../core/schema.js'
import { lossRules, REFERENCE } from './loss.js'
import { logSigmoid, sigmoid } from './math.js'
import { addRewards, pairsOf } from './pairs.js'
import { add, type Metrics, referenceOf, scaled, sumOf, weightOf } from './rows.js'

export const dpo = lossRules({
  name: 'dpo',
  about: 'DPO or IPO, of pairs of answers',
  schema: z.strictObject({
    beta: positive().default(0.1).describe('Strength of the pull toward the reference.'),
    lossType: word(['sigmoid', 'ipo'])
      .default('sigmoid')
      .describe('The logistic loss (`sigmoid`), or `ipo`, which averages over tokens and bounds the margin.'),
    labelSmoothing: numberWithin(0, 0.5 - Number.EPSILON, 'a number in [0, 0.5)')
      .default(0)
      .describe('With the logistic loss, the probability that a preference is the wrong way round.'),
  }),
  check({ lossType, labelSmoothing }, bad) {
    if (lossType === 'ipo' && labelSmoothing !== 0)
      throw bad('labelSmoothing', labelSmoothing, '0 with the loss type ipo, which has none')
  },
  paired: true,
  averages: () => 'pairs',
  dividesByWeights: ({ lossType }) => lossType === 'ipo',
  needs: () => [REFERENCE],
  /** The gradient alternates between chosen and rejected answers, pair by pair. */
  value(rows, { beta, lossType, labelSmoothing: smoothing }, per) {
    const metrics: Metrics = {}
    const gradient: Float64Array[] = []
    let loss = 0
    for (const { chosen, rejected } of pairsOf(rows)) {
      const [sum, otherSum] = [sumOf(chosen), sumOf(rejected)]
      const [gain, otherGain] = [sum - referenceOf(chosen), otherSum - referenceOf(rejected)]
      let slope: number
      let [length, otherLength] = [1, 1]
      if (lossType === 'ipo') {
        ;[length, otherLength] = [weightOf(chosen), weightOf(rejected)]
        const distance = gain / length - otherGain / otherLength - 1 / (2 * beta)
        loss += distance ** 2
        slope = 2 * distance
      } else {
        const margin = beta * (gain - otherGain)
        loss -= (1 - smoothing) * logSigmoid(margin) + smoothing * logSigmoid(-margin)
        slope = beta * (sigmoid(margin) - 1 + smoothing)
      }
      gradient.push(
        scaled(chosen, slope / length / per.pairs),
        scaled(rejected, -slope / otherLength / per.pairs),
      )
      addRewards(metrics, beta * gain, beta * otherGain)
      add(metrics, 'logps/chosen', sum)
      add(metrics, 'logps/rejected', otherSum)
    }
    return { loss: loss / per.pairs, gradient, metrics }
  },
})
