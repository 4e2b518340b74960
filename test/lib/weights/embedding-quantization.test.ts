/** Embedding and head held as codes, against the same models with the decoded numbers in 32 bits. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChatMessage } from '../../../lib/index.js'
import { type LoadOptions, loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { addon } from '../../../lib/native/addon.js'
import { planModel } from '../../../lib/planning/plan.js'
import { full } from '../../../lib/strategies/full.js'
import { lora } from '../../../lib/strategies/lora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { fp4, int8, nf4, type Quantization } from '../../../lib/weights/quantization.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

vi.mock('../../../lib/train/rows/data.js', async (original) =>
  (await import('../../tokenized-once.js')).tokenizedOnce(await original()),
)

const loaded: Model[] = []
afterEach(async () => {
  for (const model of loaded.splice(0)) await model.dispose()
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

async function load(path: string, options: LoadOptions = {}): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32', cacheWeights: false, ...options })
  loaded.push(model)
  return model
}

let data: string
/** Folders of a model whose embedding and head are one, and of one where they are two. */
const folders: Record<string, string> = {}
beforeAll(() => {
  data = scratchFile('data.jsonl', chats(20))
  folders.tied = tinyModel('smollm2')
  folders.untied = tinyModel('llama2')
})

const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 240)

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0)
}

async function losses(
  model: Model,
  strategy: StrategyConfig = lora({ r: 4 }),
  maxSteps = 8,
): Promise<number[]> {
  const adapter = await model.attach(strategy)
  const found: number[] = []
  const options = { maxSteps, maxSeqLength: 64, learningRate: 0.01, warmupRatio: 0 }
  for await (const { loss } of adapter.train(data, options)) found.push(loss)
  return found
}

/** The model that computes with the decoded numbers. */
async function decoded(model: Model): Promise<Model> {
  const folder = join(scratchFolder(), 'decoded')
  await model.save(folder, { dtype: 'f32', adapters: [] })
  return load(folder)
}

const formats: Record<string, Quantization> = {
  int8: int8(),
  nf4: nf4(),
  'nf4 without double quantization': nf4({ doubleQuant: false }),
  fp4: fp4(),
}

describe.each(['tied', 'untied'])('a model whose embedding and head are %s', (kind) => {
  test.each(swept(Object.entries(formats), 2))(
    'computes over %s as over what that decodes to',
    async (_, format) => {
      const model = await load(folders[kind] as string, {
        quantization: 'nf4',
        embeddingQuantization: format,
      })
      expect(model.embeddingQuantization).toEqual(format)
      const other = await decoded(model)
      expect(largestDifference(await model.logits(tokens), await other.logits(tokens))).toBeLessThan(1e-4)
      const question: ChatMessage[] = [{ role: 'user', content: 'Colour of sky?' }]
      const [own, theirs] = await Promise.all(
        [model, other].map((one) => one.generate(question, { maxNewTokens: 12 })),
      )
      expect(own?.tokenIds).toEqual(theirs?.tokenIds)
      const plain = await losses(other)
      for (const [step, loss] of (await losses(model)).entries())
        expect(loss).toBeCloseTo(plain[step] as number, 3)
    },
  )

  test('learns nearly as it does in full precision', async () => {
    const path = folders[kind] as string
    const exact = await losses(await load(path), lora({ r: 4 }), 20)
    for (const [format, most] of [
      [int8(), 0.02],
      [nf4(), 0.2],
    ] as const) {
      const found = await losses(await load(path, { embeddingQuantization: format }), lora({ r: 4 }), 20)
      expect(found.at(-1)).toBeLessThan((found[0] as number) * 0.97)
      for (const [step, loss] of found.entries())
        expect(Math.abs(loss - (exact[step] as number)), `${format.type}, step ${step}`).toBeLessThan(most)
    }
  })

  test('takes the bytes of its codes, once where they are one, which the plan of a run knew', async () => {
    const path = folders[kind] as string
    const embedding = kind === 'tied' ? 256 * 96 : 2 * 256 * 64
    const sizes = { int8: embedding, nf4: embedding / 2 }
    const linears = await load(path, { quantization: 'nf4' })
    const exact = linears.memory.bytes('weights')
    for (const format of ['int8', 'nf4'] as const) {
      const options = { quantization: 'nf4', embeddingQuantization: format, precision: 'fp32' } as const
      const plan = await planModel(path, { ...options, strategy: lora({ r: 4 }), maxSeqLength: 64 })
      const held = addon().allocated()
      const model = await load(path, options)
      expect(exact - model.memory.bytes('weights')).toBe(4 * embedding - sizes[format])
      for (const category of ['weights', 'quantization_constants'] as const) {
        const now = (addon().allocated()[category] ?? 0) - (held[category] ?? 0)
        expect(now).toBe(model.memory.bytes(category))
      }
      const adapter = await model.attach(lora({ r: 4 }))
      const run = adapter.train(data, { maxSteps: 1, maxSeqLength: 64 })
      expect(run.memory).toEqual(plan)
      for await (const step of run) expect(step.loss).toBeGreaterThan(0)
      await model.dispose()
    }
  })

  test('may be paged, which changes no bit', async () => {
    vi.stubEnv('LOWRANK_WEIGHT_CACHE', scratchFolder())
    for (const embeddingQuantization of swept([nf4(), nf4({ doubleQuant: false }), int8()], 1)) {
      const options = { quantization: nf4(), embeddingQuantization }
      const whole = await load(folders[kind] as string, options)
      const paged = await load(folders[kind] as string, { ...options, pagedWeights: true })
      expect(await paged.logits(tokens)).toEqual(await whole.logits(tokens))
      expect(await losses(paged)).toEqual(await losses(whole))
      // Of linears the scales are paged too.
      const scales = whole.memory.bytes('quantization_constants')
      expect(paged.memory.bytes('quantization_constants')).toBeLessThan(scales)
      expect(paged.memory.bytes('quantization_constants')).toBeGreaterThan(0)
    }
  })
})

