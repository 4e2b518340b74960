/** Adapters that start from the weights they adapt: PiSSA, OLoRA, LoftQ. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readSafetensorsHeader, readTensor } from '../../../lib/formats/safetensors.js'
import {
  dora,
  type LoadOptions,
  type LoraOptions,
  loadModel,
  lora,
  loraFa,
  loraPlus,
  type Model,
  nf4,
  qlora,
} from '../../../lib/index.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { openModelFiles } from '../../../lib/models/index.js'
import type { TrainOptions } from '../../../lib/options/types.js'
import { toFloat32 } from '../../../lib/peft/floats.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { parity, relativeError } from '../../parity/engine.js'
import { sweepTest } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

const folder = tinyModel()
const data = scratchFile('train.jsonl', chats(40))
const tokens = Int32Array.from([1, 2, 3, 4, 5])
const options: LoraOptions = { r: 4, loraAlpha: 12, rankPattern: { q_proj: 2 }, alphaPattern: { up_proj: 3 } }
const shape: Partial<TrainOptions> = {
  maxSteps: 8,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.005,
  seed: 3,
}

async function withModel<T>(loading: LoadOptions, work: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel(folder, { precision: 'fp32', ...loading })
  try {
    return await work(model)
  } finally {
    await model.dispose()
  }
}

/** Values of every factor, and the losses on the way there. */
async function run(
  strategy: StrategyConfig,
  control: object = {},
  loading: LoadOptions = {},
  stopAt = Number.POSITIVE_INFINITY,
) {
  return withModel(loading, async (model) => {
    const adapter = await model.attach(strategy, { seed: 1 })
    const losses: number[] = []
    for await (const { step: index, loss } of adapter.train(data, { ...shape, ...control })) {
      losses.push(loss)
      if (index === stopAt) break
    }
    const { native, description } = adapter.state
    return {
      losses,
      values: new Map(description.factors.map(({ name }) => [name, native.read(name, 'value')])),
    }
  })
}

describe('what can be asked for', () => {
  test.each<[LoraOptions, string]>([
    [
      { initLoraWeights: 'pissa', loraDropout: 0.1 },
      'lora(): loraDropout is 0.1, expected 0 with a start of pissa, which is a part of the weight.',
    ],
    [
      { initLoraWeights: 'pissa_niter_' as never },
      'lora(): initLoraWeights is "pissa_niter_", expected true, false, gaussian, pissa, pissa_niter_N with a number N, olora or loftq.',
    ],
  ])('refuses %j', (given, message) => {
    expect(() => lora(given)).toThrow(message)
  })

  test('a start that is a part of the weight is for a single pair of factors', () => {
    expect(() => dora({ initLoraWeights: 'pissa' as never })).toThrow(
      'dora(): initLoraWeights is "pissa", expected true, false or gaussian.',
    )
    expect(() => loraFa({ initLoraWeights: 'olora', loraDropout: 0.5 })).toThrow(
      'expected 0 with a start of olora',
    )
    expect(lora({ initLoraWeights: 'loftq', loraDropout: 0.5 }).loraDropout).toBe(0.5)
  })

  test('a rank beyond the sides of a linear', () => {
    expect(() => describeAdapter(lora({ r: 33, initLoraWeights: 'pissa' }), sites)).toThrow(
      'init_lora_weights is pissa, but model.layers.0.self_attn.k_proj [32, 64] has fewer than 33 singular values or columns; expected a rank of at most 32 there (rank_pattern).',
    )
  })

  test('the start of a weight is held twice, and trained once', () => {
    const [own, plain] = [
      describeAdapter(lora({ ...options, initLoraWeights: 'pissa' }), sites),
      describeAdapter(lora(options), sites),
    ]
    expect(own.factors.filter(({ trained }) => trained)).toEqual(plain.factors)
    expect(own.factors).toHaveLength(2 * plain.factors.length + 1)
    const loftq = describeAdapter(lora({ ...options, initLoraWeights: 'loftq' }), sites)
    expect(loftq.factors).toEqual(plain.factors)
  })

  test('LoftQ of weights that lost nothing, or lost it before they were saved', async () => {
    await withModel({}, async (model) => {
      await expect(model.attach(lora({ initLoraWeights: 'loftq' }))).rejects.toThrow(
        'init_lora_weights is loftq, which starts from the quantization error, but the model was loaded without any; load it with quantization nf4.',
      )
      expect(model.adapters).toEqual([])
    })
    const stored = await loadModel(join(parity, 'bnb/odd_double'), { precision: 'fp32' })
    await expect(stored.attach(lora({ initLoraWeights: 'loftq' }))).rejects.toThrow(
      'its files hold nf4 already; load the model that it was made from, with that quantization.',
    )
    await stored.dispose()
  })
})

