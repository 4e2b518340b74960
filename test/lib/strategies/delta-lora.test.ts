import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  adamW,
  type DeltaLoraOptions,
  deltaLora,
  loadModel,
  lora,
  loraPlus,
  type Model,
} from '../../../lib/index.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { addon } from '../../../lib/native/addon.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, strategyToFile } from '../../../lib/strategies/index.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { relativeError } from '../../parity/engine.js'
import { swept } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { flat } from './flat.js'
import { sites } from './sites.js'
import { leaveZero } from './start.js'

describe('deltaLora()', () => {
  test('trains what LoRA trains, beside a frozen copy of it', () => {
    const options = { r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 } }
    const [own, plain] = [describeAdapter(deltaLora(options), sites), describeAdapter(lora(options), sites)]
    expect(own.factors.filter(({ trained }) => trained)).toEqual(plain.factors)
    const shapes = new Map(own.factors.map((factor) => [factor.name, [factor.rows, factor.cols]]))
    for (const { a, b, snapshotA, snapshotB, snapshotRatio } of flat(own.spec)) {
      expect(shapes.get(snapshotA as string)).toEqual(shapes.get(a))
      expect(shapes.get(snapshotB as string)).toEqual(shapes.get(b))
      expect(snapshotRatio).toBe('delta_ratio')
    }
  })

  test('reads back from the keys of a file', () => {
    const config = deltaLora({ r: 3, lambda: 0.5, startStep: 100 })
    const file = strategyToFile(config)
    expect(file).toMatchObject({ name: 'delta-lora', lambda: 0.5, start_step: 100 })
    expect(readStrategy(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
  })

  test.each<[DeltaLoraOptions, string]>([
    [
      { loraDropout: 0.1 as never },
      'deltaLora(): loraDropout is 0.1, expected 0, as Delta-LoRA has no dropout.',
    ],
    [{ lambda: 0 }, 'lambda is 0, expected a number above 0.'],
    [{ startStep: -2 }, 'startStep is -2, expected an integer from -1.'],
  ])('refuses %j', (options, message) => {
    expect(() => deltaLora(options)).toThrow(message)
  })

  test('a snapshot of another shape, or one that trains, is refused', () => {
    const { spec } = describeAdapter(deltaLora({ targetModules: ['q_proj'], layersToTransform: 0 }), sites)
    const changed = (name: RegExp, change: object) => ({
      ...spec,
      parameters: spec.parameters.map((one) => (name.test(one.name) ? { ...one, ...change } : one)),
    })
    const refused = (own: typeof spec) => expect(() => addon().createAdapter(own, { trainable: true }))
    refused(changed(/A\.weight\.snapshot/, { cols: 3 })).toThrow('A* (')
    refused(changed(/B\.weight\.snapshot/, { trained: true })).toThrow(
      'belongs to a snapshot and cannot be trained',
    )
    const dropped = {
      ...spec,
      terms: spec.terms.map((term) => ({ ...term, numbers: { ...term.numbers, dropout: 0.1 } })),
    }
    refused(dropped).toThrow('a snapshot needs A*, B*, and a ratio, and works only with A and B')
  })
})

const shape: Partial<TrainOptions> = {
  maxSteps: 8,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.01,
  seed: 3,
}

describe('a run', () => {
  let folder: string
  let data: string
  beforeAll(() => {
    folder = tinyModel()
    data = scratchFile('train.jsonl', chats(40))
  })

  async function run(strategy: StrategyConfig, control: object = {}, stopAt = Number.POSITIVE_INFINITY) {
    const model = await loadModel(folder, { precision: 'fp32' })
    const adapter = await model.attach(strategy, { seed: 1 })
    const losses: number[] = []
    for await (const { step: index, loss } of adapter.train(data, { ...shape, ...control })) {
      losses.push(loss)
      if (index === stopAt) break
    }
    const { native, description } = adapter.state
    const values = new Map(description.factors.map(({ name }) => [name, native.read(name, 'value')]))
    await model.dispose()
    return { losses, values }
  }

  test('with movement from the first step is that of LoRA with alpha (1 + lambda)', async () => {
    const control = { optimizer: adamW({ eps: 1e-12 }), weightDecay: 0.1, maxGradNorm: 0 }
    const moving = await run(deltaLora({ r: 4, loraAlpha: 4, lambda: 2, startStep: -1 }), control)
    const larger = await run(lora({ r: 4, loraAlpha: 12 }), control)
    expect(relativeError(moving.losses, larger.losses)).toBeLessThan(1e-5)
    for (const [name, values] of larger.values)
      expect(relativeError(moving.values.get(name) as Float32Array, values), name).toBeLessThan(1e-3)
    const plain = await run(lora({ r: 4, loraAlpha: 4 }), control)
    expect(relativeError(plain.losses, larger.losses)).toBeGreaterThan(1e-4)
  })

  test('is plain LoRA, bit for bit, until the weight moves', async () => {
    const [own, plain] = [await run(deltaLora({ startStep: 4 })), await run(lora())]
    // Steps 0 to 4 and the forward pass of step 5, where B A - B* A* is still 0.
    expect(own.losses.slice(0, 5)).toEqual(plain.losses.slice(0, 5))
    expect(relativeError(own.losses.slice(5, 6), plain.losses.slice(5, 6))).toBeLessThan(1e-6)
    expect(own.losses.slice(6)).not.toEqual(plain.losses.slice(6))
  })

  test('takes the snapshot after step K, and keeps it', async () => {
    const [after, later] = [
      await run(deltaLora({ startStep: 2 }), { maxSteps: 3, lrSchedulerType: 'constant' }),
      await run(deltaLora({ startStep: 2 }), { maxSteps: 6, lrSchedulerType: 'constant' }),
    ]
    for (const [name, values] of after.values) {
      if (!name.endsWith('.snapshot')) continue
      expect(values).toEqual(after.values.get(name.replace('.snapshot', '')))
      expect(values).toEqual(later.values.get(name))
    }
  })

  const interrupted = [
    ['before the snapshot', deltaLora({ r: 4, startStep: 4 })],
    ['after it, with LoRA+', loraPlus({ adapter: deltaLora({ r: 4, startStep: 1 }) })],
  ] as const
  test.each(swept(interrupted, 1))('that is interrupted %s goes on bit for bit', async (_, strategy) => {
    const [whole, outputDir] = [scratchFolder(), scratchFolder()]
    const uninterrupted = await run(strategy, { outputDir: whole })
    await run(strategy, { outputDir, saveSteps: 3 }, 4)
    const resumed = await run(strategy, { outputDir, resume: true })
    expect(resumed.losses).toEqual(uninterrupted.losses.slice(3))
    expect(resumed.values).toEqual(uninterrupted.values)
    const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))
    expect(bytes(outputDir).equals(bytes(whole))).toBe(true)
  })

  test('over NF4 brings the loss down', async () => {
    const model = await loadModel(folder, { quantization: 'nf4', precision: 'fp32' })
    const adapter = await model.attach(deltaLora({ r: 4, loraAlpha: 8, startStep: 5 }), { seed: 1 })
    const losses: number[] = []
    const options = { ...shape, maxSteps: 30, perDeviceTrainBatchSize: 4 }
    for await (const { loss } of adapter.train(scratchFile('few.jsonl', chats(16)), options))
      losses.push(loss)
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean(losses.slice(-5))).toBeLessThan(mean(losses.slice(0, 5)) - 0.05)
    await model.dispose()
  })
})

