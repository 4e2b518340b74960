/**
 * The process in which a training run is measured from outside: it reports each stage and waits until the memory has
 * been read. Started by memory.ts.
 */

import { type LoadOptions, loadModel } from '../model/load.js'
import { addon } from '../native/addon.js'
import type { TrainingMemory, TrainOptions } from '../options/types.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { textRows } from './texts.js'

/** A training run to measure; sent between processes as JSON. */
export interface MeasuredTraining {
  model: string
  load: LoadOptions
  strategy: StrategyConfig
  training: Partial<
    TrainingMemory & Pick<TrainOptions, 'perDeviceTrainBatchSize' | 'maxSeqLength' | 'maxGradNorm'>
  >
  steps: number
}

/** Stage of the process: started, base loaded, trained, or failed. */
export type Stage =
  | { at: 'idle' | 'loaded' }
  | { at: 'trained'; plannedBytes: number }
  | { at: 'failed'; message: string }

/** Reports a stage and waits for the reply. */
function reach(stage: Stage): Promise<void> {
  return new Promise((done) => {
    process.once('message', () => done())
    process.send?.(stage)
  })
}

async function measured({ model: path, load, strategy, training, steps }: MeasuredTraining): Promise<void> {
  addon()
  await reach({ at: 'idle' })
  const model = await loadModel(path, load)
  await reach({ at: 'loaded' })
  const rows = textRows(training.perDeviceTrainBatchSize ?? 1, training.maxSeqLength ?? 512)
  const options = { ...training, trainOn: 'all' } as const
  const adapter = await model.attach(await model.probe(strategy, rows, options))
  const run = adapter.train(rows, { ...options, maxSteps: steps, warmupRatio: 0 })
  for await (const _step of run);
  await reach({ at: 'trained', plannedBytes: run.memory.peakBytes })
}

if (process.send)
  process.once('message', (job: MeasuredTraining) => {
    measured(job)
      .catch((error: Error) => reach({ at: 'failed', message: error.message }))
      .finally(() => process.disconnect())
  })
