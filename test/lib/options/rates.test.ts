/** The learning rate of a run that is given none, and the remarks on one that is far from it. */

import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { packageRoot } from '../../../lib/core/root.js'
import type { Adapter } from '../../../lib/model/adapter.js'
import { loadModel } from '../../../lib/model/load.js'
import type { Model } from '../../../lib/model/model.js'
import { adamW } from '../../../lib/options/optimizers.js'
import { ownRate, remarksOnRate } from '../../../lib/options/rates.js'
import type { Optimizer } from '../../../lib/options/types.js'
import { listStrategies, rulesOf, strategyFrom } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { vera } from '../../../lib/strategies/vera.js'
import type { Task } from '../../../lib/tasks/index.js'
import { resolveConfig } from '../../../lib/train/config/config.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { sweepTest, swept } from '../../sweep.js'
import { scratchFile, scratchFolder } from '../scratch.js'

const loaded: Model[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  for (const model of loaded.splice(0)) await model.dispose()
})

async function open(path = tinyModel(), quantization: 'none' | 'nf4' = 'none'): Promise<Model> {
  const model = await loadModel(path, { precision: 'fp32', quantization, threads: 1 })
  loaded.push(model)
  return model
}

const config = (keys: object) =>
  resolveConfig({ model: 'm', dataset: 'd', ...keys }, { name: 'run.yaml', spelling: 'snake' }, '/')

describe('a run without a learning rate', () => {
  const data = scratchFile('rates.jsonl', chats(8))
  const own = ownRate(vera(), 'adamw')

  test('has the one of its strategy', async () => {
    const adapter = await (await open()).attach(vera())
    const options = { maxSteps: 1, warmupRatio: 0, maxSeqLength: 64 }
    for (const given of [{}, { learningRate: null }]) {
      const run = adapter.train(data, { ...options, ...given })
      expect(run.options.learningRate).toBe(own)
      expect(run.remarks).toEqual([])
      for await (const step of run) expect(step.learningRate).toBe(own)
    }
    const run = adapter.train(data, { ...options, learningRate: 0.5 })
    for await (const step of run) expect(step.learningRate).toBe(0.5)
  })

  test('has it in its resolved config', () => {
    expect(config({ strategy: { name: 'vera' } }).learningRate).toBe(own)
    expect(config({ strategy: { name: 'vera' }, learning_rate: null }).learningRate).toBe(own)
    expect(config({ strategy: { name: 'vera' }, learning_rate: 0.5 }).learningRate).toBe(0.5)
    expect(config({ strategy: { name: 'lora' } }).learningRate).not.toBe(own)
  })

  test('has that of the wrapped strategy, lower where B is faster', () => {
    expect(ownRate(qlora({ adapter: vera() }), 'adamw')).toBe(own)
    expect(ownRate(loraPlus({ loraplusLrRatio: 1 }), 'adamw')).toBe(ownRate(lora(), 'adamw'))
    expect(ownRate(loraPlus({ loraplusLrRatio: 16 }), 'adamw')).toBe(ownRate(lora(), 'adamw') / 4)
  })

  test('has a fifth of it under Lion', () => {
    expect(ownRate(vera(), 'lion')).toBeCloseTo(own / 5, 12)
    expect(config({ strategy: { name: 'vera' }, optimizer: 'lion' }).learningRate).toBeCloseTo(own / 5, 12)
  })
})

describe('remarks on a learning rate', () => {
  const own = ownRate(lora(), 'adamw')
  const remarks = (factor: number, optimizer: Optimizer['type'] | Optimizer = 'adamw') =>
    remarksOnRate({ learningRate: own * factor, optimizer, task: 'causal_lm' }, lora())

  test.each([
    [10, /10 times .*, the default of lora; the run may diverge/],
    [300, /300 times/],
    [0.1, /10 times less than .*, the default of lora; a short run may learn next to nothing/],
    [0.002, /500 times less/],
  ])('are made at %d times', (factor, words) => {
    for (const optimizer of ['adamw', 'paged_adamw_8bit', adamW({ eps: 1e-6 })] as const)
      expect(remarks(factor, optimizer)).toEqual([expect.stringMatching(words)])
  })

  test.each([0.11, 0.5, 1, 2, 9.9])('are not made at %d times', (factor) => {
    expect(remarks(factor)).toEqual([])
  })

  test('are not made of optimizers whose steps are of another size, but of SGD at the default', () => {
    for (const optimizer of ['lion', 'adafactor', 'sgd'] as const) {
      expect(remarks(1000, optimizer)).toEqual([])
      expect(remarks(0.001, optimizer)).toEqual([])
    }
    expect(remarks(1, 'sgd')).toEqual([expect.stringContaining('SGD usually needs a much larger one')])
  })

  test('are not made of the low rates that preferences need', () => {
    const of = (task: Task, factor: number) =>
      remarksOnRate({ learningRate: own * factor, optimizer: 'adamw', task }, lora())
    for (const task of ['dpo', 'orpo', 'kto', 'grpo'] as const) {
      expect(of(task, 0.01)).toEqual([])
      expect(of(task, 10)).toEqual([expect.stringContaining('the run may diverge')])
    }
  })

  test('stand on the run', async () => {
    const adapter = await (await open()).attach(lora())
    const run = adapter.train(scratchFile('few.jsonl', chats(4)), { learningRate: own / 100 })
    expect(run.remarks).toEqual([expect.stringContaining('100 times less')])
  })
})

