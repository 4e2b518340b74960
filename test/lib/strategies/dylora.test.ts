import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type DyloraOptions, dylora, loadModel, lora, loraPlus, type Model } from '../../../lib/index.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { type AdapterSpec, addon, type NativeAdapter, type OptimizerStep } from '../../../lib/native/addon.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { dyloraRules } from '../../../lib/strategies/dylora.js'
import { readStrategy, strategyToFile } from '../../../lib/strategies/index.js'
import type { RunFacts } from '../../../lib/strategies/strategy.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { relativeError } from '../../parity/engine.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { flat } from './flat.js'
import { sites } from './sites.js'
import { leaveZero } from './start.js'

describe('dylora()', () => {
  test('has the factors and files of LoRA, and a scale that follows the rank', () => {
    const options = { r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 } }
    const [own, plain] = [describeAdapter(dylora(options), sites), describeAdapter(lora(options), sites)]
    expect(own.factors).toEqual(plain.factors)
    expect(flat(own.spec)).toEqual(flat(plain.spec).map((term) => ({ ...term, rankPower: 1 })))
    const roots = flat(describeAdapter(dylora({ useRslora: true }), sites).spec)
    expect(roots.every(({ rankPower }) => rankPower === 0.5)).toBe(true)
  })

  test('reads back from the keys of a file', () => {
    const config = dylora({ r: 3, trainedRanks: 'active', rankDistribution: [0, 1, 2], maskedUpdate: false })
    const file = strategyToFile(config)
    expect(file).toMatchObject({ name: 'dylora', trained_ranks: 'active', rank_distribution: [0, 1, 2] })
    expect(readStrategy(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
  })

  test.each<[DyloraOptions, string]>([
    [{ r: 0 }, 'dylora(): r is 0, expected a positive integer.'],
    [{ trainedRanks: 'first' as never }, 'trainedRanks is "first", expected one of last, active.'],
    [
      { r: 3, rankDistribution: [1, 2] },
      'rankDistribution is [1,2], expected uniform, or one weight for each of the 3 ranks.',
    ],
    [{ r: 2, rankDistribution: [0, 0] }, 'rankDistribution is [0,0], expected at least one weight above 0.'],
    [{ r: 2, rankDistribution: [1, -1] }, 'rankDistribution.1 is -1, expected numbers from 0.'],
    [{ r: 4, rankPattern: { q_proj: 8 } }, 'rankPattern.q_proj is 8, expected a rank up to r, 4'],
  ])('refuses %j', (options, message) => {
    expect(() => dylora(options)).toThrow(message)
  })
})

describe('drawn ranks', () => {
  const draws = (options: DyloraOptions, seed: number, steps = 400) => {
    const rules = dyloraRules.steps?.(dylora(options))?.begin({ seed } as RunFacts, undefined)
    return Array.from({ length: steps }, (_, i) => rules?.ranks?.(i + 1)?.active)
  }

  test('depend on the seed and the step alone, and follow the distribution', () => {
    const first = draws({ r: 4 }, 7)
    expect(draws({ r: 4 }, 7)).toEqual(first)
    expect(draws({ r: 4 }, 8)).not.toEqual(first)
    for (const rank of [1, 2, 3, 4])
      expect(first.filter((drawn) => drawn === rank).length, `rank ${rank}`).toBeGreaterThan(70)
    const weighted = draws({ r: 4, rankDistribution: [0, 1, 0, 3] }, 7)
    expect(new Set(weighted)).toEqual(new Set([2, 4]))
    expect(weighted.filter((drawn) => drawn === 4).length).toBeGreaterThan(250)
  })

  test('are counted from the first step, also by rules that begin in the middle', () => {
    const rules = dyloraRules.steps?.(dylora({ r: 3 }))?.begin({ seed: 1 } as RunFacts, undefined)
    const counts = rules?.ranks?.(50)?.draws as number[]
    const drawn = draws({ r: 3 }, 1, 50)
    expect(counts).toEqual([1, 2, 3].map((rank) => drawn.filter((active) => active === rank).length))
  })
})

const spec: AdapterSpec = {
  parameters: [
    { name: 'A', rows: 3, cols: 37, trained: true },
    { name: 'B', rows: 29, cols: 3, trained: true },
  ],
  terms: [
    {
      kind: 'low_rank',
      target: 'linear',
      parameters: { a: 'A', b: 'B' },
      numbers: { rank: 3, scale: 1, rankPower: 1 },
    },
  ],
}
const step = (index: number, ranks?: OptimizerStep['ranks']): OptimizerStep => ({
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  groups: [{ learningRate: 0.1, weightDecay: 0.1 }],
  maxGradNorm: 1,
  step: index,
  ...(ranks ? { ranks } : {}),
})
/** Values and moments of A, then of B. */
const ARRAYS = 3
const arrays = (adapter: NativeAdapter) =>
  ['A', 'B'].flatMap((name) => [
    adapter.read(name, 'value'),
    ...['m', 'v'].map((moment) => new Float32Array(adapter.readState(name, moment).buffer)),
  ])

function filled(): NativeAdapter {
  const adapter = addon().createAdapter(spec, { trainable: true })
  for (const name of ['A', 'B']) adapter.fill(name, { kind: 'normal', std: 1, seed: 3 })
  return adapter
}

/** Gradients that differ from step to step. */
function giveGradients(adapter: NativeAdapter, seed: number): void {
  for (const { name, rows, cols } of spec.parameters)
    adapter.write(
      name,
      'gradient',
      Float32Array.from({ length: rows * cols }, (_, i) => Math.cos(i * seed + 1)),
    )
}

describe('the masked update', () => {
  test('is AdamW bit for bit while all ranks train', async () => {
    const [masked, dense] = [filled(), filled()]
    for (const index of [1, 2, 3]) {
      for (const adapter of [masked, dense]) giveGradients(adapter, index)
      const ranks = { active: 3, lastOnly: false, draws: [0, 0, index] }
      const norms = [
        await masked.optimizerStep(step(index, ranks)).promise,
        await dense.optimizerStep(step(index)).promise,
      ]
      expect(norms[0]).toEqual(norms[1])
    }
    expect(arrays(masked)).toEqual(arrays(dense))
  })

  test.each([
    { lastOnly: true, moves: [1] },
    { lastOnly: false, moves: [0, 1] },
  ])('leaves other ranks bit-identical, values and moments ($moves)', async ({ lastOnly, moves }) => {
    const adapter = filled()
    giveGradients(adapter, 1)
    await adapter.optimizerStep(step(1, { active: 3, lastOnly: false, draws: [0, 0, 1] })).promise
    const before = arrays(adapter)
    giveGradients(adapter, 2)
    await adapter.optimizerStep(step(2, { active: 2, lastOnly, draws: [0, 1, 1] })).promise
    for (const [k, after] of arrays(adapter).entries())
      for (const [i, value] of after.entries()) {
        const rank = k < ARRAYS ? Math.floor(i / 37) : i % 3
        expect(Object.is(value, before[k]?.[i]), `array ${k}, rank ${rank}`).toBe(!moves.includes(rank))
      }
  })

  test('counts for a rank only the steps that trained it', async () => {
    // The second step of rank 1, though it is the third of the run: as AdamW's second step on that rank alone.
    const [adapter, alone] = [filled(), filled()]
    const drawn = [1, 3, 1]
    const draws = [0, 0, 0]
    for (const [i, active] of drawn.entries()) {
      giveGradients(adapter, i + 1)
      draws[active - 1] = (draws[active - 1] as number) + 1
      await adapter.optimizerStep({
        ...step(i + 1, { active, lastOnly: true, draws: [...draws] }),
        maxGradNorm: 0,
      }).promise
    }
    for (const [i, seed] of [1, 3].entries()) {
      giveGradients(alone, seed)
      await alone.optimizerStep({ ...step(i + 1), maxGradNorm: 0 }).promise
    }
    const first = (values: Float32Array) => values.slice(0, 37)
    expect(first(adapter.read('A', 'value'))).toEqual(first(alone.read('A', 'value')))
  })

  test('is refused where no ranks are drawn, or what trains is no factor of one linear', () => {
    const refused = (own: AdapterSpec, draws: number[]) => {
      const adapter = addon().createAdapter(own, { trainable: true })
      return adapter.optimizerStep(step(1, { active: 2, lastOnly: true, draws })).promise
    }
    return Promise.all([
      expect(refused(spec, [1])).rejects.toThrow('has 2 ranks in use; expected 1 to 1'),
      expect(
        refused({ ...spec, terms: [...spec.terms, { ...spec.terms[0], target: 'other' } as never] }, [1, 1]),
      ).rejects.toThrow('parameter A is used twice'),
    ])
  })
})

describe('an adapter of any rank', () => {
  let model: Model
  let adapter: Adapter
  const tokens = Int32Array.from([1, 2, 3, 4, 5])
  const logits = (...adapters: Adapter[]) => model.logits(tokens, { adapters })

  beforeAll(async () => {
    model = await loadModel(tinyModel(), { precision: 'fp32' })
    adapter = await model.attach(dylora({ r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 } }), { name: 'own' })
    leaveZero(adapter)
  })
  afterAll(() => model.dispose())

  test.each([1, 2, 3, 4])(
    'cut to rank %d, saved, merged or exported, is what it computes at that rank',
    async (rank) => {
      adapter.rank = rank
      const expected = await logits(adapter)
      const [folder, gguf] = [join(scratchFolder(), 'cut'), join(scratchFolder(), 'cut.gguf')]
      await adapter.save(folder, { rank })
      expect(JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'))).toMatchObject({
        peft_type: 'LORA',
        r: rank,
        lora_alpha: 8,
      })
      await adapter.export(gguf, { format: 'gguf-lora', dtype: 'f32' })
      for (const path of [folder, gguf]) {
        const cut = await model.loadAdapter(path, { name: 'cut' })
        expect(relativeError(await logits(cut), expected)).toBeLessThan(1e-6)
        await cut.detach()
      }
      const merged = join(scratchFolder(), 'merged')
      await adapter.merge(merged, { dtype: 'f32' })
      const whole = await loadModel(merged, { precision: 'fp32' })
      expect(relativeError(await whole.logits(tokens), expected)).toBeLessThan(1e-5)
      await whole.dispose()
      adapter.rank = null
      if (rank < 4) expect(relativeError(await logits(adapter), expected)).toBeGreaterThan(1e-3)
    },
  )

  test('saved whole, is a LoRA of all ranks that lowrank knows as DyLoRA', async () => {
    const folder = join(scratchFolder(), 'whole')
    await adapter.save(folder)
    const loaded = await model.loadAdapter(folder, { name: 'loaded' })
    expect(loaded.strategy).toEqual(adapter.strategy)
    for (const rank of [null, 2]) {
      loaded.rank = adapter.rank = rank
      expect(await logits(loaded)).toEqual(await logits(adapter))
    }
    adapter.rank = null
    await loaded.detach()
  })

  test('takes only ranks that it has, and other adapters take none', async () => {
    for (const rank of [0, 5, 1.5])
      expect(() => {
        adapter.rank = rank
      }).toThrow(`adapter own: rank is ${rank}, expected an integer from 1 to 4, or null for all ranks.`)
    await expect(adapter.save(join(scratchFolder(), 'no'), { rank: 9 })).rejects.toThrow('is 9, expected')
    const other = await model.attach(lora({ r: 4 }), { name: 'plain' })
    expect(() => {
      other.rank = 2
    }).toThrow('the rank of adapter plain cannot be 2: it was trained as lora, which has a single rank')
    await other.detach()
  })
})

