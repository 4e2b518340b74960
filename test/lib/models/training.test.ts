import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import * as lowrank from '../../../lib/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'

/** Tiny models of test/parity/models: one with every variant that trains, and one that can be written as a GGUF file. */
const FAMILIES: Record<
  string,
  {
    model: string
    plain: string
    norms: string[]
    /** Default: q_proj and v_proj. */
    attention?: [string]
    /** The first layer with attention. Default 0. */
    layer?: number
  }
> = {
  qwen3: { model: 'qwen3', plain: 'qwen3', norms: ['q_norm', 'k_norm'] },
  granite: { model: 'granite_odd', plain: 'granite', norms: ['input_layernorm', 'norm'] },
  granite4: { model: 'granite4_nope', plain: 'granite4', norms: ['input_layernorm', 'norm'] },
  ministral3: { model: 'ministral3_window', plain: 'ministral3', norms: ['input_layernorm'] },
  phi3: { model: 'phi3_window', plain: 'phi3', norms: ['input_layernorm'], attention: ['qkv_proj'] },
  smollm3: { model: 'smollm3_window', plain: 'smollm3', norms: ['input_layernorm'] },
  olmo2: { model: 'olmo2_odd', plain: 'olmo2', norms: ['post_attention_layernorm', 'q_norm'] },
  olmo3: { model: 'olmo3_window', plain: 'olmo3', norms: ['post_feedforward_layernorm'] },
  lfm2: { model: 'lfm2_odd', plain: 'lfm2', norms: ['operator_norm', 'conv.conv'] },
  qwen3_5: { model: 'qwen3_5_odd', plain: 'qwen3_5', norms: ['linear_attn.norm', 'conv1d'], layer: 1 },
  gemma: { model: 'gemma_odd', plain: 'gemma', norms: ['input_layernorm', 'norm'] },
  gemma3: { model: 'gemma3_window', plain: 'gemma3', norms: ['pre_feedforward_layernorm', 'k_norm', 'norm'] },
}

const models: lowrank.Model[] = []
afterAll(async () => {
  for (const model of models) await model.dispose()
})

async function load(path: string, quantization: 'none' | 'nf4' | 'fp4' | 'int8' | 'keep' = 'none') {
  const model = await lowrank.loadModel(path, { precision: 'fp32', quantization })
  models.push(model)
  return model
}

const rows = Array.from({ length: 24 }, (_, i) => ({
  prompt: `Color of ${['sky', 'sea', 'sun', 'leaf'][i % 4]}?`,
  completion: ['blue', 'green', 'gold', 'red'][i % 4] as string,
}))

const run = {
  perDeviceTrainBatchSize: 4,
  maxSeqLength: 48,
  maxSteps: 4,
  learningRate: 0.01,
  seed: 7,
  chatTemplate: false,
} as const

async function losses(
  adapter: lowrank.Adapter,
  options: Parameters<lowrank.Adapter['train']>[1] = {},
): Promise<number[]> {
  const found: number[] = []
  for await (const { loss } of adapter.train(rows, { ...run, ...options })) found.push(loss)
  return found
}

const all = { r: 4, targetModules: 'all-linear' } as const
const lycoris = { r: 4, alpha: 8, targetModules: 'all-linear' } as const
const strategiesWith = (
  norms: readonly string[],
  attention: readonly [string, ...string[]],
  layer: number,
): Record<string, lowrank.StrategyConfig> => ({
  lora: lowrank.lora({ ...all, modulesToSave: [...norms] }),
  'lora-fa': lowrank.loraFa(all),
  'lora-plus': lowrank.loraPlus({ adapter: lowrank.lora(all) }),
  dora: lowrank.dora(all),
  'delta-lora': lowrank.deltaLora({ ...all, startStep: 1 }),
  dylora: lowrank.dylora(all),
  'dp-dylora': lowrank.dpDylora({
    adapter: lowrank.dylora(all),
    privacyUnit: 'example',
    rounds: 4,
    cohort: 4,
    targetEpsilon: 8,
    noiseKey: '11'.repeat(32),
  }),
  adalora: lowrank.adalora({
    initR: 6,
    targetR: 3,
    tinit: 1,
    tfinal: 1,
    deltaT: 1,
    targetModules: 'all-linear',
  }),
  vera: lowrank.vera({ r: 8, targetModules: [...attention] }),
  loha: lowrank.loha(lycoris),
  lokr: lowrank.lokr(lycoris),
  miss: lowrank.miss(all),
  'lora-drop': lowrank.loraDrop({ ...all, keep: [`model.layers.${layer}.self_attn.${attention[0]}`] }),
  qlora: lowrank.qlora({ adapter: lowrank.lora(all) }),
  full: lowrank.full(),
})

