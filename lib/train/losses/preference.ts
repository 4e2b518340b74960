/**
 * Preference losses: DPO (Rafailov et al. 2023, arXiv 2305.18290) with label smoothing (Mitchell 2023), IPO
 * (Azar et al. 2023, arXiv 2310.12036), and ORPO (Hong et al. 2024, arXiv 2403.07691).
 */
import type { NllOn } from '../../options/task.js'
import { log1mexp, logSigmoid, sigmoid } from './math.js'
import {
  add,
  type Denominators,
  type LossValue,
  type Metrics,
  referenceOf,
  type ScoredRow,
  scaled,
  sumOf,
  weightOf,
} from './rows.js'

/** A chosen and a rejected answer to the same prompt. */
export interface ScoredPair {
  readonly chosen: ScoredRow
  readonly rejected: ScoredRow
}

export interface DpoOptions {
  /** Strength of the pull toward the reference. Default 0.1. */
  readonly beta: number
  /** `sigmoid`, or `ipo`, which averages over tokens and bounds the margin. Default `sigmoid`. */
  readonly lossType: 'sigmoid' | 'ipo'
  /** Probability that a preference label is flipped, in [0, 0.5). Default 0. */
  readonly labelSmoothing: number
}

/** The gradient alternates between chosen and rejected answers, pair by pair. */
export function dpo(pairs: readonly ScoredPair[], options: DpoOptions, per: Denominators): LossValue {
  const { beta, lossType, labelSmoothing: smoothing } = options
  const metrics: Metrics = {}
  const gradient: Float64Array[] = []
  let loss = 0
  for (const { chosen, rejected } of pairs) {
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
}

export interface OrpoOptions {
  /** Weight of the odds ratio: the paper's lambda. Default 0.1. */
  readonly beta: number
  /** Tokens of chosen rows in the negative log-likelihood: all from the second on, or by their weights. Default `all`. */
  readonly nllOn: NllOn
}

/** A chosen row with the weights of its tokens in the negative log-likelihood. */
export function nllRow<Row extends Pick<ScoredRow, 'weights'>>(chosen: Row, nllOn: NllOn): Row {
  return nllOn === 'completions'
    ? chosen
    : { ...chosen, weights: chosen.weights.map((_, t) => (t === 0 ? 0 : 1)) }
}

/** Mean log-probabilities are clamped to this value, where the derivative of the odds is still finite. */
const NEAREST_TO_ZERO = -(2 ** -20)

/** Like `dpo` without a reference, but also maximizes the mean log-probability of the chosen rows. */
export function orpo(pairs: readonly ScoredPair[], options: OrpoOptions, per: Denominators): LossValue {
  const { beta, nllOn } = options
  const metrics: Metrics = {}
  const gradient: Float64Array[] = []
  let loss = 0
  for (const { chosen, rejected } of pairs) {
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
}

function addRewards(metrics: Metrics, chosen: number, rejected: number): void {
  add(metrics, 'rewards/chosen', chosen)
  add(metrics, 'rewards/rejected', rejected)
  add(metrics, 'rewards/margins', chosen - rejected)
  add(metrics, 'rewards/accuracies', chosen > rejected ? 1 : 0)
}
