/** The tiny model in tests of training. */

import { afterEach, beforeAll } from 'vitest'
import type { Adapter, TrainControl } from '../../../lib/model/adapter.js'
import { type LoadOptions, loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import type { DoneEvent, EvalEvent, TrainEvent, TrainStep } from '../../../lib/train/steps/events.js'
import { tinyModel } from '../../e2e/tiny-model.js'

/** Loads the tiny model, in fp32 by default, for the rest of a test. */
export function tinyLoader(): (options?: LoadOptions) => Promise<Model> {
  let folder: string
  beforeAll(() => {
    folder = tinyModel()
  })
  const loaded: Model[] = []
  afterEach(async () => {
    for (const model of loaded.splice(0)) await model.dispose()
  })
  return async (options = {}) => {
    const model = await loadModel(folder, { precision: 'fp32', ...options })
    loaded.push(model)
    return model
  }
}

/** Trains to the end, and sorts the events. */
export async function trainedOn(
  adapter: Adapter,
  data: object[],
  options: Partial<TrainOptions> & TrainControl,
): Promise<{ steps: TrainStep[]; evaluations: EvalEvent[]; done: DoneEvent }> {
  const events: TrainEvent[] = []
  for await (const event of adapter.train(data, options).events()) events.push(event)
  const steps = events.filter((event): event is TrainStep => event.event === 'step')
  const evaluations = events.filter((event): event is EvalEvent => event.event === 'eval')
  return { steps, evaluations, done: events.at(-1) as DoneEvent }
}
