/**
 * Tokenizing starts a process, which takes longer than a few steps of a tiny model. Where many runs of a test file have
 * their data in common, the first that asks for some does it for all.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type * as data from '../lib/train/rows/data.js'

type PrepareData = typeof data.prepareData

/** Of a model folder: what its texts become. */
function tokenizerOf(folder: string): string {
  const hash = createHash('sha256')
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const path = join(folder, name)
    if (existsSync(path)) hash.update(readFileSync(path))
  }
  return hash.digest('hex')
}

/** For `vi.mock('…/lib/train/rows/data.js', …)`; rows are told apart by what holds them, files by their paths. */
export function tokenizedOnce(module: typeof data): typeof data {
  const prepared = new Map<unknown, Map<string, ReturnType<PrepareData>>>()
  const prepareData: PrepareData = (base, sources, options, control = {}) => {
    const { dataset, evalDataset } = sources
    const own = dataset.streaming || evalDataset?.rows !== undefined || control.now !== undefined
    if (own || control.sampleRows || control.onProgress)
      return module.prepareData(base, sources, options, control)
    const { perDeviceTrainBatchSize, maxSeqLength, packing, trainOn, seed, chatTemplate } = options
    const { rows, ...form } = dataset
    const key = JSON.stringify([
      tokenizerOf(base.files.path),
      { ...sources, dataset: form },
      { perDeviceTrainBatchSize, maxSeqLength, packing, trainOn, seed, chatTemplate },
    ])
    const alike = prepared.get(rows) ?? new Map<string, ReturnType<PrepareData>>()
    prepared.set(rows, alike)
    const made = alike.get(key) ?? module.prepareData(base, sources, options, control)
    alike.set(key, made)
    return made
  }
  return { ...module, prepareData }
}
