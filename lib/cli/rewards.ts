/** The rewards of a config: modules with functions, and graders in JSON files. */
import { parse } from 'node:path'
import { readJsonObject } from '../io/input.js'
import type { Grader } from '../serve/index.js'
import type { Rewards } from '../tasks/rewards.js'
import { UsageError } from './errors.js'

const SIZE_LIMIT = 1 << 20

/**
 * @param flag where the path is given
 * @throws {UsageError} for a file that is no grader that can be had here
 */
export async function readGrader(path: string, flag: string): Promise<Grader> {
  const value = await readJsonObject(path, SIZE_LIMIT)
  const { graderOf } = await import('../serve/index.js')
  try {
    return graderOf(value, ['grader'])
  } catch (error) {
    throw new UsageError(`${flag} ${path}: ${(error as Error).message}`, { path })
  }
}

/**
 * The rewards of a config, with functions in place of JSON files.
 * @throws {UsageError} for a JSON file that is no grader that can be had here
 */
export async function withGraders(rewards: Rewards | null): Promise<Rewards | null> {
  if (rewards === null) return null
  const list = [rewards].flat()
  return Promise.all(
    list.map(async (one) => {
      if (typeof one !== 'string' || !/\.json$/i.test(one)) return one
      const grader = await readGrader(one, 'reward_functions:')
      const { rewardBy } = await import('../serve/index.js')
      // Each of several has the name of its file.
      return rewardBy(grader, list.length > 1 ? parse(one).name : undefined)
    }),
  )
}
