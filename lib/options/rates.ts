/** Learning rates: a strategy's default for runs that set none, and warnings about rates far from it. */

import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { taskRules } from '../tasks/index.js'
import { nativeOptimizer, optimizerOf } from './optimizers.js'
import type { RunOptions } from './options.js'
import type { TrainOptions } from './types.js'

/**
 * Every Lion update has the full magnitude of the learning rate, so it needs less: 3 to 10 times less per its authors.
 */
const LION_SHARE = 0.2

/** Default peak learning rate of a strategy with an optimizer. The strategies' rates were measured with AdamW. */
export function ownRate(strategy: StrategyConfig, optimizer: TrainOptions['optimizer']): number {
  const rate = rulesOf(strategy).learningRate(strategy)
  return familyOf(optimizer) === 'lion' ? rate * LION_SHARE : rate
}

/** Fills in the strategy's default learning rate if none is set. */
export function withOwnRate<Options extends Pick<TrainOptions, 'learningRate' | 'optimizer'>>(
  options: Options,
  strategy: StrategyConfig,
): Options & Pick<RunOptions, 'learningRate'> {
  return { ...options, learningRate: options.learningRate ?? ownRate(strategy, options.optimizer) }
}

/** Warnings about a learning rate, one sentence each, without the period. */
export function remarksOnRate(
  { learningRate, optimizer, task }: Pick<RunOptions, 'learningRate' | 'optimizer' | 'task'>,
  strategy: StrategyConfig,
): string[] {
  const own = ownRate(strategy, optimizer)
  const family = familyOf(optimizer)
  if (family === 'sgd')
    return learningRate === own
      ? [
          `learning_rate ${own} is that of ${strategy.name} with AdamW; SGD usually needs a much larger one, so set it`,
        ]
      : []
  if (family !== 'adamw') return []
  // Rounds away the error of dividing decimal fractions.
  const factor = Number((learningRate / own).toPrecision(9))
  if (factor >= 10)
    return [
      `learning_rate ${learningRate} is ${times(factor)} times ${own}, the default of ${strategy.name}; the run may diverge`,
    ]
  // Preferences and rewards are learned at lower rates than answers.
  if (factor <= 0.1 && !taskRules(task).lowRates)
    return [
      `learning_rate ${learningRate} is ${times(1 / factor)} times less than ${own}, the default of ${strategy.name}; a short run may learn next to nothing`,
    ]
  return []
}

const times = (factor: number): string => String(Number(factor.toPrecision(2)))

function familyOf(optimizer: TrainOptions['optimizer']): 'adamw' | 'lion' | 'adafactor' | 'sgd' {
  return nativeOptimizer(optimizerOf(optimizer)).kind
}
