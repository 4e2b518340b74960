/** Private runs that train more than A and B of linears: heads, embeddings, norms and biases, and LoRA+ around them. */

import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import type { DpDyloraOptions } from '../../../lib/strategies/configs.js'
import { dpDylora } from '../../../lib/strategies/dp-dylora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { relativeError } from '../../parity/engine.js'
import { swept } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const USERS = 8
const bases = { tied: '', untied: '', biased: '' }
let data: string
beforeAll(() => {
  bases.tied = tinyModel('smollm2')
  bases.untied = tinyModel('llama3')
  bases.biased = tinyModel('qwen2')
  const rows = chats(5 * USERS)
    .trim()
    .split('\n')
  const owned = rows.map((row, i) => JSON.stringify({ ...JSON.parse(row), user: `u${i % USERS}` }))
  data = scratchFile('clients.jsonl', `${owned.join('\n')}\n`)
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function open(path: string): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32' })
  loaded.push(model)
  return model
}

const options = {
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 4,
  learningRate: 0.01,
  lrSchedulerType: 'constant' as const,
  seed: 7,
}
const tokens = Int32Array.from({ length: 24 }, (_, i) => 3 + ((i * 37) % 200))
const weights = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))

const byClient: DpDyloraOptions = { clients: { column: 'user' }, cohort: 4, delta: 1e-2 }
const byExample: DpDyloraOptions = { privacyUnit: 'example', cohort: 20, delta: 1e-3 }
/** So little noise that what is trained shows. */
const quiet = { rounds: 12, noiseMultiplier: 0.02, clippingNorm: 5 }

const strategies: Record<string, readonly [keyof typeof bases, (more: DpDyloraOptions) => StrategyConfig]> = {
  'an embedding': [
    'tied',
    (more) => dpDylora({ ...more, adapter: lora({ r: 4, targetModules: ['embed_tokens', 'v_proj'] }) }),
  ],
  'a tied head': [
    'tied',
    (more) => dpDylora({ ...more, adapter: lora({ r: 4, modulesToSave: ['lm_head', 'model.norm'] }) }),
  ],
  'a head and an embedding apart, of drawn ranks': [
    'untied',
    (more) =>
      dpDylora({
        ...more,
        adapter: dylora({ r: 4, trainedRanks: 'active', modulesToSave: ['lm_head', 'embed_tokens'] }),
      }),
  ],
  'biases beside a frozen A': [
    'biased',
    (more) =>
      dpDylora({
        ...more,
        adapter: loraFa({ r: 4, bias: 'all', modulesToSave: ['0.mlp'], projectGradient: false }),
      }),
  ],
  'LoRA+ around all': [
    'biased',
    (more) =>
      loraPlus({
        adapter: dpDylora({
          ...more,
          adapter: lora({
            r: 4,
            targetModules: ['q_proj', 'embed_tokens'],
            bias: 'lora_only',
            modulesToSave: ['norm'],
          }),
        }),
        loraplusLrRatio: 4,
        loraplusLrEmbedding: 0.01,
      }),
  ],
}

describe.each(swept(Object.entries(strategies), 2))('%s', (_, [base, of]) => {
  test.each([
    ['clients', byClient],
    ['examples', byExample],
  ])('learns by %s, is saved and loaded, and resumes to the bit', async (_unit, unit) => {
    const strategy = of({ ...unit, ...quiet })
    const folder = scratchFolder()
    const out = join(folder, 'out')
    const model = await open(bases[base])
    const adapter = await model.attach(strategy, { seed: 1 })
    const losses: number[] = []
    for await (const { loss } of adapter.train(data, { ...options, outputDir: out, saveSteps: 5 }))
      if (!Number.isNaN(loss)) losses.push(loss) // a round that drew nobody has none
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean(losses.slice(-4))).toBeLessThan(0.95 * mean(losses.slice(0, 3)))
    const trained = await model.logits(tokens)

    const again = join(folder, 'again')
    cpSync(join(folder, 'out-secret', 'checkpoint-5'), join(folder, 'again-secret', 'checkpoint-5'), {
      recursive: true,
    })
    const other = await (await open(bases[base])).attach(strategy, { seed: 2 })
    for await (const _step of other.train(data, { ...options, outputDir: again, resume: true }));
    expect(weights(again)).toEqual(weights(out))

    const reader = await open(bases[base])
    const read = await reader.loadAdapter(out)
    expect(read.state.privacy).toMatchObject([{ rounds: 12, noise_multiplier: 0.02 }])
    expect(relativeError(await reader.logits(tokens), trained)).toBeLessThan(1e-6)
  })

  test.each([
    ['clients', byClient],
    ['examples', byExample],
  ])('is planned by %s as it is held, whatever the batch', async (_unit, unit) => {
    const strategy = of({ ...unit, ...quiet })
    const { threads } = addon().cpu()
    const before = addon().allocated()
    const adapter = await (await open(bases[base])).attach(strategy)
    for (const perDeviceTrainBatchSize of [1, 3]) {
      const shape = { maxSeqLength: 64, perDeviceTrainBatchSize }
      const planned = await planModel(bases[base], { strategy, precision: 'fp32', threads, ...shape })
      expect(adapter.train(data, { ...options, ...shape }).memory).toEqual(planned)
      // A gradient and the sum in double precision; no gradients of examples beside them.
      const gradients = planned.rows.find(({ category }) => category === 'gradients')?.bytes
      const held = addon().allocated().gradients - before.gradients
      expect(held).toBe(adapter.trainableParameters * 12)
      expect(gradients).toBe(held)
    }
  })
})

