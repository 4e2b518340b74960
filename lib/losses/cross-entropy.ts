/** Cross-entropy: the weighted negative log-probability of each token. */
import * as z from 'zod'
import { lossRules } from './loss.js'
import { scaled, sumOf } from './rows.js'

export const crossEntropy = lossRules({
  name: 'cross_entropy',
  about: 'Cross-entropy: the weighted negative log-probability of each token',
  schema: z.strictObject({}),
  paired: false,
  averages: () => 'tokens',
  onePass: true,
  needs: () => [],
  value(rows, _, per) {
    let loss = 0
    for (const row of rows) loss -= sumOf(row)
    return { loss: loss / per.tokens, gradient: rows.map((row) => scaled(row, -1 / per.tokens)), metrics: {} }
  },
})
