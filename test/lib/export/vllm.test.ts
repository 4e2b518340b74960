import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../../lib/core/errors.js'
import { readSafetensorsHeader, readTensor } from '../../../lib/formats/safetensors.js'
import { dora, type LoraOptions, loadModel, lora, miss, oft, vera } from '../../../lib/index.js'
import type { Model } from '../../../lib/model/model.js'
import { graphOf } from '../../../lib/models/index.js'
import { remarksForOthers } from '../../../lib/peft/other-programs.js'
import { lowRankPairs } from '../../../lib/strategies/convert.js'
import { linearSites } from '../../../lib/strategies/describe.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { scratchFolder } from '../scratch.js'
import { leaveZero } from '../strategies/start.js'

async function withAdapter<T>(
  strategy: StrategyConfig,
  use: (adapter: Awaited<ReturnType<Model['attach']>>, model: Model) => Promise<T>,
): Promise<T> {
  const model = await loadModel(tinyModel(), { precision: 'fp32' })
  try {
    const adapter = await model.attach(strategy)
    leaveZero(adapter)
    return await use(adapter, model)
  } finally {
    await model.dispose()
  }
}

/** The change of a module as vLLM computes it: every module has the scale lora_alpha / r. */
async function readByVllm(folder: string) {
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'))
  const header = await readSafetensorsHeader(join(folder, 'adapter_model.safetensors'))
  const values = async (name: string) =>
    new Float32Array(Uint8Array.from(await readTensor(header, name)).buffer)
  const factors = async (target: string) => {
    const [a, b] = ['lora_A', 'lora_B'].map((part) => `base_model.model.${target}.${part}.weight`)
    expect(header.tensors.get(a as string)?.shape[0]).toBe(config.r)
    expect(header.tensors.get(b as string)?.shape[1]).toBe(config.r)
    return { a: await values(a as string), b: await values(b as string) }
  }
  return { config, scale: config.lora_alpha / config.r, factors }
}

/** Scale times B A, in float64. */
function change(a: Float32Array, b: Float32Array, rank: number, scale: number): Float64Array {
  const [rows, cols] = [b.length / rank, a.length / rank]
  const out = new Float64Array(rows * cols)
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < rank; k++)
      for (let col = 0; col < cols; col++)
        out[row * cols + col] =
          (out[row * cols + col] as number) +
          scale * (b[row * rank + k] as number) * (a[k * cols + col] as number)
  return out
}