test.each([1, 3])(
  'with an embedding, a head and norms beside the linears, at rank %d it trains as the LoRA of that rank',
  async (rank) => {
    const model = await loadModel(tinyModel('llama3'), { precision: 'fp32' })
    const tokens = Int32Array.from([5, 9, 2, 7])
    const data = scratchFile('train.jsonl', chats(4))
    const options = {
      maxSteps: 3,
      maxSeqLength: 64,
      learningRate: 0.01,
      lrSchedulerType: 'constant',
    } as const
    const adapter = await model.attach(
      dylora({
        r: 4,
        loraAlpha: 8,
        trainedRanks: 'active',
        rankDistribution: [1, 2, 3, 4].map((b) => (b === rank ? 1 : 0)),
        targetModules: ['q_proj', 'embed_tokens'],
        modulesToSave: ['lm_head', 'norm'],
      }),
      { seed: 1 },
    )
    leaveZero(adapter)
    adapter.rank = rank
    const folders = [join(scratchFolder(), 'before'), join(scratchFolder(), 'after')] as const
    const start = await model.logits(tokens, { adapters: [adapter] })
    await adapter.save(folders[0], { rank })
    for await (const _ of adapter.train(data, options));
    const trained = await model.logits(tokens, { adapters: [adapter] })
    expect(relativeError(trained, start)).toBeGreaterThan(1e-2)
    await adapter.save(folders[1], { rank })
    await adapter.detach()

    const cut = await model.loadAdapter(folders[0], { trainable: true })
    expect(relativeError(await model.logits(tokens), start)).toBeLessThan(1e-6)
    for await (const _ of cut.train(data, options));
    expect(relativeError(await model.logits(tokens), trained)).toBeLessThan(1e-5)
    await cut.detach()
    await model.loadAdapter(folders[1])
    expect(relativeError(await model.logits(tokens), trained)).toBeLessThan(1e-6)
    await model.dispose()
  },
)

