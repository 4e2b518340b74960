/** Whole runs of strategies that do more than LoRA between steps or before the first. */
import { cpSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../../../lib/model/load.js'
import type { Model } from '../../../../lib/model/model.js'
import { adalora } from '../../../../lib/strategies/adalora.js'
import { dora } from '../../../../lib/strategies/dora.js'
import { dylora } from '../../../../lib/strategies/dylora.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { loraDrop } from '../../../../lib/strategies/lora-drop.js'
import { loraPlus } from '../../../../lib/strategies/lora-plus.js'
import type { StrategyConfig } from '../../../../lib/strategies/strategy.js'
import { dataset } from '../../../../lib/train/sources/data-sources.js'
import { chats, tinyModel } from '../../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../../sweep.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { flat } from '../../strategies/flat.js'

let folder: string
let data: string
beforeAll(() => {
  folder = tinyModel()
  data = scratchFile('train.jsonl', chats(60))
})

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
})

async function open(quantization: 'none' | 'nf4' = 'none'): Promise<Model> {
  const model = await loadModel(folder, { precision: 'fp32', quantization })
  loaded.push(model)
  return model
}

const options = {
  maxSteps: 12,
  maxSeqLength: 64,
  perDeviceTrainBatchSize: 2,
  learningRate: 0.01,
  lrSchedulerType: 'constant' as const,
  seed: 7,
}

async function train(strategy: StrategyConfig, control: object, model?: Model): Promise<number[]> {
  const adapter = await (model ?? (await open())).attach(strategy, { seed: 1 })
  const losses: number[] = []
  for await (const { loss } of adapter.train(data, { ...options, ...control })) losses.push(loss)
  return losses
}

const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))
const config = (path: string, name = 'adapter_config.json') =>
  JSON.parse(readFileSync(join(path, name), 'utf8'))

async function logits(path: string): Promise<Float32Array> {
  const model = await open()
  const adapter = await model.loadAdapter(path)
  return model.logits(Int32Array.of(1, 5, 9, 3), { adapters: [adapter] })
}

const distance = (a: Float32Array, b: Float32Array) =>
  Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))))

describe('AdaLoRA', () => {
  const strategy = adalora({ initR: 4, targetR: 1, tinit: 1, tfinal: 4, deltaT: 2, loraAlpha: 32 })

  sweepTest(
    'ends with the ranks that it was to end with, resumes in any part, and is saved in two forms',
    async () => {
      const out = scratchFolder()
      const losses = await train(strategy, { outputDir: out, saveSteps: 3 })
      expect(losses.at(-1)).toBeLessThan(losses[0] as number)
      const pattern = config(out).rank_pattern as Record<string, boolean[]>
      const ranks = Object.values(pattern).map((kept) => kept.filter(Boolean).length)
      expect(ranks.reduce((sum, rank) => sum + rank, 0)).toBe(ranks.length)
      expect(ranks).toContain(0)
      for (const step of [3, 6, 9]) {
        const again = scratchFolder()
        await train(strategy, { outputDir: again, resume: join(out, `checkpoint-${step}`) })
        expect(bytes(again), `from step ${step}`).toEqual(bytes(out))
        expect(config(again)).toEqual(config(out))
      }
      const model = await open()
      const adapter = await model.loadAdapter(out, { trainable: true })
      const plain = scratchFolder()
      await adapter.save(plain, { form: 'lora' })
      expect(config(plain)).toMatchObject({ peft_type: 'LORA' })
      const own = await logits(out)
      expect(distance(await logits(plain), own)).toBeLessThan(1e-4)
      const again = scratchFolder()
      await adapter.save(again)
      expect(bytes(again)).toEqual(bytes(out))
      for await (const { loss } of adapter.train(data, { ...options, maxSteps: 6 }))
        expect(loss).toBeGreaterThan(0)
    },
  )

  test('learns over a base in NF4, and under LoRA+', async () => {
    for (const one of [strategy, loraPlus({ adapter: strategy, loraplusLrRatio: 4 })]) {
      const losses = await train(one, {}, await open('nf4'))
      expect(losses.at(-1)).toBeLessThan(losses[0] as number)
    }
  })
})

