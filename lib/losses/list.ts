/** The losses. Written by `node scripts/records.mjs`. */
import { crossEntropy } from './cross-entropy.js'
import { dpo } from './dpo.js'
import { importanceSampling } from './importance-sampling.js'
import { kto } from './kto.js'
import type { LossRules } from './loss.js'
import { orpo } from './orpo.js'

export const LOSSES = [
  crossEntropy,
  dpo,
  importanceSampling,
  kto,
  orpo,
] as const satisfies readonly LossRules[]
