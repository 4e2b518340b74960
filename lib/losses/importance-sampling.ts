/** The policy gradient with a clipped ratio (Schulman et al. 2017, arXiv 1707.06347). */
import * as z from 'zod'
import { numberWithin, word } from '../core/schema.js'
import { lossRules } from './loss.js'
import { add, type Metrics, weightOf } from './rows.js'

/** Exponents are clamped to this magnitude; larger ratios have no practical use. */
const MOST_EXPONENT = 20

export const importanceSampling = lossRules({
  name: 'importance_sampling',
  about: 'The policy gradient with a clipped ratio',
  schema: z.strictObject({
    clip: z
      .union(
        [
          z.null(),
          z
            .number()
            .positive()
            .transform((width) => ({ low: width, high: width })),
          z.strictObject({ low: z.number().positive(), high: z.number().positive() }),
        ],
        { error: 'null, a positive number, or { low, high }' },
      )
      .default({ low: 0.2, high: 0.2 })
      .describe(
        'Ratios are clipped to [1 - low, 1 + high], or both by one number; null does not clip. Default `{ low: 0.2, high: 0.2 }`.',
      ),
    beta: numberWithin(0, Number.MAX_VALUE, 'a number from 0')
      .default(0)
      .describe('Weight of the divergence from the reference; if above 0, rows need `reference`.'),
    normalize: word(['token', 'sequence'])
      .default('token')
      .describe('Average over all tokens, or over the tokens of each row and then over rows.'),
  }),
  paired: false,
  averages: ({ normalize }) => (normalize === 'token' ? 'tokens' : 'rows'),
  needs: ({ beta }) => [
    {
      field: 'advantages',
      expected: 'a number, or one for each token',
      has: ({ advantages }) => advantages !== undefined,
    },
    {
      field: 'reference',
      expected: 'a log-probability for each token, since beta is above 0',
      has: ({ reference }) => beta === 0 || typeof reference === 'object',
    },
  ],
  value(rows, { clip, beta, normalize }, per) {
    const metrics: Metrics = {}
    let loss = 0
    const gradient = rows.map((row) => {
      const { weights, logprobs, sampled, advantages, reference } = row
      const share = normalize === 'token' ? 1 / per.tokens : 1 / (Math.max(weightOf(row), 1) * per.rows)
      const of = new Float64Array(weights.length)
      for (let t = 1; t < weights.length; t++) {
        const weight = weights[t] as number
        if (weight === 0) continue
        const now = logprobs[t] as number
        const advantage = typeof advantages === 'object' ? (advantages[t] as number) : (advantages ?? 0)
        const ratio = Math.exp(bounded(sampled === undefined ? 0 : now - (sampled[t] as number)))
        const held = clip === null ? ratio : Math.min(Math.max(ratio, 1 - clip.low), 1 + clip.high)
        const free = ratio * advantage <= held * advantage
        let slope = free ? -advantage * ratio : 0
        loss -= weight * share * Math.min(ratio * advantage, held * advantage)
        if (beta > 0 && typeof reference === 'object') {
          const gap = bounded((reference[t] as number) - now)
          const kl = Math.expm1(gap) - gap
          loss += weight * share * beta * ratio * kl
          // The derivative of ratio * kl, which is the gradient of the reverse divergence.
          slope -= beta * ratio * gap
          add(metrics, 'kl', weight * kl, weight)
        }
        of[t] = weight * share * slope
        add(metrics, 'clip_ratio/low', clip !== null && advantage < 0 && ratio < 1 - clip.low ? 1 : 0)
        add(metrics, 'clip_ratio/high', clip !== null && advantage > 0 && ratio > 1 + clip.high ? 1 : 0)
      }
      return of
    })
    return { loss, gradient, metrics }
  },
})

const bounded = (exponent: number) => Math.min(Math.max(exponent, -MOST_EXPONENT), MOST_EXPONENT)
