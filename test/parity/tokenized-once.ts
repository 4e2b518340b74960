/** Tokenizing starts a process; the cases have their rows in common, so the first run that asks for some does it for all. */
import type * as data from '../../lib/train/data.js'
import type { DatasetConfig } from '../../lib/train/dataset.js'

type PrepareData = typeof data.prepareData

/** For `vi.mock('../../lib/train/data.js', …)`. */
export function tokenizedOnce(module: typeof data): typeof data {
  const prepared = new Map<DatasetConfig, Map<string, ReturnType<PrepareData>>>()
  const prepareData: PrepareData = (base, sources, options, control) => {
    const { perDeviceTrainBatchSize, maxSeqLength, packing, trainOn, seed } = options
    const key = JSON.stringify({ perDeviceTrainBatchSize, maxSeqLength, packing, trainOn, seed })
    const alike = prepared.get(sources.dataset) ?? new Map<string, ReturnType<PrepareData>>()
    prepared.set(sources.dataset, alike)
    const made = alike.get(key) ?? module.prepareData(base, sources, options, control)
    alike.set(key, made)
    return made
  }
  return { ...module, prepareData }
}
