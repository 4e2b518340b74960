/** Checks whether updates can be made during the backward pass. */

import { ConfigError } from '../core/errors.js'
import { type OptionSource, snakeKey } from '../core/schema.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { TrainOptions } from './types.js'

/** An option that needs all gradients at once. */
interface Obstacle {
  key: string
  value: unknown
  why: string
  /** How to fix it, with the key spelled as in its source. */
  remedy(key: string): string
}

/**
 * The first option that rules out updates in the backward pass, where each gradient is freed as soon as it is applied.
 */
export function obstacleInBackward(
  { gradientAccumulationSteps, maxGradNorm }: Pick<TrainOptions, 'gradientAccumulationSteps' | 'maxGradNorm'>,
  strategy: StrategyConfig,
): Obstacle | undefined {
  if (gradientAccumulationSteps !== 1)
    return {
      key: 'gradientAccumulationSteps',
      value: gradientAccumulationSteps,
      why: 'gradients accumulate over micro-batches',
      remedy: (key) => `Set ${key} to 1`,
    }
  if (maxGradNorm !== 0)
    return {
      key: 'maxGradNorm',
      value: maxGradNorm,
      why: 'clipping needs the norm of the whole gradient',
      remedy: (key) => `Set ${key} to 0`,
    }
  if (rulesOf(strategy).privacy?.(strategy))
    return {
      key: 'strategy',
      value: strategy.name,
      why: 'private training clips and sums whole gradients',
      remedy: () => 'Take another strategy',
    }
  return undefined
}

/** @throws {ConfigError} when `optimizerInBackward` is combined with an option that rules it out */
export function checkInBackward(
  options: Pick<TrainOptions, 'optimizerInBackward' | 'gradientAccumulationSteps' | 'maxGradNorm'>,
  strategy: StrategyConfig,
  { name, spelling }: OptionSource,
): void {
  const obstacle = options.optimizerInBackward ? obstacleInBackward(options, strategy) : undefined
  if (obstacle === undefined) return
  const spelled = (key: string) => (spelling === 'snake' ? snakeKey(key) : key)
  const [asked, key] = [spelled('optimizerInBackward'), spelled(obstacle.key)]
  throw new ConfigError(
    `${name}: ${asked} is true but ${key} is ${obstacle.value}: ${obstacle.why}. ${obstacle.remedy(key)}, or set ${asked} to false.`,
    { source: name, key: asked, value: true, with: key },
  )
}