describe('a run without an optimizer', () => {
  const rank = { r: 128, loraAlpha: 128 }
  const data = scratchFile('paged.jsonl', chats(12))
  const trained = async (adapter: Adapter, given: object = {}) => {
    const run = adapter.train(data, { maxSteps: 3, maxSeqLength: 64, ...given })
    const losses: number[] = []
    for await (const { loss } of run) losses.push(loss)
    return { losses, ...run.options, pagedBytes: run.memory.pagedStateBytes }
  }
  const short = () => vi.spyOn(process, 'availableMemory').mockReturnValue(4 << 20)

  sweepTest(
    'pages its state under qlora where memory is short, with the same numbers, and resumes',
    async () => {
      const model = await open(tinyModel(), 'nf4')
      const outputDir = scratchFolder()
      const adapter = async () => model.attach(qlora({ adapter: lora(rank) }), { seed: 1 })
      const whole = await trained(await adapter(), { outputDir, saveSteps: 2 })
      expect(whole).toMatchObject({ optimizer: 'adamw', pagedBytes: 0 })
      short()
      const paged = await trained(await adapter())
      expect(paged.optimizer).toMatchObject({ type: 'paged_adamw' })
      expect(paged.pagedBytes).toBeGreaterThan(0)
      expect(paged.losses).toEqual(whole.losses)
      const resumed = await trained(await adapter(), { outputDir, resume: `${outputDir}/checkpoint-2` })
      expect(resumed.optimizer).toMatchObject({ type: 'paged_adamw' })
      expect(resumed.losses).toEqual(whole.losses.slice(2))
    },
  )

  test('keeps it under other strategies, where another optimizer is named, and where nothing would be saved', async () => {
    short()
    const model = await open(tinyModel(), 'nf4')
    for (const [strategy, given] of [
      [lora(rank), {}],
      [qlora({ adapter: lora(rank) }), { optimizer: 'adamw' as const }],
      [qlora({ adapter: lora({ r: 1 }) }), {}],
      [qlora({ adapter: strategyFrom({ name: 'dylora', ...rank }) }), {}],
    ] as const) {
      const run = (await model.attach(strategy)).train(data, { ...given, maxSeqLength: 64 })
      expect(run.options.optimizer).toBe('adamw')
      expect(run.memory.pagedStateBytes).toBe(0)
    }
  })
})

interface Search {
  model: string
  strategy: string
  steps: number
  /** By rate and seed. */
  losses: Record<string, Record<string, number | null>>
}

const searches = JSON.parse(
  readFileSync(`${packageRoot}/benchmarks/results/rates.json`, 'utf8'),
) as readonly Search[]
const names = [...listStrategies().map(({ name }) => name), 'full']

/** Mean over seeds; infinite where a run diverged. */
const mean = (losses: (number | null)[]) =>
  losses.reduce<number>((sum, loss) => sum + (loss ?? Number.POSITIVE_INFINITY), 0) / losses.length

/** Loss at the default over the lowest; docs/strategies.md says why. */
const exceptions: Readonly<Record<string, number>> = { 'lora-plus': 1.2, 'delta-lora': 1.1, oft: 1.2 }

test('the rates of the strategies are what was measured on the larger model', () => {
  const measured = searches.filter(({ model }) => model === 'SmolLM2-135M-Instruct')
  expect(measured.length).toBeGreaterThan(3)
  for (const { strategy, losses: bySeed } of measured) {
    const losses = Object.fromEntries(
      Object.entries(bySeed).map(([rate, seeds]) => [rate, mean(Object.values(seeds))]),
    )
    const own = ownRate(strategyFrom({ name: strategy }), 'adamw')
    const apart = (rate: string) => Math.abs(Math.log(Number(rate) / own))
    const nearest = Object.keys(losses).reduce((best, rate) => (apart(rate) < apart(best) ? rate : best))
    expect(apart(nearest), strategy).toBeLessThan(Math.log(1.3))
    const lowest = Math.min(...Object.values(losses))
    expect(losses[nearest], strategy).toBeLessThanOrEqual(lowest * (exceptions[strategy] ?? 1.05))
  }
})

// Mean training loss of the last six steps, as it came out here, and half a nat to spare.
describe('with all its defaults, in 60 short steps over a small model', () => {
  const rows = readFileSync(`${packageRoot}/demo/train.jsonl`, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  const tenth = (losses: number[]) => losses.reduce((sum, loss) => sum + loss, 0) / losses.length

  test.each(swept(names, 1))('%s learns', { timeout: 180_000 }, async (name) => {
    const given =
      name === 'dp-dylora'
        ? { clients: { partition: 'iid', count: 600 }, noiseMultiplier: 1e-3, rounds: 120, cohort: 2 }
        : {}
    const strategy = strategyFrom({ name, ...given })
    const model = await open(`${packageRoot}/demo/base`, name === 'qlora' ? 'nf4' : 'none')
    const options = {
      maxSteps: name === 'dp-dylora' ? null : 60,
      maxSeqLength: 128,
      perDeviceTrainBatchSize: 2,
    }
    const data = rows.slice(0, 300)
    const adapter = await model.attach(await model.probe(strategy, data, options), { seed: 1 })
    const losses: number[] = []
    const run = adapter.train(data, { ...options, packing: false, gradientCheckpointing: false, seed: 1 })
    for await (const { loss } of run) if (!Number.isNaN(loss)) losses.push(loss)
    const [first, last] = [tenth(losses.slice(0, 6)), tenth(losses.slice(-6))]
    expect(rulesOf(strategy).learningRate(strategy)).toBe(run.options.learningRate)
    expect(last).toBeLessThan(first - 2)
  })
})
