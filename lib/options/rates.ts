/** Learning rates that fit: a strategy's own where a run is given none, and a word on one that is far from it. */
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { nativeOptimizer, optimizerOf } from './optimizers.js'
import type { RunOptions, TrainOptions } from './options.js'

/** Lion moves every number by the whole rate, so it wants less: between a third and a tenth, say its authors. */
const LION_SHARE = 0.2

/** The peak rate for a strategy under an optimizer. Those of the strategies were measured with AdamW. */
export function ownRate(strategy: StrategyConfig, optimizer: TrainOptions['optimizer']): number {
  const rate = rulesOf(strategy).learningRate(strategy)
  return familyOf(optimizer) === 'lion' ? rate * LION_SHARE : rate
}

/** The options with the strategy's own rate where they have none. */
export function withOwnRate<Options extends Pick<TrainOptions, 'learningRate' | 'optimizer'>>(
  options: Options,
  strategy: StrategyConfig,
): Options & Pick<RunOptions, 'learningRate'> {
  return { ...options, learningRate: options.learningRate ?? ownRate(strategy, options.optimizer) }
}

/** Warnings about a learning rate, a sentence each without the full stop. */
export function remarksOnRate(
  { learningRate, optimizer }: Pick<RunOptions, 'learningRate' | 'optimizer'>,
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
  // Rates are decimal fractions, whose quotients are not exact.
  const factor = Number((learningRate / own).toPrecision(9))
  if (factor >= 10)
    return [
      `learning_rate ${learningRate} is ${times(factor)} times ${own}, the default of ${strategy.name}; the run may diverge`,
    ]
  if (factor <= 0.1)
    return [
      `learning_rate ${learningRate} is ${times(1 / factor)} times less than ${own}, the default of ${strategy.name}; a short run may learn next to nothing`,
    ]
  return []
}

const times = (factor: number): string => String(Number(factor.toPrecision(2)))

function familyOf(optimizer: TrainOptions['optimizer']): 'adamw' | 'lion' | 'adafactor' | 'sgd' {
  return nativeOptimizer(optimizerOf(optimizer)).kind
}
