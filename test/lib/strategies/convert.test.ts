import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  dora,
  full,
  hira,
  type LoraConfig,
  loadModel,
  loha,
  lokr,
  lora,
  type Model,
  miss,
  oft,
  vera,
} from '../../../lib/index.js'
import { loraOf } from '../../../lib/strategies/convert.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { relativeError } from '../../parity/engine.js'
import { scratchFolder } from '../scratch.js'
import { flat } from './flat.js'
import { leaveZero } from './start.js'

let model: Model
beforeAll(async () => {
  model = await loadModel(tinyModel(), { precision: 'fp32' })
})
afterAll(() => model.dispose())

test.each<[string, StrategyConfig]>([
  ['shared factors and gains', vera({ r: 6 })],
  ['sums of blocks', miss({ r: 6 })],
  ['a Kronecker product', lokr({ r: 2, rankPattern: { v_proj: 3 }, decomposeBoth: true })],
  ['a product of two products', loha({ r: 3, rankPattern: { v_proj: 2 }, alphaPattern: { v_proj: 3 } })],
  [
    'ranks and scales of their own',
    lora({ r: 4, rankPattern: { q_proj: 2 }, alphaPattern: { up_proj: 3 }, useRslora: true }),
  ],
])('an adapter with %s, saved as LoRA, computes the same', async (_, strategy) => {
  const adapter = await model.attach(strategy, { name: 'own' })
  leaveZero(adapter)
  const path = join(scratchFolder(), 'as-lora')
  await adapter.save(path, { form: 'lora' })
  expect(JSON.parse(readFileSync(join(path, 'adapter_config.json'), 'utf8')).peft_type).toBe('LORA')
  const { trained_as } = JSON.parse(readFileSync(join(path, 'lowrank.json'), 'utf8'))
  expect(trained_as.name).toBe(strategy.name)
  const loaded = await model.loadAdapter(path, { name: 'loaded' })
  const tokens = Int32Array.from([1, 2, 3, 4, 5])
  const [expected, found, without] = [
    await model.logits(tokens, { adapters: [adapter] }),
    await model.logits(tokens, { adapters: [loaded] }),
    await model.logits(tokens, { adapters: [] }),
  ]
  expect(relativeError(found, expected)).toBeLessThan(1e-6)
  expect(relativeError(without, expected)).toBeGreaterThan(1e-2)
  await adapter.detach()
  await loaded.detach()
})

test('trained base weights have no form as LoRA', async () => {
  const adapter = await model.attach(full())
  await expect(adapter.save(join(scratchFolder(), 'no'), { form: 'lora' })).rejects.toThrow(
    'full trains the weights of the model, so it cannot be converted to LoRA',
  )
  await adapter.detach()
})

test('a Kronecker product with a whole second side has no form as LoRA', async () => {
  const adapter = await model.attach(lokr({ r: 64 }))
  await expect(adapter.save(join(scratchFolder(), 'no'), { form: 'lora' })).rejects.toThrow(
    /^lokr at model\.layers\.0\.\S+: its second side is one whole matrix .* merge it instead/,
  )
  await adapter.detach()
})

