/** How fast a model trains, evaluates and generates here, and what of it JavaScript takes. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Model } from '../model.js'
import type { PlanModelOptions } from '../plan.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { textRows, words } from './texts.js'

export interface SpeedSettings {
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  gradientCheckpointing: boolean
  optimizer: NonNullable<PlanModelOptions['optimizer']>
  optimizerInBackward: boolean
  /** Steps that are timed, after one that is not. */
  steps: number
  newTokens: number
}

export interface SpeedStudy {
  /** Median over the steps. */
  trainingTokensPerSecond: number
  evaluationTokensPerSecond: number
  /** One token after the other, the prompt not counted. */
  generationTokensPerSecond: number
  /** Share of the time of the steps in which the event loop was busy. */
  javascriptShare: number
  /** The longest time for which nothing else could run on the event loop. */
  longestBlockMs: number
}

export interface SpeedControl {
  signal?: AbortSignal
  onPhase?(phase: 'training' | 'evaluation' | 'generation'): void
}

const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/** The model's speeds with a fresh adapter of the strategy. */
export async function measureSpeed(
  model: Model,
  strategy: StrategyConfig,
  settings: SpeedSettings,
  { signal, onPhase }: SpeedControl = {},
): Promise<SpeedStudy> {
  const { perDeviceTrainBatchSize: batch, maxSeqLength, gradientCheckpointing } = settings
  const { optimizer, optimizerInBackward } = settings
  const rows = textRows(2 * batch, maxSeqLength)
  onPhase?.('training')
  const adapter = await model.attach(await model.probe(strategy, rows, { maxSeqLength, trainOn: 'all' }))
  const speeds: number[] = []
  // Timers that are this often too late tell what held the loop up.
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let idleBefore = performance.eventLoopUtilization()
  let share = 0
  try {
    const run = adapter.train(rows, {
      ...{ perDeviceTrainBatchSize: batch, maxSeqLength, gradientCheckpointing, trainOn: 'all' },
      // No method clips, so that they are alike.
      ...{ optimizer, optimizerInBackward, maxGradNorm: 0, maxSteps: settings.steps + 1, warmupRatio: 0 },
      ...(signal ? { signal } : {}),
    })
    for await (const { tokensPerSecond } of run) {
      if (speeds.push(tokensPerSecond) > 1) {
        share = performance.eventLoopUtilization(idleBefore).utilization
        continue
      }
      idleBefore = performance.eventLoopUtilization()
      delay.enable()
    }
  } finally {
    delay.disable()
    await adapter.detach()
  }
  onPhase?.('evaluation')
  const begin = performance.now()
  const { tokens } = await model.evaluate(rows, {
    maxSeqLength,
    trainOn: 'all',
    ...(signal ? { signal } : {}),
  })
  const evaluated = (performance.now() - begin) / 1000
  onPhase?.('generation')
  const generation = await model.generate(words(16), {
    ...{ maxNewTokens: settings.newTokens, temperature: 1 },
    ...(signal ? { signal } : {}),
  })
  return {
    trainingTokensPerSecond: median(speeds.slice(1)),
    evaluationTokensPerSecond: tokens / evaluated,
    generationTokensPerSecond: generation.tokensPerSecond,
    javascriptShare: share,
    longestBlockMs: Math.max(0, delay.max / 1e6 - 1),
  }
}