test.each([
  ['the last rank', dylora({ r: 4, loraDropout: 0.1 })],
  ['all active ranks, with LoRA+', loraPlus({ adapter: dylora({ r: 4, trainedRanks: 'active' }) })],
])('a resumed run that trains %s goes on bit for bit', async (_, strategy) => {
  const [folder, data] = [tinyModel(), scratchFile('train.jsonl', chats(40))]
  const options = { maxSteps: 6, maxSeqLength: 64, perDeviceTrainBatchSize: 2, learningRate: 0.01, seed: 3 }
  const run = async (control: object, stopAt = Number.POSITIVE_INFINITY) => {
    const model = await loadModel(folder, { precision: 'fp32' })
    const adapter = await model.attach(strategy, { seed: 1 })
    for await (const { step: index } of adapter.train(data, { ...options, ...control }))
      if (index === stopAt) break
    await model.dispose()
  }
  const [whole, outputDir] = [scratchFolder(), scratchFolder()]
  await run({ outputDir: whole })
  await run({ outputDir, saveSteps: 3 }, 4)
  await run({ outputDir, resume: true })
  const bytes = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'))
  expect(bytes(outputDir).equals(bytes(whole))).toBe(true)
})

test('the loss falls over NF4', async () => {
  const model = await loadModel(tinyModel(), { quantization: 'nf4', precision: 'fp32' })
  const adapter = await model.attach(dylora({ r: 4, loraAlpha: 16, trainedRanks: 'active' }), { seed: 1 })
  const losses: number[] = []
  const options = { maxSteps: 30, maxSeqLength: 64, perDeviceTrainBatchSize: 4, learningRate: 0.02 }
  for await (const { loss } of adapter.train(scratchFile('train.jsonl', chats(16)), options))
    losses.push(loss)
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  expect(mean(losses.slice(-5))).toBeLessThan(mean(losses.slice(0, 5)) - 0.05)
  await model.dispose()
})