describe.each<[LoraOptions['initLoraWeights'], LoadOptions]>([
  ['pissa', {}],
  ['pissa_niter_2', {}],
  ['olora', {}],
  ['pissa', { quantization: nf4() }],
  ['olora', { quantization: 'int8' }],
])('a start of %s over %j', (initLoraWeights, loading) => {
  const strategy = lora({ ...options, initLoraWeights })

  test('leaves the model as it is, and the first gradients are those of a part of the weight', async () => {
    await withModel(loading, async (model) => {
      const without = await model.logits(tokens)
      const adapter = await model.attach(strategy)
      expect(relativeError(await model.logits(tokens), without)).toBeLessThan(1e-5)
      const { native, description } = adapter.state
      for (const { a, b } of flat(description.spec))
        for (const name of [a, b]) expect(native.read(name, 'value').some((value) => value !== 0)).toBe(true)
    })
  })

  sweepTest('trained, then saved, exported or merged computes the same', async () => {
    await withModel(loading, async (model) => {
      const before = await model.logits(tokens)
      const adapter = await model.attach(strategy, { name: 'own' })
      for await (const _ of adapter.train(data, shape));
      const logits = (...adapters: Adapter[]) => model.logits(tokens, { adapters })
      const expected = await logits(adapter)
      expect(relativeError(expected, before)).toBeGreaterThan(1e-2)
      const [own, asLora, gguf, merged] = ['own', 'lora', 'a.gguf', 'merged'].map((name) =>
        join(scratchFolder(), name),
      ) as [string, string, string, string]
      await adapter.save(own)
      await adapter.save(asLora, { form: 'lora' })
      await adapter.export(gguf, { format: 'gguf-lora', dtype: 'f32' })
      const config = JSON.parse(readFileSync(join(own, 'adapter_config.json'), 'utf8'))
      expect(config).toMatchObject({
        peft_type: 'LORA',
        r: 8,
        lora_alpha: 24,
        rank_pattern: { q_proj: 4 },
        alpha_pattern: { up_proj: 6 },
        init_lora_weights: true,
      })
      for (const path of [own, asLora, gguf]) {
        const loaded = await model.loadAdapter(path, { name: 'loaded' })
        expect(relativeError(await logits(loaded), expected), path).toBeLessThan(1e-5)
        await loaded.detach()
      }
      await adapter.merge(merged, { dtype: 'f32' })
      const whole = await loadModel(merged, { precision: 'fp32' })
      expect(relativeError(await whole.logits(tokens), expected)).toBeLessThan(1e-5)
      await whole.dispose()
    })
  })
})

test.each([
  ['PiSSA', lora({ ...options, initLoraWeights: 'pissa' }), {}],
  ['OLoRA with LoRA+', loraPlus({ adapter: lora({ r: 4, initLoraWeights: 'olora' }) }), {}],
  [
    'LoftQ in QLoRA',
    qlora({ adapter: lora({ ...options, initLoraWeights: 'loftq' }) }),
    { quantization: nf4() },
  ],
])('a run of %s that is interrupted goes on bit for bit', async (_, strategy, loading) => {
  const [whole, outputDir] = [scratchFolder(), scratchFolder()]
  const uninterrupted = await run(strategy, { outputDir: whole }, loading)
  await run(strategy, { outputDir, saveSteps: 3 }, loading, 4)
  const resumed = await run(strategy, { outputDir, resume: true }, loading)
  expect(resumed.losses).toEqual(uninterrupted.losses.slice(3))
  expect(resumed.values).toEqual(uninterrupted.values)
  const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))
  expect(bytes(outputDir).equals(bytes(whole))).toBe(true)
})

