/** Every strategy over every format that the base can be held in. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, type Model, planModel } from '../../lib/index.js'
import { listStrategies, strategyFrom } from '../../lib/strategies/index.js'
import { keep, type Quantization, quantizationFrom } from '../../lib/weights/quantization.js'
import { scratchFile, scratchFolder } from '../lib/scratch.js'
import { WHOLE } from '../sweep.js'
import { chats, tinyModel } from './tiny-model.js'

/** A model whose files have that dtype, or what its linears are quantized to. */
const BASES: Record<string, { folder: string; gguf?: true; quantization?: Quantization }> = {
  fp32: { folder: 'smollm2' },
  fp16: { folder: 'half' },
  bf16: { folder: 'tinyllama' },
  ...Object.fromEntries(
    ['nf4', 'fp4', 'int8'].map((name) => [
      name,
      { folder: 'smollm2', quantization: quantizationFrom(name) as Quantization },
    ]),
  ),
  gguf: { folder: 'smollm2', gguf: true, quantization: keep() },
}
const strategies = listStrategies()
/** Settings of cases whose defaults are not enough. */
const SETTINGS: Record<string, object> = {
  'dp-dylora': {
    clients: { partition: 'iid', count: 4 },
    cohort: 4,
    rounds: 10,
    localEpochs: 2,
    noiseMultiplier: 1e-3,
    noiseKey: '5'.repeat(64),
  },
}

test('all bases that strategies name are tried', () => {
  expect([...new Set(strategies.flatMap(({ bases }) => bases))].sort()).toEqual(Object.keys(BASES).sort())
})

/** The model as a file of Q8_0 blocks. */
async function asGguf(folder: string): Promise<string> {
  const path = join(scratchFolder(), 'model.gguf')
  const model = await loadModel(folder, { precision: 'fp32' })
  await model.export(path, { format: 'gguf', dtype: 'q8_0' })
  await model.dispose()
  return path
}

describe.each(Object.entries(BASES))('over %s', (base, { folder, gguf, quantization }) => {
  let path: string
  let model: Model
  let data: string
  const how = { precision: 'fp32', ...(quantization ? { quantization } : {}) } as const
  beforeAll(async () => {
    path = gguf ? await asGguf(tinyModel(folder)) : tinyModel(folder)
    data = scratchFile('train.jsonl', chats(40))
    model = await loadModel(path, how)
  })
  afterAll(() => model.dispose())

  test('the weights take the planned memory', async () => {
    const weights = ({ rows }: { rows: readonly { category: string; bytes: number }[] }) =>
      rows.filter(({ category }) => category === 'weights' || category === 'quantization_constants')
    const plan = await planModel(path, { strategy: strategyFrom({ name: 'lora' }), ...how })
    expect(weights(model.memory)).toEqual(weights(plan))
  })

  // Each strategy over one of its bases where the sweep is not whole.
  const running = strategies.filter(
    ({ bases }, i) => bases.includes(base) && (WHOLE || bases[i % bases.length] === base),
  )
  test.each(running.map(({ name }) => name))('%s learns, and its merge computes the same', async (name) => {
    const given = strategyFrom({ name, ...SETTINGS[name] })
    const strategy = await model.probe(given, data, { maxSeqLength: 64, learningRate: 0.02 })
    const adapter = await model.attach(strategy)
    try {
      const losses: number[] = []
      const options = {
        // Rounds of private training are counted by the strategy.
        maxSteps: name === 'dp-dylora' ? null : 10,
        maxSeqLength: 64,
        learningRate: 0.02,
        lrSchedulerType: 'constant',
      } as const
      for await (const { loss } of adapter.train(data, options)) losses.push(loss)
      expect(Math.min(...losses.slice(-3))).toBeLessThan((losses[0] as number) * 0.97)
      const { check } = await adapter.merge(join(scratchFolder(), 'merged'), { dtype: 'f32' })
      expect(check?.maxAbsLogitError).toBeLessThan(1e-3)
    } finally {
      await adapter.detach()
    }
  })
})