describe('LoRA-drop', () => {
  const strategy = loraDrop({ r: 4, loraAlpha: 8, threshold: 0.6, sampleFraction: 0.5, probeSteps: 4 })

  test('chooses by its probe, shares the rest, and resumes without another', async () => {
    const out = scratchFolder()
    const model = await open()
    await expect(model.attach(strategy)).rejects.toThrow(
      'attach(): strategy lora-drop needs a probe of the data first',
    )
    const ready = await model.probe(strategy, data, options)
    expect(await model.probe(strategy, data, options)).toEqual(ready)
    expect(model.adapters).toEqual([])
    const { keep } = ready as typeof strategy
    const { targets: linears } = await (await open()).attach(lora())
    expect(keep?.length).toBeGreaterThan(0)
    expect(keep?.length).toBeLessThan(linears.length)
    // Of two layers one kept leaves one, which has nobody to share with: keep fewer.
    const fewer = { ...strategy, keep: linears.slice(0, 1) }
    const losses = await train(fewer, { outputDir: out, saveSteps: 6 }, model)
    expect(losses.at(-1)).toBeLessThan(losses[0] as number)
    expect(config(out)).toMatchObject({ peft_type: 'LORA', r: 4 })
    expect(config(out, 'lowrank.json').strategy.keep).toEqual(fewer.keep)
    const again = scratchFolder()
    await train(fewer, { outputDir: again, resume: join(out, 'checkpoint-6') })
    expect(bytes(again)).toEqual(bytes(out))

    const tied = await (await open()).loadAdapter(out, { trainable: true })
    expect(tied.trainableParameters).toBe(model.adapters[0]?.trainableParameters)
    const untied = scratchFolder()
    cpSync(out, untied, { recursive: true })
    rmSync(join(untied, 'lowrank.json'))
    expect(await logits(untied)).toEqual(await logits(out))
    const apart = await (await open()).loadAdapter(untied, { trainable: true })
    expect(apart.trainableParameters).toBeGreaterThan(tied.trainableParameters)
  })

  test('needs data that can be sampled', async () => {
    const model = await open()
    const streamed = dataset(data, { streaming: true })
    await expect(model.probe(strategy, streamed, options)).rejects.toThrow('dataset.streaming is true')
  })
})

describe.each(
  swept<[string, StrategyConfig]>(
    [
      ['DoRA', dora({ r: 4, loraAlpha: 8, freezeA: true })],
      ['DyLoRA', dylora({ r: 4, loraAlpha: 8, trainedRanks: 'active', freezeA: true })],
      ['LoRA-drop', loraDrop({ r: 4, loraAlpha: 8, freezeA: true, keep: ['model.layers.1.mlp.up_proj'] })],
      [
        'DoRA with LoRA+',
        loraPlus({ adapter: dora({ r: 4, loraAlpha: 8, freezeA: true }), loraplusLrRatio: 2 }),
      ],
    ],
    1,
  ),
)('%s with a frozen A', (_, strategy) => {
  test('learns over NF4, moves no A, and resumes', async () => {
    const out = scratchFolder()
    const model = await open('nf4')
    const losses = await train(strategy, { outputDir: out, saveSteps: 6, maxSteps: 24 }, model)
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean(losses.slice(-4))).toBeLessThan(mean(losses.slice(0, 4)) - 0.05)
    const [trained, drawn] = [model.adapters[0], await model.attach(strategy, { seed: 1 })]
    const values = (adapter: typeof trained, name: string) => adapter?.state.native.read(name, 'value')
    for (const { a, b } of flat(drawn.state.description.spec)) {
      expect(values(trained, a)).toEqual(values(drawn, a))
      expect(values(trained, b)).not.toEqual(values(drawn, b))
    }
    const again = scratchFolder()
    const resume = join(out, 'checkpoint-12')
    await train(strategy, { outputDir: again, resume, maxSteps: 24 }, await open('nf4'))
    expect(bytes(again)).toEqual(bytes(out))
  })
})
