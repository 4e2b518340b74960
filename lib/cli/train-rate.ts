/** The learning rate of a run whose config says `learning_rate: auto`: searched, or that of the resumed run. */
import { searchRate } from '../compare/rate-search.js'
import { LowrankError } from '../core/errors.js'
import type { Model } from '../model/model.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import type { Resumable } from '../train/checkpoints/checkpoint-folder.js'
import type { RunConfig } from '../train/config/config.js'
import type { Processes } from '../train/processes/processes.js'
import type { RateSearch } from '../train/steps/events.js'
import { InterruptedError } from './errors.js'
import { counted, formatDuration } from './format.js'
import type { Output } from './output.js'
import { shown } from './progress.js'

/** The learning rate of a run, and the search that chose it. */
export interface RunRate {
  learningRate: number
  rateSearch?: RateSearch
}

/**
 * @param strategy the strategy after its probe, if it has one
 * @param checkpoint checkpoint to resume from, which has the rate of its run
 */
export async function rateOf(
  model: Model,
  config: RunConfig,
  strategy: StrategyConfig,
  checkpoint: Resumable | null,
  ranks: Processes,
  output: Output,
  signal: AbortSignal,
): Promise<RunRate> {
  if (config.learningRate !== 'auto') return { learningRate: config.learningRate }
  if (checkpoint !== null) return { learningRate: checkpoint.identity.options.learning_rate as number }
  try {
    const rateSearch = await shown(output, 'Searching the learning rate', (line) =>
      searchRate({
        ...{ model, config, strategy, ranks, signal },
        onStep: ({ rate, steps, mostSteps }) =>
          line.update(
            `${rate === null ? 'rising rates' : `rate ${rate}`}, step ${steps} of at most ${mostSteps}`,
            steps / mostSteps,
          ),
      }),
    )
    output.note(rateText(rateSearch, strategy))
    return { learningRate: rateSearch.learningRate, rateSearch }
  } catch (error) {
    // A stop of another rank arrives as its failure.
    const isOfAnother = error instanceof LowrankError && error.code === 'INTERRUPTED'
    if (error !== signal.reason && !isOfAnother) throw error
    throw new InterruptedError('stopped while searching the learning rate; nothing was saved.', {
      step: 0,
      checkpoint: null,
    })
  }
}

function rateText(
  { learningRate, reason, rates, steps, seconds }: RateSearch,
  { name }: StrategyConfig,
): string {
  if (reason !== null) return `Learning rate: ${learningRate}, the default of ${name}: ${reason}.`
  const losses = rates.map(({ rate, loss }) => `${loss === null ? 'diverged' : loss.toFixed(4)} at ${rate}`)
  return `Learning rate: ${learningRate}, by a search of ${counted(steps, 'step')} in ${formatDuration(seconds)}; held-out loss ${losses.join(', ')}.`
}