test('LoRA-FA keeps the largest directions of the weight as its frozen A', async () => {
  const strategy = loraFa({ r: 4, loraAlpha: 8, initLoraWeights: 'pissa' })
  await withModel({}, async (model) => {
    const adapter = await model.attach(strategy)
    const { native, description } = adapter.state
    const [term] = flat(description.spec)
    const [a, b] = [native.read(term?.a as string, 'value'), native.read(term?.b as string, 'value')]
    expect(native.arrays(term?.a as string)).toEqual(['value'])
    for await (const _ of adapter.train(data, shape));
    expect(native.read(term?.a as string, 'value')).toEqual(a)
    expect(native.read(term?.b as string, 'value')).not.toEqual(b)
  })
})

test('more products come nearer to the largest singular values', async () => {
  const kept = async (model: Model, initLoraWeights: LoraOptions['initLoraWeights']) => {
    const adapter = await model.attach(
      lora({ r: 4, loraAlpha: 4, targetModules: ['down_proj'], initLoraWeights }),
    )
    const { native, description } = adapter.state
    // The squares of A are the singular values, whose sum is largest for the largest.
    const sum = flat(description.spec).reduce(
      (all, { a }) => all + native.read(a, 'value').reduce((squares, value) => squares + value * value, 0),
      0,
    )
    await adapter.detach()
    return sum
  }
  await withModel({}, async (model) => {
    const [none, two, all] = [
      await kept(model, 'pissa_niter_0'),
      await kept(model, 'pissa_niter_2'),
      await kept(model, 'pissa'),
    ]
    expect(none).toBeLessThan(two)
    expect(two).toBeLessThan(all)
  })
})

test.each([
  ['nf4', nf4({ doubleQuant: false })],
  ['nf4 with double quantization', nf4()],
  ['int8', { type: 'int8' } as const],
])('LoftQ brings a model in %s nearer to what it was', async (_, quantization) => {
  const exact = await withModel({}, (model) => model.logits(tokens))
  await withModel({ quantization }, async (model) => {
    const quantized = await model.logits(tokens)
    for (const loraAlpha of [16, 4]) {
      await using adapter = await model.attach(lora({ r: 16, loraAlpha, initLoraWeights: 'loftq' }))
      const given = await model.logits(tokens, { adapters: [adapter] })
      expect(relativeError(given, exact)).toBeLessThan(0.9 * relativeError(quantized, exact))
    }
  })
})

test('LoftQ of every rank that a weight has gives back all that was lost', async () => {
  const merged = join(scratchFolder(), 'merged')
  await withModel({ quantization: 'nf4' }, async (model) => {
    const strategy = lora({ r: 32, loraAlpha: 8, initLoraWeights: 'loftq', targetModules: ['k_proj'] })
    await (await model.attach(strategy)).merge(merged, { dtype: 'f32', check: false })
  })
  const weight = async (path: string, layer: string) => {
    const files = await openModelFiles(path)
    const { file } = files.tensors.get(layer) as { file: string }
    const header = await readSafetensorsHeader(file)
    return toFloat32(header.tensors.get(layer)?.dtype ?? '', await readTensor(header, layer), layer)
  }
  const error = async (layer: string) =>
    relativeError(await weight(merged, layer), await weight(folder, layer))
  expect(await error('model.layers.1.self_attn.k_proj.weight')).toBeLessThan(1e-6)
  expect(await error('model.layers.1.self_attn.q_proj.weight')).toBeGreaterThan(0.05)
})