describe('an adapter exported for vLLM', () => {
  it.each<[string, StrategyConfig]>([
    [
      'with ranks and scales of its own in some modules',
      lora({ r: 4, rankPattern: { q_proj: 2 }, alphaPattern: { v_proj: 24 } }),
    ],
    ['with rsLoRA', lora({ r: 8, loraAlpha: 12, useRslora: true, rankPattern: { up_proj: 3 } })],
    ['over sums of blocks', miss({ r: 6 })],
    ['whose layers share factors', vera({ r: 6 })],
  ])('%s has one rank and one alpha, and changes each weight as before', async (_, strategy) => {
    await withAdapter(strategy, async (adapter, model) => {
      const folder = join(scratchFolder(), 'served')
      const { check, files } = await adapter.export(folder, { format: 'vllm' })
      expect(files).toEqual(['adapter_config.json', 'adapter_model.safetensors', 'lowrank.json'])
      expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
      const { config, scale, factors } = await readByVllm(folder)
      expect(config).toMatchObject({
        peft_type: 'LORA',
        rank_pattern: {},
        alpha_pattern: {},
        use_rslora: false,
        use_dora: false,
        bias: 'none',
        modules_to_save: null,
      })
      expect(config.lora_alpha).toBe(Math.round(config.lora_alpha))
      const { description, native } = adapter.state
      const read = (name: string) => native.read(name, 'value')
      const pairs = lowRankPairs(description, linearSites(graphOf(model.config)), read)
      expect(pairs.length).toBeGreaterThan(10)
      for (const pair of pairs) {
        const { a, b } = await factors(pair.target)
        const expected = change(pair.a(), pair.b(), pair.rank, pair.scale)
        const found = change(a, b, config.r, scale)
        const size = Math.max(...expected.map(Math.abs))
        expect(size).toBeGreaterThan(0)
        expect(Math.max(...found.map((value, i) => Math.abs(value - (expected[i] as number))))).toBeLessThan(
          1e-6 * size,
        )
      }
    })
  })

  it('keeps the values of one that has no patterns', async () => {
    await withAdapter(lora({ r: 4, loraAlpha: 8 }), async (adapter) => {
      const [own, served] = [join(scratchFolder(), 'own'), join(scratchFolder(), 'served')]
      await adapter.save(own)
      const { remarks } = await adapter.export(served, { format: 'vllm', check: false })
      expect(remarks).toEqual([])
      for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
        expect(readFileSync(join(served, file)).equals(readFileSync(join(own, file))), file).toBe(true)
    })
  })

  it('has the weight of the adapter in its factors', async () => {
    await withAdapter(lora({ r: 4, loraAlpha: 8 }), async (adapter, model) => {
      adapter.weight = 0.3
      const folder = join(scratchFolder(), 'served')
      const { check } = await model.export(folder, { format: 'vllm' })
      expect(check?.maxAbsLogitError).toBeLessThan(1e-4)
      expect((await readByVllm(folder)).config).toMatchObject({ r: 4, lora_alpha: 4 })
    })
  })

  it('says which max_lora_rank it needs', async () => {
    await withAdapter(lora({ r: 4, rankPattern: { q_proj: 20 } }), async (adapter) => {
      const { remarks } = await adapter.export(join(scratchFolder(), 'a'), { format: 'vllm', check: false })
      expect(remarks).toEqual(['vLLM needs --max-lora-rank 32 for the rank of 20; its default is 16'])
    })
  })

  it.each<[string, StrategyConfig, RegExp]>([
    ['DoRA', dora({ r: 4 }), /^dora scales the rows of the weights.*merge it/],
    ['OFT', oft({ oftBlockSize: 8 }), /^oft at .* has no low-rank form.*merge it/],
    [
      'modules trained whole',
      lora({ modulesToSave: ['norm'] }),
      /trains model\.\S+norm\.weight whole, but vllm supports only factors of linears; merge the adapter/,
    ],
    [
      'an adapted embedding',
      lora({ targetModules: ['q_proj', 'embed_tokens'] }),
      /adapts the embedding model\.embed_tokens, but vllm supports only factors of linears; merge the adapter/,
    ],
    [
      'a rank above all of vLLM',
      lora({ r: 513, targetModules: ['q_proj'] }),
      /has the rank 513 at model\.layers\.0\.self_attn\.q_proj, but vLLM supports at most 512; merge/,
    ],
  ])('is refused with %s, and nothing is written', async (_, strategy, message) => {
    await withAdapter(strategy, async (adapter) => {
      const folder = join(scratchFolder(), 'served')
      const written = adapter.export(folder, { format: 'vllm', check: false })
      await expect(written).rejects.toThrow(message)
      await expect(written).rejects.toBeInstanceOf(UnsupportedError)
      expect(existsSync(folder)).toBe(false)
    })
  })
})

it('says nothing of programs for a classifier, which none of them serves', async () => {
  const folder = scratchFolder()
  const config = { peft_type: 'LORA', task_type: 'SEQ_CLS', modules_to_save: ['score'], bias: 'none' }
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config))
  expect(await remarksForOthers(folder)).toEqual([])
})

describe('saving an adapter', () => {
  const remarksOf = (strategy: StrategyConfig) =>
    withAdapter(strategy, async (adapter) => (await adapter.save(join(scratchFolder(), 'a'))).remarks)
  const plain: LoraOptions = { r: 4, targetModules: ['q_proj', 'v_proj'] }

  it('says what vLLM ignores or refuses', async () => {
    expect(await remarksOf(lora(plain))).toEqual([])
    expect(await remarksOf(lora({ ...plain, useRslora: true }))).toEqual([])
    expect(await remarksOf(lora({ ...plain, rankPattern: { q_proj: 2 } }))).toEqual([
      'vLLM ignores rank_pattern of this adapter, so its modules would have wrong scales; export it with format vllm, which multiplies them into the factors',
    ])
    expect(await remarksOf(dora({ r: 4 }))).toEqual([
      'vLLM refuses DoRA (use_dora); merge the adapter for it',
    ])
    expect(await remarksOf(lora({ ...plain, modulesToSave: ['norm'] }))).toEqual([
      'vLLM refuses modules_to_save; merge the adapter for it',
    ])
    expect(await remarksOf(miss({ r: 4 }))).toEqual([
      'vLLM and most other programs load adapters of the type LORA alone, and this one is "MISS"; export it with format vllm if it is a sum of low-rank products, else merge the adapter for it',
    ])
  })
})
