/** Trained parameters besides the factors of linears, in whole runs: embeddings, whole modules, biases. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { addon } from '../../../../lib/native/addon.js'
import { planModel } from '../../../../lib/planning/plan.js'
import { deltaLora } from '../../../../lib/strategies/delta-lora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { loraPlus } from '../../../../lib/strategies/lora-plus.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { relativeError } from '../../../parity/engine.js'
import { swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { leaveZero } from '../../strategies/start.js'

const bases = { tied: '', untied: '', biased: '' }
let data: string
beforeAll(() => {
  bases.tied = tinyModel('smollm2')
  bases.untied = tinyModel('llama3')
  bases.biased = tinyModel('qwen2')
  data = scratchFile('train.jsonl', chats(40))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function open(path: string, quantization: 'none' | 'nf4' = 'none'): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32', quantization })
  loaded.push(model)
  return model
}

const options = {
  maxSteps: 8,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.005,
  lrSchedulerType: 'constant' as const,
  seed: 7,
}
const tokens = Int32Array.from({ length: 24 }, (_, i) => 3 + ((i * 37) % 200))
const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))

const strategies = {
  'an embedding': ['tied', lora({ r: 4, loraAlpha: 8, targetModules: ['embed_tokens', 'v_proj'] })],
  'a tied head': ['tied', lora({ r: 4, loraAlpha: 8, modulesToSave: ['lm_head', 'model.norm'] })],
  'a head and an embedding apart': ['untied', lora({ r: 4, modulesToSave: ['lm_head', 'embed_tokens'] })],
  biases: ['biased', lora({ r: 4, bias: 'all', modulesToSave: ['0.mlp'] })],
  'all under LoRA+': [
    'biased',
    loraPlus({
      adapter: lora({
        r: 4,
        targetModules: ['q_proj', 'embed_tokens'],
        bias: 'lora_only',
        modulesToSave: ['norm'],
      }),
      loraplusLrRatio: 4,
      loraplusLrEmbedding: 0.01,
    }),
  ],
  'a head beside a weight that moves': [
    'untied',
    deltaLora({ r: 4, startStep: 2, modulesToSave: ['lm_head', 'norm'] }),
  ],
} as const

describe.each(swept(Object.entries(strategies), 1))('%s', (_, [base, strategy]) => {
  test('learns, is saved and loaded, resumes to the bit, and merges into what it computes', async () => {
    const out = scratchFolder()
    const model = await open(bases[base])
    const before = await model.logits(tokens)
    const adapter = await model.attach(strategy, { seed: 1 })
    expect(await model.logits(tokens)).toEqual(before)
    const losses: number[] = []
    for await (const { loss } of adapter.train(data, { ...options, outputDir: out, saveSteps: 4 }))
      losses.push(loss)
    expect(losses.at(-1)).toBeLessThan(losses[0] as number)
    const trained = await model.logits(tokens)

    const again = scratchFolder()
    const other = await (await open(bases[base])).attach(strategy, { seed: 2 })
    const resumed = other.train(data, { ...options, outputDir: again, resume: join(out, 'checkpoint-4') })
    for await (const _step of resumed);
    expect(bytes(again)).toEqual(bytes(out))

    const reader = await open(bases[base])
    const read = await reader.loadAdapter(out, { trainable: true })
    expect(relativeError(await reader.logits(tokens), trained)).toBeLessThan(1e-6)
    read.weight = 0
    expect(await reader.logits(tokens)).toEqual(before)

    const merged = join(scratchFolder(), 'merged')
    const { check } = await adapter.merge(merged, { dtype: 'f32' })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
    const whole = await open(merged)
    expect(relativeError(await whole.logits(tokens), trained)).toBeLessThan(1e-5)
  })

  test('is planned as it is held', async () => {
    const { threads } = addon().cpu()
    const shape = { maxSeqLength: 64, perDeviceTrainBatchSize: 2 }
    const planned = await planModel(bases[base], { strategy, precision: 'fp32', threads, ...shape })
    const adapter = await (await open(bases[base])).attach(strategy)
    const run = adapter.train(data, { ...options, ...shape })
    expect(run.memory).toEqual(planned)
    const held = planned.rows.find(({ category }) => category === 'gradients')?.bytes
    expect(held).toBe(adapter.trainableParameters * 4)
  })
})

test('a trained weight starts as what a quantized base computes with', async () => {
  const model = await open(bases.untied, 'nf4')
  const before = await model.logits(tokens)
  await model.attach(lora({ modulesToSave: ['o_proj', 'lm_head'] }))
  expect(await model.logits(tokens)).toEqual(before)
})

test('only one adapter at a time may train a weight, at weight 1; those of embeddings add up', async () => {
  const model = await open(bases.untied)
  const one = await model.attach(lora({ modulesToSave: ['lm_head'] }))
  const two = await model.attach(lora({ modulesToSave: ['lm_head'] }))
  await expect(model.logits(tokens)).rejects.toThrow('replaced twice')
  two.weight = 0
  one.weight = 0.5
  await expect(model.logits(tokens)).rejects.toThrow('expected 1')
  one.weight = 0
  const before = await model.logits(tokens)
  const embeds = lora({ targetModules: ['embed_tokens'] })
  const [first, second] = [await model.attach(embeds, { seed: 1 }), await model.attach(embeds, { seed: 2 })]
  leaveZero(first, 3)
  leaveZero(second, 4)
  const both = await model.logits(tokens)
  const merged = join(scratchFolder(), 'merged')
  first.weight = -0.5
  const weighted = await model.logits(tokens)
  expect(relativeError(both, before)).toBeGreaterThan(1e-3)
  expect(relativeError(weighted, both)).toBeGreaterThan(1e-3)
  await model.save(merged, { dtype: 'f32' })
  expect(relativeError(await (await open(merged)).logits(tokens), weighted)).toBeLessThan(1e-5)
})

test('takes the form of plain LoRA with what trains beside it, and no file of factors alone', async () => {
  const model = await open(bases.untied)
  const strategy = lora({ r: 4, targetModules: ['q_proj', 'embed_tokens'], modulesToSave: ['lm_head'] })
  const adapter = await model.attach(loraPlus({ adapter: strategy }))
  leaveZero(adapter)
  const expected = await model.logits(tokens)
  const plain = scratchFolder()
  await adapter.save(plain, { form: 'lora' })
  const reader = await open(bases.untied)
  await reader.loadAdapter(plain)
  expect(relativeError(await reader.logits(tokens), expected)).toBeLessThan(1e-6)
  const file = join(scratchFolder(), 'adapter.gguf')
  await expect(adapter.export(file, { format: 'gguf-lora' })).rejects.toThrow(
    'the adapter trains lm_head.weight whole, but gguf-lora supports only factors of linears; export the merged model as gguf.',
  )
  expect(existsSync(file)).toBe(false)
})

describe('a folder for a model whose head is tied', () => {
  const config = (folder: string) => JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'))
  const change = (folder: string, fields: object) =>
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config(folder), ...fields }))

  test('says so to PEFT, and names both modules to versions that tie none', async () => {
    const model = await open(bases.tied)
    const folder = scratchFolder()
    await (await model.attach(lora({ modulesToSave: ['embed_tokens'] }))).save(folder)
    expect(config(folder)).toMatchObject({
      modules_to_save: ['embed_tokens', 'lm_head'],
      ensure_weight_tying: true,
    })
  })

  test('is refused if the two were trained apart', async () => {
    const model = await open(bases.tied)
    const other = await open(bases.untied)
    const folder = scratchFolder()
    await (await other.attach(lora({ modulesToSave: ['embed_tokens'] }))).save(folder)
    await expect(model.loadAdapter(folder)).rejects.toThrow(
      'holds no weight of lm_head, which this model shares among model.embed_tokens and lm_head: they were trained separately, but lowrank trains them as one. Train the adapter in PEFT with ensure_weight_tying.',
    )
  })

  test("is refused if an adapter of the embedding is the head's as well", async () => {
    const model = await open(bases.tied)
    const folder = scratchFolder()
    await (await model.attach(lora({ targetModules: ['embed_tokens'] }))).save(folder)
    change(folder, { ensure_weight_tying: true })
    await expect(model.loadAdapter(folder)).rejects.toThrow(
      'belongs to an adapter with ensure_weight_tying, which adapts model.embed_tokens and lm_head together; in lowrank an adapter of the embedding does not adapt the head.',
    )
  })
})
