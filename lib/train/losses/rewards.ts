/**
 * Losses of single answers: cross-entropy, KTO (Ethayarajh et al. 2024, arXiv 2402.01306), and the policy
 * gradient with a clipped ratio (Schulman et al. 2017, arXiv 1707.06347).
 */
import { sigmoid } from './math.js'
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

/** The weighted negative log-probability of each token. */
export function crossEntropy(rows: readonly ScoredRow[], per: Denominators): LossValue {
  let loss = 0
  for (const row of rows) loss -= sumOf(row)
  return { loss: loss / per.tokens, gradient: rows.map((row) => scaled(row, -1 / per.tokens)), metrics: {} }
}

export interface KtoOptions {
  /** Strength of the pull toward the reference. Default 0.1. */
  readonly beta: number
  /** Weight of desirable rows. Default 1. */
  readonly desirableWeight: number
  /** Weight of undesirable rows. Default 1. */
  readonly undesirableWeight: number
}

/** @param kl estimate of the divergence from the reference, at least 0 */
export function kto(
  rows: readonly ScoredRow[],
  { beta, desirableWeight, undesirableWeight }: KtoOptions,
  kl: number,
  per: Denominators,
): LossValue {
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
}

export interface PolicyOptions {
  /** Ratios are clipped to [1 - low, 1 + high]; null does not clip. Default 0.2. */
  readonly clip: null | { readonly low: number; readonly high: number }
  /** Weight of the divergence from the reference; if above 0, rows need `reference`. Default 0. */
  readonly beta: number
  /** Average over all tokens, or over the tokens of each row and then over rows. Default `token`. */
  readonly normalize: 'token' | 'sequence'
}

/** Exponents are clamped to this magnitude; larger ratios have no practical use. */
const MOST_EXPONENT = 20

export function policyGradient(
  rows: readonly ScoredRow[],
  { clip, beta, normalize }: PolicyOptions,
  per: Denominators,
): LossValue {
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
}

const bounded = (exponent: number) => Math.min(Math.max(exponent, -MOST_EXPONENT), MOST_EXPONENT)
