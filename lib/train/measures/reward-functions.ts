/** The reward functions of GRPO: loaded from modules, and called for answers. */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { ConfigError, DataError } from '../../core/errors.js'
import { quote } from '../../core/quote.js'
import type { EncodedDataset } from '../../data/encoded-dataset.js'
import { nameOf, type RewardedAnswer, type RewardFunction, type Rewards } from '../../tasks/rewards.js'

/** A reward function with its name in messages and metrics. */
export interface NamedReward {
  name: string
  score: RewardFunction
}

/**
 * The functions of the option, and those that its modules export.
 * @throws {ConfigError} when a module cannot be loaded or exports no function, or two functions have one name
 */
export function loadRewards(given: Rewards): NamedReward[] {
  const found = [given]
    .flat()
    .flatMap((reward, index) =>
      typeof reward === 'string' ? exportedBy(reward) : { name: nameOf(reward, index), score: reward },
    )
  const twice = found.find(({ name }, index) => found.findIndex((other) => other.name === name) < index)
  if (twice !== undefined)
    throw new ConfigError(
      `two reward functions have the name ${twice.name}; rename one, since metrics have their names.`,
      { name: twice.name },
    )
  return found
}

function exportedBy(path: string): NamedReward[] {
  const file = resolve(path)
  let exported: Record<string, unknown>
  try {
    // Unlike import(), require() of an absolute path works in both builds of the package.
    exported = createRequire(file)(file) as Record<string, unknown>
  } catch (cause) {
    const { message } = cause as Error
    const advice = /\.[cm]?ts$/.test(path) ? ' Modules in TypeScript need Node.js 22.18 or newer.' : ''
    throw new ConfigError(
      `the reward functions of ${path} cannot be loaded: ${message.split('\n')[0]}${advice}`,
      { path },
      { cause },
    )
  }
  const functions = Object.entries(exported).flatMap(([key, score]) =>
    typeof score === 'function' ? { name: key, score: score as RewardFunction } : [],
  )
  if (functions.length > 0) return functions
  throw new ConfigError(
    `${path} exports no reward function; export one such as: export const exact = ({ prediction, expected }) => Number(prediction === expected)`,
    { path },
  )
}

/**
 * Scores answers by each function. An abort rejects with the signal's reason.
 * @returns for each answer, the reward by each function
 * @throws {DataError} when a function fails, or returns anything but a finite number
 */
export async function rewardsOf(
  functions: readonly NamedReward[],
  answers: readonly RewardedAnswer[],
  signal: AbortSignal | undefined,
): Promise<number[][]> {
  const scored = answers.map((answer) => Promise.all(functions.map((reward) => rewardOf(reward, answer))))
  return untilAborted(Promise.all(scored), signal)
}

/** What a row of prompts has beside its prompt. */
export function itemOf(data: EncodedDataset, row: number): RewardedAnswer['item'] {
  const json = data.rowItem(row)
  return json === '' ? {} : (JSON.parse(json) as RewardedAnswer['item'])
}

async function rewardOf({ name, score }: NamedReward, answer: RewardedAnswer): Promise<number> {
  const about = { name, prediction: answer.prediction }
  const on = `the answer ${quote(answer.prediction)}`
  let value: unknown
  try {
    value = await score(answer)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new DataError(`the reward function ${name} failed on ${on}: ${message}`, about, { cause })
  }
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw new DataError(
    `the reward function ${name} returned ${String(value)} for ${on}, expected a finite number.`,
    about,
  )
}

/** Waits for work that cannot be canceled, unless the signal is aborted before. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  let stop = (): void => undefined
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
  })
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
