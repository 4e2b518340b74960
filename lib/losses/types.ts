/** The losses with their options. Written by `node scripts/options.mjs`. */
import type { NllOn } from './orpo.js'

/** Cross-entropy: the weighted negative log-probability of each token. */
export interface CrossEntropyLoss {
  readonly name: 'cross_entropy'
}

/** DPO or IPO, of pairs of answers. */
export interface DpoLoss {
  readonly name: 'dpo'
  /** Strength of the pull toward the reference. Default 0.1. */
  readonly beta?: number
  /** The logistic loss (`sigmoid`), or `ipo`, which averages over tokens and bounds the margin. Default `sigmoid`. */
  readonly lossType?: 'sigmoid' | 'ipo'
  /** With the logistic loss, the probability that a preference is the wrong way round. Default 0. */
  readonly labelSmoothing?: number
}

/** The policy gradient with a clipped ratio. */
export interface ImportanceSamplingLoss {
  readonly name: 'importance_sampling'
  /**
   * Ratios are clipped to [1 - low, 1 + high], or both by one number; null does not clip. Default `{ low: 0.2, high:
   * 0.2 }`.
   */
  readonly clip?: null | number | { readonly low: number; readonly high: number }
  /** Weight of the divergence from the reference; if above 0, rows need `reference`. Default 0. */
  readonly beta?: number
  /** Average over all tokens, or over the tokens of each row and then over rows. Default `token`. */
  readonly normalize?: 'token' | 'sequence'
}

/** KTO, of answers that are good or bad by themselves. */
export interface KtoLoss {
  readonly name: 'kto'
  /** Strength of the pull toward the reference. Default 0.1. */
  readonly beta?: number
  /** Weight of good answers in the loss. Default 1. */
  readonly desirableWeight?: number
  /** Weight of bad answers in the loss. Default 1. */
  readonly undesirableWeight?: number
  /** Divergence from the reference. Default: measured on the mismatched rows (`kl`). */
  readonly kl?: number
}

/** ORPO, of pairs of answers, without a reference. */
export interface OrpoLoss {
  readonly name: 'orpo'
  /** Weight of the odds ratio, the paper's lambda. Default 0.1. */
  readonly beta?: number
  /**
   * Tokens of the chosen rows that the negative log-likelihood is a mean over: prompts and answers (`all`), as in the
   * code of the paper and in TRL, or answers alone (`completions`). Default `all`.
   */
  readonly nllOn?: NllOn
}

/** Names of the built-in losses. */
export type LossName = LossOptions['name']

/** A loss with its options. */
export type LossOptions = CrossEntropyLoss | DpoLoss | ImportanceSamplingLoss | KtoLoss | OrpoLoss