describe('adapters over an embedding in codes', () => {
  const strategies: Record<string, StrategyConfig> = {
    'a target of its own': lora({ r: 4, targetModules: ['embed_tokens', 'q_proj'] }),
    'a copy that trains': lora({ r: 4, modulesToSave: ['embed_tokens'] }),
    'a head that trains': lora({ r: 4, modulesToSave: ['lm_head'] }),
  }
  test.each(Object.entries(strategies))(
    '%s starts from its numbers and merges with them',
    async (name, strategy) => {
      const path = folders[name === 'a head that trains' ? 'untied' : 'tied'] as string
      const model = await load(path, { embeddingQuantization: int8() })
      const other = await decoded(model)
      const plain = await losses(other, strategy)
      for (const [step, loss] of (await losses(model, strategy)).entries())
        expect(loss).toBeCloseTo(plain[step] as number, 3)
      const output = join(scratchFolder(), 'merged')
      const { check } = await model.save(output, { dtype: 'f32' })
      expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
      const gguf = join(scratchFolder(), 'merged.gguf')
      await model.export(gguf, { format: 'gguf', dtype: 'f32', check: false })
      const merged = await load(gguf)
      expect(largestDifference(await merged.logits(tokens), await model.logits(tokens))).toBeLessThan(1e-3)
    },
  )

  test('are saved with a note of it, where it is not as usual', async () => {
    const heldOf = async (options: LoadOptions) => {
      const model = await load(folders.tied as string, options)
      const folder = join(scratchFolder(), 'out')
      await (await model.attach(lora({ r: 4 }))).save(folder)
      return JSON.parse(readFileSync(join(folder, 'lowrank.json'), 'utf8')).base
    }
    const small = await heldOf({ quantization: 'nf4', embeddingQuantization: nf4({ doubleQuant: false }) })
    expect(small.quantization).toBe('nf4')
    expect(small.embedding_quantization).toBe('{type: nf4, double_quant: false}')
    expect(await heldOf({ quantization: 'nf4' })).not.toHaveProperty('embedding_quantization')
  })

  test('have none beside full fine-tuning, which trains every weight', async () => {
    const model = await load(folders.tied as string, { embeddingQuantization: 'int8' })
    await expect(model.attach(full())).rejects.toThrow(
      'strategy full requires embeddingQuantization none, but the model was loaded with int8',
    )
  })
})

describe('files', () => {
  test('are the original numbers where those are asked for, else the decoded ones; codes only of the linears', async () => {
    const path = folders.untied as string
    const model = await load(path, { quantization: 'nf4', embeddingQuantization: 'nf4' })
    const folder = scratchFolder()
    const { check } = await model.save(join(folder, 'codes'), { dtype: 'nf4' })
    expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
    const codes = await load(join(folder, 'codes'))
    expect(codes.quantization).toEqual(nf4())
    expect(codes.embeddingQuantization).toEqual({ type: 'none' })
    await model.save(join(folder, 'original'), { dtype: 'f32', onto: 'original' })
    const original = await load(join(folder, 'original'))
    expect(await original.logits(tokens)).toEqual(await (await load(path)).logits(tokens))
  })

  sweepTest('of GGUF may keep the blocks of the embedding alone, or of all but it', async () => {
    const path = join(scratchFolder(), 'model.gguf')
    await (await load(folders.tied as string)).export(path, { format: 'gguf', dtype: 'q8_0' })
    const kept = await load(path, { quantization: 'nf4', embeddingQuantization: 'keep' })
    expect(kept.memory.bytes('weights')).toBeLessThan(
      (await load(path, { quantization: 'nf4' })).memory.bytes('weights'),
    )
    const rest = await load(path, { quantization: 'keep', embeddingQuantization: 'nf4' })
    const whole = await load(path, { quantization: 'keep' })
    expect(whole.embeddingQuantization).toEqual({ type: 'keep' })
    expect(rest.memory.bytes('weights')).toBeLessThan(whole.memory.bytes('weights'))
    for (const model of [kept, rest]) {
      const other = await decoded(model)
      expect(largestDifference(await model.logits(tokens), await other.logits(tokens))).toBeLessThan(1e-4)
    }
  })

  test('of weights are made for each way of its own and mapped the next time', async () => {
    const cache = scratchFolder()
    vi.stubEnv('LOWRANK_WEIGHT_CACHE', cache)
    let now = 0
    vi.spyOn(performance, 'now').mockImplementation(() => {
      now += 1000
      return now
    })
    for (const embeddingQuantization of ['none', 'int8', 'nf4'] as const) {
      const options = { quantization: 'nf4', embeddingQuantization, cacheWeights: true } as const
      const first = await (await load(folders.tied as string, options)).logits(tokens)
      const onProgress = vi.fn()
      const again = await load(folders.tied as string, { ...options, onProgress })
      // From the files there would be one call a tensor.
      expect(onProgress).toHaveBeenCalledTimes(1)
      expect(await again.logits(tokens)).toEqual(first)
    }
    const files = readdirSync(cache).filter((name) => name.endsWith('.weights'))
    const ways = files.map((name) => name.split('.')[1])
    expect(ways.sort()).toEqual(['nf4', 'nf4-int8-embedding', 'nf4-nf4-embedding'])
  })

  test('without blocks have none to keep', async () => {
    await expect(load(folders.untied as string, { embeddingQuantization: 'keep' })).rejects.toThrow(
      /embedding_quantization is keep, .* has none: its embedding and head are F32\. Use a \.gguf file/,
    )
  })
})
