/** KTO (Ethayarajh et al. 2024, arXiv 2402.01306), a loss of answers that are good or bad by themselves. */
import * as z from 'zod'
import { numberWithin, positive } from '../core/schema.js'
import { lossRules, REFERENCE } from './loss.js'
import { sigmoid } from './math.js'
import { add, type Metrics, referenceOf, scaled, sumOf } from './rows.js'

export const kto = lossRules({
  name: 'kto',
  about: 'KTO, of answers that are good or bad by themselves',
  schema: z.strictObject({
    beta: positive().default(0.1).describe('Strength of the pull toward the reference.'),
    desirableWeight: positive().default(1).describe('Weight of good answers in the loss.'),
    undesirableWeight: positive().default(1).describe('Weight of bad answers in the loss.'),
    kl: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
      .optional()
      .describe('Divergence from the reference. Default: measured on the mismatched rows (`kl`).'),
  }),
  paired: false,
  averages: () => 'rows',
  needs: ({ kl }) => [
    REFERENCE,
    { field: 'label', expected: 'true or false', has: ({ label }) => label !== undefined },
    {
      field: 'kl',
      expected: 'a row with a reference, or the option kl',
      has: (row) => kl !== undefined || row.kl?.reference !== undefined,
    },
  ],
  measuresDivergence: ({ kl }) => kl === undefined,
  value(rows, { beta, desirableWeight, undesirableWeight, kl: given }, per, measured) {
    const kl = given ?? measured
    const metrics: Metrics = {}
    let loss = 0
    const gradient = rows.map((row) => {
      const sum = sumOf(row)
      const gain = sum - referenceOf(row)
      const sign = row.label ? 1 : -1
      const weight = row.label ? desirableWeight : undesirableWeight
      const value = sigmoid(sign * beta * (gain - kl))
      loss += weight * (1 - value)
      const kind = row.label ? 'chosen' : 'rejected'
      add(metrics, `rewards/${kind}`, beta * gain)
      add(metrics, `logps/${kind}`, sum)
      return scaled(row, (-sign * weight * beta * value * (1 - value)) / per.rows)
    })
    add(metrics, 'kl', kl)
    return { loss: loss / per.rows, gradient, metrics }
  },
})
