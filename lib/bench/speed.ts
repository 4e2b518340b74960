/** Measures the speed of training, evaluation, and generation, and JavaScript's share of the time. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Model } from '../model/model.js'
import type { PlanModelOptions } from '../planning/plan.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { textRows, words } from './texts.js'

export interface SpeedSettings {
  perDeviceTrainBatchSize: number
  maxSeqLength: number
  gradientCheckpointing: boolean
  optimizer: NonNullable<PlanModelOptions['optimizer']>
  optimizerInBackward: boolean
  /** Number of timed steps; one more runs before them, and one after. */
  steps: number
  newTokens: number
}

export interface SpeedStudy {
  /** Median over the steps. */
  trainingTokensPerSecond: number
  evaluationTokensPerSecond: number
  /** Decoding only, without the prompt. */
  generationTokensPerSecond: number
  /** Fraction of the steps' time in which the event loop was busy. */
  javascriptShare: number
  /**
   * Longest time for which the event loop was blocked, from attaching to detaching, over a run with an evaluation and a
   * checkpoint and a second run that resumes from it. Excludes checkpoints of a whole model.
   */
  longestBlockMs: number
}

export interface SpeedControl {
  signal?: AbortSignal | undefined
  /** Called on progress. @param share completed, from 0 to 1; each training step counts the same as each later phase */
  onProgress?(phase: 'training' | 'evaluation' | 'generation', share: number): void
}

const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/** The model's speeds with a new adapter of the strategy. */
export async function measureSpeed(
  model: Model,
  strategy: StrategyConfig,
  settings: SpeedSettings,
  { signal, onProgress }: SpeedControl = {},
): Promise<SpeedStudy> {
  const { perDeviceTrainBatchSize: batch, maxSeqLength, gradientCheckpointing } = settings
  const { optimizer, optimizerInBackward } = settings
  const rows = textRows(2 * batch, maxSeqLength)
  onProgress?.('training', 0)
  const ready = await model.probe(strategy, rows, { maxSeqLength, trainOn: 'all' })
  const saves = rulesOf(ready).saves !== 'model'
  const outputDir = saves ? await mkdtemp(join(tmpdir(), 'lowrank-speed-')) : null
  // The first step is not timed, nor the last one, which is followed by a checkpoint.
  const maxSteps = settings.steps + 2
  const share = (done: number) => done / (maxSteps + 2)
  const options = {
    ...{ perDeviceTrainBatchSize: batch, maxSeqLength, gradientCheckpointing, trainOn: 'all' as const },
    // Updates in the backward pass cannot clip, so clipping is off for all methods.
    ...{ optimizer, optimizerInBackward, maxGradNorm: 0, maxSteps, warmupRatio: 0 },
    ...{ evalDataset: rows.slice(0, batch), saveSteps: maxSteps, outputDir },
    signal,
  }
  const speeds: number[] = []
  // The delay of frequent timers shows how long the event loop was blocked.
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let idleBefore = performance.eventLoopUtilization()
  let busy = 0
  delay.enable()
  try {
    const adapter = await model.attach(ready)
    try {
      for await (const { step, tokensPerSecond } of adapter.train(rows, options)) {
        onProgress?.('training', share(step))
        if (step === 1) idleBefore = performance.eventLoopUtilization()
        else if (step < maxSteps) {
          speeds.push(tokensPerSecond)
          busy = performance.eventLoopUtilization(idleBefore).utilization
        }
      }
      if (saves) for await (const _ of adapter.train(rows, { ...options, resume: true }));
    } finally {
      await adapter.detach()
    }
  } finally {
    delay.disable()
    if (outputDir !== null) await rm(outputDir, { recursive: true, force: true })
  }
  onProgress?.('evaluation', share(maxSteps))
  const begin = performance.now()
  const { tokens } = await model.evaluate(rows, {
    maxSeqLength,
    trainOn: 'all',
    signal,
  })
  const evaluated = (performance.now() - begin) / 1000
  onProgress?.('generation', share(maxSteps + 1))
  const generation = await model.generate(words(16), {
    ...{ maxNewTokens: settings.newTokens, temperature: 1 },
    signal,
  })
  return {
    trainingTokensPerSecond: median(speeds),
    evaluationTokensPerSecond: tokens / evaluated,
    generationTokensPerSecond: generation.tokensPerSecond,
    javascriptShare: busy,
    longestBlockMs: Math.max(0, delay.max / 1e6 - 1),
  }
}
