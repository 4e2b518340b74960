/** The tasks. Written by `node scripts/records.mjs`. */
import { causalLm } from './causal-lm.js'
import { classification } from './classification.js'
import { dpo } from './dpo.js'
import { grpo } from './grpo.js'
import { kto } from './kto.js'
import { orpo } from './orpo.js'
import type { TaskRules } from './task.js'

/**
 * What a run learns:
 * - `causal_lm`: predict the next token
 * - `classification`: predict the class of a text
 * - `dpo`: prefer the chosen of two answers
 * - `grpo`: learn from rewards of sampled answers
 * - `kto`: learn from good and bad answers
 * - `orpo`: prefer the chosen of two answers
 */
export type Task = 'causal_lm' | 'classification' | 'dpo' | 'grpo' | 'kto' | 'orpo'

export const ALL_TASKS: readonly TaskRules<Task>[] = [causalLm, classification, dpo, grpo, kto, orpo]
