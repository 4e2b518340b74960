/** ORPO (Hong et al. 2024, arXiv 2403.07691): the odds ratio of two answers, and the likelihood of the chosen one. */
import * as z from 'zod'
import { positive, word } from '../core/schema.js'
import { named } from '../core/type-names.js'
import { lossRules } from './loss.js'
import { log1mexp, logSigmoid, sigmoid } from './math.js'
import { addRewards, pairsOf } from './pairs.js'
import { add, type Metrics, type ScoredRow, scaled, sumOf, weightOf } from './rows.js'

/** Tokens of chosen rows that the negative log-likelihood of `orpo` is a mean over. */
export type NllOn = 'all' | 'completions'

/** Mean log-probabilities are clamped to this value, where the derivative of the odds is still finite. */
const NEAREST_TO_ZERO = -(2 ** -20)

export const orpo = lossRules({
  name: 'orpo',
  about: 'ORPO, of pairs of answers, without a reference',
  schema: z.strictObject({
    beta: positive().default(0.1).describe("Weight of the odds ratio, the paper's lambda."),
    nllOn: named(word(['all', 'completions']), { type: 'NllOn', from: 'losses/orpo' })
      .default('all')
      .describe(
        'Tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), as in the code of the paper and in TRL, or answers alone (`completions`).',
      ),
  }),
  paired: true,
  averages: () => null,
  counted: (group, { nllOn }) => group.slice(0, 1).map((chosen) => nllRow(chosen, nllOn)),
  scoresChosen: ({ nllOn }) => nllOn === 'all',
  dividesByWeights: () => true,
  needs: () => [],
  /** Like `dpo` without a reference, but also maximizes the mean log-probability of the chosen rows. */
  value(rows, { beta, nllOn }, per) {
    const metrics: Metrics = {}
    const gradient: Float64Array[] = []
    let loss = 0
    for (const { chosen, rejected } of pairsOf(rows)) {
      const [sum, otherSum] = [sumOf(chosen), sumOf(rejected)]
      const [length, otherLength] = [weightOf(chosen), weightOf(rejected)]
      const [mean, otherMean] = [sum / length, otherSum / otherLength].map((of) =>
        Math.min(of, NEAREST_TO_ZERO),
      ) as [number, number]
      const odds = mean - otherMean - (log1mexp(mean) - log1mexp(otherMean))
      const slope = (-beta * sigmoid(-odds)) / per.pairs
      const learned = nllRow(chosen, nllOn)
      const likelihood = sumOf(learned)
      loss -= likelihood / per.tokens + (beta / per.pairs) * logSigmoid(odds)
      const ofOdds = scaled(chosen, slope / (length * -Math.expm1(mean)))
      gradient.push(
        scaled(learned, -1 / per.tokens).map((value, t) => value + (ofOdds[t] as number)),
        scaled(rejected, -slope / (otherLength * -Math.expm1(otherMean))),
      )
      addRewards(metrics, beta * mean, beta * otherMean)
      add(metrics, 'logps/chosen', sum)
      add(metrics, 'logps/rejected', otherSum)
      add(metrics, 'nll_loss', -likelihood, weightOf(learned))
      add(metrics, 'log_odds_chosen', odds)
      add(metrics, 'log_odds_ratio', logSigmoid(odds))
    }
    return { loss, gradient, metrics }
  },
})

/** A chosen row with the weights of its tokens in the negative log-likelihood. */
function nllRow<Row extends Pick<ScoredRow, 'weights'>>(chosen: Row, nllOn: NllOn): Row {
  return nllOn === 'completions'
    ? chosen
    : { ...chosen, weights: chosen.weights.map((_, t) => (t === 0 ? 0 : 1)) }
}
