/** Losses of single rows: the same whatever number of rows a micro-batch has, and those of an evaluation. */
import { expect, test } from 'vitest'
import { ascending } from '../../../../lib/data/permutation.js'
import { loadModel } from '../../../../lib/model/load.js'
import { resolveConfig } from '../../../../lib/train/config/config.js'
import { rowLosses } from '../../../../lib/train/measures/row-measures.js'
import { encodeFile } from '../../../../lib/train/rows/data.js'
import { dataset } from '../../../../lib/train/sources/data-sources.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { scratchFile } from '../../scratch.js'

test('a row has the same loss beside others as alone', async () => {
  const held = scratchFile('held.jsonl', chats(7))
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  try {
    const raw = {
      model: 'm',
      dataset: held,
      strategy: { name: 'lora' },
      max_seq_length: 96,
      output_dir: 'out',
    }
    const config = resolveConfig(raw, { name: 'test', spelling: 'snake' }, '/')
    const data = await encodeFile(model.base, dataset(held), config, { now: 0 })
    const losses = (perDeviceTrainBatchSize: number, rows = ascending(data.length)) =>
      rowLosses(model.base, [], { data, rows }, { ...config, perDeviceTrainBatchSize })
    const alone = await losses(1)
    const beside = await losses(3)
    expect(new Set(alone).size).toBeGreaterThan(3)
    for (const [row, loss] of beside.entries()) expect(loss).toBeCloseTo(alone[row] as number, 5)
    expect((await losses(2, Uint32Array.of(5, 0, 3)))[0]).toBeCloseTo(alone[5] as number, 5)
  } finally {
    await model.dispose()
  }
})
