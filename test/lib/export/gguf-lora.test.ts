import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel, loha, miss, vera } from '../../../lib/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { scratchFolder } from '../scratch.js'
import { leaveZero } from '../strategies/start.js'

test.each([
  ['over sums of blocks', miss({ r: 6 })],
  ['whose layers share wider and taller factors', vera({ r: 6 })],
  [
    'that is a product of two products',
    loha({ r: 3, rankPattern: { v_proj: 2 }, alphaPattern: { v_proj: 3 } }),
  ],
])('an adapter %s is written as it acts in each layer', async (_, strategy) => {
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  try {
    const adapter = await model.attach(strategy)
    leaveZero(adapter)
    const { check } = await adapter.export(join(scratchFolder(), 'adapter.gguf'), { format: 'gguf-lora' })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
  } finally {
    await model.dispose()
  }
})