test('noise reaches every number that trains, also of words that nobody has', async () => {
  const model = await open(bases.untied)
  const adapter = await model.attach(
    dpDylora({
      ...byExample,
      adapter: lora({ r: 2, targetModules: ['q_proj'], modulesToSave: ['embed_tokens', 'lm_head', 'norm'] }),
      rounds: 1,
      noiseMultiplier: 1,
      cohort: 1,
    }),
  )
  const { description, native } = adapter.state
  const trained = description.factors.filter(({ trained }) => trained)
  const before = trained.map(({ name }) => native.read(name, 'value'))
  for await (const _ of adapter.train(data, { ...options, optimizer: 'sgd' }));
  for (const [i, { name }] of trained.entries()) {
    const start = before[i] as Float32Array
    const still = native.read(name, 'value').filter((value, at) => value === start[at])
    // A step as small as the noise may leave a number of fp32 where it was.
    expect(still.length, name).toBeLessThan(0.02 * start.length)
  }
})

test.each([
  ['drawn ranks', dylora({ r: 4, trainedRanks: 'active' })],
  ['a start from the weight', lora({ r: 4, initLoraWeights: 'pissa' })],
  ['an embedding', lora({ r: 4, targetModules: ['embed_tokens', 'v_proj'] })],
])('examples of %s make the same update in batches of any size', async (_, adapter) => {
  const settings = { ...byExample, adapter, rounds: 2, noiseMultiplier: 1, noiseKey: '7'.repeat(64) }
  const trained: Float32Array[] = []
  for (const perDeviceTrainBatchSize of [1, 5]) {
    const model = await open(bases.tied)
    const private_ = await model.attach(dpDylora({ ...settings, clippingNorm: 0.5 }), { seed: 1 })
    const shape = { ...options, optimizer: 'sgd' as const, perDeviceTrainBatchSize }
    for await (const { privacy } of private_.train(data, shape))
      expect(privacy?.clipped_share).toBeGreaterThan(0)
    trained.push(await model.logits(tokens))
  }
  expect(relativeError(trained[1] as Float32Array, trained[0] as Float32Array)).toBeLessThan(1e-5)
})

test('LoRA+ leaves what is released alone, and B moves by its ratio more', async () => {
  const moved = async (ratio: number) => {
    const model = await open(bases.tied)
    const private_ = dpDylora({
      ...byExample,
      adapter: lora({ r: 2, targetModules: ['q_proj'] }),
      rounds: 1,
      noiseMultiplier: 1,
      noiseKey: '7'.repeat(64),
    })
    const adapter = await model.attach(loraPlus({ adapter: private_, loraplusLrRatio: ratio }), { seed: 1 })
    const { description, native } = adapter.state
    const values = () => description.factors.map(({ name }) => native.read(name, 'value'))
    const start = values()
    for await (const _ of adapter.train(data, { ...options, optimizer: 'sgd' }));
    return values().map((now, i) =>
      now.map((value, at) => value - ((start[i] as Float32Array)[at] as number)),
    )
  }
  const [plain, faster] = [await moved(1), await moved(8)]
  for (const [i, change] of plain.entries()) {
    const times = i % 2 === 0 ? 1 : 8
    const expected = change.map((value) => value * times)
    expect(relativeError(faster[i] as Float32Array, expected)).toBeLessThan(1e-3)
  }
})