describe.each([
  { when: 'before the weight moves', ratio: 0, useRslora: false },
  { when: 'once it moves', ratio: 0.5, useRslora: false },
  { when: 'once it moves, with rsLoRA', ratio: 0.5, useRslora: true },
])('an adapter $when', ({ ratio, useRslora }) => {
  let model: Model
  let adapter: Adapter
  const tokens = Int32Array.from([1, 2, 3, 4, 5])
  const logits = (...adapters: Adapter[]) => model.logits(tokens, { adapters })

  beforeAll(async () => {
    model = await loadModel(tinyModel(), { precision: 'fp32' })
    const options = {
      r: 4,
      loraAlpha: 8,
      rankPattern: { q_proj: 2 },
      alphaPattern: { up_proj: 3 },
      lambda: 0.5,
    }
    adapter = await model.attach(deltaLora({ ...options, useRslora }), { name: 'own' })
    leaveZero(adapter)
    adapter.state.native.write('delta_ratio', 'value', Float32Array.of(ratio))
  })
  afterAll(() => model.dispose())

  test('saved, exported or merged computes the same', async () => {
    const expected = await logits(adapter)
    const [own, asLora, gguf, merged] = ['own', 'lora', 'a.gguf', 'merged'].map((name) =>
      join(scratchFolder(), name),
    )
    await adapter.save(own as string)
    await adapter.save(asLora as string, { form: 'lora' })
    await adapter.export(gguf as string, { format: 'gguf-lora', dtype: 'f32' })
    const config = JSON.parse(readFileSync(join(own as string, 'adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({ peft_type: 'LORA', r: ratio ? 8 : 4, use_rslora: useRslora })
    expect(config.lora_alpha).toBeCloseTo(ratio ? (useRslora ? 8 * Math.SQRT2 : 16) : 8, 12)
    for (const path of [own, asLora, gguf] as string[]) {
      const loaded = await model.loadAdapter(path, { name: 'loaded' })
      expect(relativeError(await logits(loaded), expected), path).toBeLessThan(1e-6)
      await loaded.detach()
    }
    await adapter.merge(merged as string, { dtype: 'f32' })
    const whole = await loadModel(merged as string, { precision: 'fp32' })
    expect(relativeError(await whole.logits(tokens), expected)).toBeLessThan(1e-5)
    await whole.dispose()
    // Without its part of the snapshot it would be another.
    adapter.state.native.write('delta_ratio', 'value', Float32Array.of(0))
    if (ratio) expect(relativeError(await logits(adapter), expected)).toBeGreaterThan(1e-3)
    adapter.state.native.write('delta_ratio', 'value', Float32Array.of(ratio))
  })
})