describe.each(Object.entries(FAMILIES))(
  'a model of the family %s',
  (family, { model: name, plain, norms, attention = ['q_proj', 'v_proj'], layer = 0 }) => {
    const folder = tinyModel(name)

    it.each(swept(Object.entries(strategiesWith(norms, attention, layer)), family === 'qwen3' ? 4 : 1))(
      'is trained by %s with the same numbers where blocks are computed again, and merged',
      async (name, strategy) => {
        const model = await load(folder, name === 'qlora' ? 'nf4' : 'none')
        const more = name === 'dp-dylora' ? { maxSteps: null } : {}
        const kept = await model.attach(strategy, { seed: 1 })
        const found = await losses(kept, { ...more, gradientCheckpointing: false })
        expect(found).toHaveLength(4)
        expect(found.every(Number.isFinite)).toBe(true)
        const tokens = Int32Array.from({ length: 30 }, (_, i) => 3 + ((i * 37) % 100))
        const tuned = await model.logits(tokens, { adapters: [kept] })
        const again = await model.attach(strategy, { seed: 1 })
        const recomputed = await losses(again, { ...more, gradientCheckpointing: true })
        recomputed.forEach((loss, i) => {
          expect(Math.abs(loss / (found[i] as number) - 1)).toBeLessThan(1e-6)
        })
        if (name === 'qlora') return
        const { output } = await kept.merge(join(scratchFolder(), 'merged'), { dtype: 'f32' })
        const merged = await (await load(output)).logits(tokens)
        expect(Math.max(...merged.map((value, i) => Math.abs(value - (tuned[i] ?? 0))))).toBeLessThan(1e-3)
      },
    )

    it.each(swept(['nf4', 'fp4', 'int8'] as const, 1))('is trained over weights in %s', async (type) => {
      const model = await load(folder, type)
      const [first = 0, ...rest] = await losses(await model.attach(lowrank.lora(all)), { maxSteps: 12 })
      expect(rest.at(-1)).toBeLessThan(first)
    })

    it('is trained over the blocks of its own GGUF file', async () => {
      const source = await load(tinyModel(plain))
      const path = join(scratchFolder(), 'model.gguf')
      await source.export(path, { format: 'gguf', dtype: 'q8_0', check: false })
      const model = await load(path, 'keep')
      const [first = 0, ...rest] = await losses(await model.attach(lowrank.lora(all)), { maxSteps: 12 })
      expect(rest.at(-1)).toBeLessThan(first)
    })

    // Nothing of it depends on the family.
    const resumes = family === 'qwen3' ? it : sweepTest
    resumes('goes on from a checkpoint with the same bits', async () => {
      const model = await load(folder)
      const whole = await losses(await model.attach(lowrank.dora(all), { seed: 1 }), { maxSteps: 4 })
      const outputDir = join(scratchFolder(), 'run')
      const options = { outputDir, saveSteps: 2, maxSteps: 4 }
      const stopped = (await model.attach(lowrank.dora(all), { seed: 1 })).train(rows, { ...run, ...options })
      for await (const { step } of stopped) if (step === 2) break
      const rest: number[] = []
      const resumed = (await model.attach(lowrank.dora(all), { seed: 1 })).train(rows, {
        ...run,
        ...options,
        resume: true,
      })
      for await (const { loss } of resumed) rest.push(loss)
      expect(rest).toEqual(whole.slice(2))
    })

    it('generates with its cache what the likeliest tokens of whole texts are', async () => {
      const model = await load(folder)
      const { tokenIds } = await model.generate('Color of', {
        maxNewTokens: 12,
        temperature: 0,
        chatTemplate: false,
      })
      const ids = [...'Color of'].map((letter) => 3 + letter.charCodeAt(0))
      const text = [...ids, ...tokenIds].slice(0, -1)
      const logits = await model.logits(Int32Array.from(text))
      const vocabulary = logits.length / text.length
      const likeliest = text.map((_, at) => {
        const row = logits.slice(at * vocabulary, (at + 1) * vocabulary)
        return row.indexOf(Math.max(...row))
      })
      expect(likeliest.slice(ids.length - 1)).toEqual([...tokenIds])
    })
  },
)
