/** The option that names the reward functions of GRPO. */
import * as z from 'zod'
import { callback } from '../core/arguments.js'
import { text } from '../core/schema.js'
import { named } from '../core/type-names.js'
import type { ScoredRow } from './metrics.js'

/** A sampled answer to be scored. */
export interface RewardedAnswer extends ScoredRow {
  /** The columns of the row except its prompt, answer, and tools. */
  item: Readonly<Record<string, unknown>>
}

/** Scores a sampled answer: returns a finite number, higher for a better answer. The rewards of an answer add up. */
export type RewardFunction = (answer: RewardedAnswer) => number | Promise<number>

const A_PATH = 'the path of a module that exports functions'
const NAMED = `${A_PATH}, or a list of paths`
const A_FILE = `${A_PATH}, or of a grader in JSON`
const FILES = `${A_FILE}, or a list of paths`

/** Paths in a config file, which has no functions. */
export const rewardPathsSchema = z
  .union([text(A_FILE), z.array(text(A_FILE)).min(1, { error: FILES })], { error: FILES })
  .nullable()
  .default(null)
  .describe(
    '`grpo`: JavaScript or TypeScript modules whose exported functions score an answer, and [graders](serve.md#reinforcement) in JSON, see [Rewards](data.md#rewards).',
  )

const one = z.union([text(A_PATH), callback<RewardFunction>()])
export const rewardsSchema = named(
  z.union([one, z.array(one).min(1, { error: `a function, ${NAMED}` })], { error: `a function, ${NAMED}` }),
  { type: 'Rewards', from: 'tasks/rewards' },
)

/** The option by the names of its functions, as recorded. */
export function rewardNames(rewards: Rewards): string[] {
  return [rewards]
    .flat()
    .map((reward, index) => (typeof reward === 'string' ? reward : nameOf(reward, index)))
}

/** One or several reward functions, or paths of modules that export them. */
export type Rewards = string | RewardFunction | readonly (string | RewardFunction)[]

/** The name of a function among others. */
export function nameOf({ name }: RewardFunction, index: number): string {
  return name === '' ? `reward_${index + 1}` : name
}
