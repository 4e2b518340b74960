import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { full, type LoraConfig, loadModel, loha, lokr, lora, type Model, vera } from '../../../lib/index.js'
import { loraOf } from '../../../lib/strategies/convert.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { relativeError } from '../../parity/engine.js'
import { scratchFolder } from '../files/scratch.js'
import { leaveZero } from './start.js'

let model: Model
beforeAll(async () => {
  model = await loadModel(tinyModel(), { precision: 'fp32' })
})
afterAll(() => model.dispose())

test.each<[string, StrategyConfig]>([
  ['shared factors and gains', vera({ r: 6 })],
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
    'full trains the weights of the model themselves, so it has no form as LoRA',
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