describe('the nearest LoRA of a rank', () => {
  const tokens = Int32Array.from([1, 2, 3, 4, 5])
  const one = { targetModules: ['k_proj'], layersToTransform: 0 } as const

  /** Saves an adapter as a LoRA of a rank; how far its logits then are, and how far its change is said to be. */
  async function near(strategy: StrategyConfig, rank: number, base = model) {
    const adapter = await base.attach(strategy, { name: 'own' })
    leaveZero(adapter)
    const path = join(scratchFolder(), 'near')
    const { error } = await adapter.save(path, { form: 'lora', rank })
    const expected = await base.logits(tokens, { adapters: [adapter] })
    const loaded = await base.loadAdapter(path, { name: 'loaded' })
    const found = await base.logits(tokens, { adapters: [loaded] })
    await adapter.detach()
    await loaded.detach()
    const { r, lora_alpha, init_lora_weights } = JSON.parse(
      readFileSync(join(path, 'adapter_config.json'), 'utf8'),
    )
    expect({ r, lora_alpha, init_lora_weights }).toEqual({
      r: rank,
      lora_alpha: rank,
      init_lora_weights: true,
    })
    return { error, logits: relativeError(found, expected) }
  }

  test.each<[string, StrategyConfig]>([
    ['a Kronecker product with a whole second side', lokr({ r: 64, ...one })],
    ['scaled rows', dora({ r: 4, ...one })],
    ['a product of two products', loha({ r: 6, ...one })],
    ['a rotation', oft({ oftBlockSize: 8, ...one })],
    ['a product with the weight', hira({ r: 4, initWeights: false, ...one })],
  ])('of %s comes nearer with the rank, and is it at the highest', async (_, strategy) => {
    const [four, sixteen, all] = [await near(strategy, 4), await near(strategy, 16), await near(strategy, 32)]
    expect(four.error).toBeLessThan(1)
    expect(sixteen.error).toBeLessThan(four.error)
    expect(all.error).toBeLessThan(1e-6)
    expect(all.logits).toBeLessThan(1e-5)
    expect(sixteen.logits).toBeGreaterThan(all.logits)
  })

  test('is the part of the largest singular values, and its error what they leave', async () => {
    const adapter = await model.attach(lora({ r: 2, loraAlpha: 2, ...one }), { name: 'own' })
    const { native, description } = adapter.state
    const [term] = flat(description.spec)
    // Orthonormal rows and columns: the singular values are 3 and 1.
    const columns = description.factors[0]?.cols as number
    const a = new Float32Array(2 * columns)
    const b = new Float32Array(2 * (description.factors[1]?.rows as number))
    a[5] = a[columns + 9] = 1
    b[2 * 7] = 3
    b[2 * 20 + 1] = 1
    native.write(term?.a as string, 'value', a)
    native.write(term?.b as string, 'value', b)
    const path = join(scratchFolder(), 'near')
    const { error } = await adapter.save(path, { form: 'lora', rank: 1 })
    expect(error).toBeCloseTo(1 / Math.sqrt(10), 9)
    expect(await adapter.save(join(scratchFolder(), 'exact'), { form: 'lora' })).toEqual({
      error: 0,
      remarks: [],
    })
    const loaded = await model.loadAdapter(path, { name: 'loaded' })
    const read = (name: string) => loaded.state.native.read(name, 'value')
    const [left, right] = [read(term?.b as string), read(term?.a as string)]
    expect((left[7] as number) * (right[5] as number)).toBeCloseTo(3, 5)
    expect(left.filter((value) => Math.abs(value) > 1e-6)).toHaveLength(1)
    await adapter.detach()
    await loaded.detach()
  })

  test('over NF4 is of what the adapter changes, and of trained weights there is none', async () => {
    const quantized = await loadModel(tinyModel(), { precision: 'fp32', quantization: 'nf4' })
    expect((await near(lokr({ r: 64, ...one }), 32, quantized)).logits).toBeLessThan(1e-5)
    await quantized.dispose()
    const adapter = await model.attach(full())
    await expect(adapter.save(join(scratchFolder(), 'no'), { form: 'lora', rank: 4 })).rejects.toThrow(
      'full trains the weights of the model, so it cannot be converted',
    )
    await adapter.detach()
  })
})

test('what most linears have in common is said once', () => {
  const linears = ['model.layers.0.q_proj', 'model.layers.0.k_proj', 'model.layers.1.q_proj']
  const [a, b, c] = linears as [string, string, string]
  const found: LoraConfig = loraOf(
    [
      { target: a, rank: 4, scale: 2 },
      { target: b, rank: 2, scale: 4 },
      { target: c, rank: 4, scale: 1 },
    ],
    linears,
  )
  expect(found).toMatchObject({
    r: 4,
    loraAlpha: 8,
    rankPattern: { 'model\\.layers\\.0\\.k_proj': 2 },
    alphaPattern: { 'model\\.layers\\.1\\.q_proj': 4 },
    targetModules: ['k_proj', 'q_proj'],
  })
})
