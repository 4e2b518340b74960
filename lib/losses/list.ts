/** The losses. Written by `node scripts/records.mjs`. */
import { type CrossEntropyLoss, crossEntropy } from './cross-entropy.js'
import { type DpoLoss, dpo } from './dpo.js'
import { type ImportanceSamplingLoss, importanceSampling } from './importance-sampling.js'
import { type KtoLoss, kto } from './kto.js'
import type { LossRules } from './loss.js'
import { type OrpoLoss, orpo } from './orpo.js'

/** Names of the built-in losses. */
export type LossName = 'cross_entropy' | 'dpo' | 'importance_sampling' | 'kto' | 'orpo'

export type { CrossEntropyLoss, DpoLoss, ImportanceSamplingLoss, KtoLoss, OrpoLoss }

/** A loss with its options. */
export type LossOptions = CrossEntropyLoss | DpoLoss | ImportanceSamplingLoss | KtoLoss | OrpoLoss

export const LOSSES = [
  crossEntropy,
  dpo,
  importanceSampling,
  kto,
  orpo,
] as const satisfies readonly LossRules<LossName>[]
