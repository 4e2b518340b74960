import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { loadModel } from '../../lib/index.js'
import { addon } from '../../lib/native/addon.js'
import { describeAdapter, initialize, linearSites, weightSites } from '../../lib/strategies/describe.js'
import { rulesOf } from '../../lib/strategies/index.js'
import { lora } from '../../lib/strategies/lora.js'
import type { RunFacts } from '../../lib/strategies/strategy.js'
import { vera } from '../../lib/strategies/vera.js'
import { type FlatTerm, flat } from '../lib/strategies/flat.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'
import {
  attached,
  disposeModels,
  expectSteps,
  expectTensors,
  readCases,
  SEED,
  type StrategyCase,
  start,
  strategyOf,
  train,
} from './runs.js'

/** The first step's ranks. */
function rankInput({ ranks, strategy }: StrategyCase) {
  return ranks ? { activeRank: ranks[0] as number, lastRankOnly: strategy.trained_ranks === 'last' } : {}
}

const cases = readCases('strategies')

/** On the engine alone: gradients, which a run does not tell. */
async function open(c: StrategyCase) {
  const golden = await readGolden(`strategies/${c.name}.safetensors`)
  const { base, graph, model } = await loadTiny(c.model)
  const description = describeAdapter(strategyOf(c), linearSites(graph), { weights: weightSites(graph) })
  const adapter = addon().createAdapter(description.spec, { trainable: true })
  const saved = start(adapter, description, golden)
  return { golden, base, model, adapter, description, saved, spec: description.spec }
}

vi.mock('../../lib/train/rows/data.js', async (original) =>
  (await import('../tokenized-once.js')).tokenizedOnce(await original()),
)

afterAll(disposeModels)

it('draws the shared matrices of VeRA bit for bit as torch does', async () => {
  const { golden, adapter, model, saved } = await open(
    cases.find(({ name }) => name === 'vera') as StrategyCase,
  )
  const shared = saved.filter(({ name }) => /^vera_[AB]$/.test(name))
  expect(shared).toHaveLength(2)
  const { graph, base } = await loadTiny('llama3')
  await initialize(
    adapter,
    describeAdapter(vera({ r: 24, projectionPrngKey: 7 }), linearSites(graph)),
    base,
    0,
  )
  for (const { name, tensor } of shared)
    expect(adapter.read(name, 'value')).toEqual(floats(golden, `init.${tensor}`))
  await adapter.dispose()
  await model.dispose()
})

/** B A of every linear, [out, in], by its path. */
function products(
  terms: readonly FlatTerm[],
  read: (name: string) => Float32Array,
): Map<string, { a: Float32Array; b: Float32Array; product: Float64Array }> {
  return new Map(
    terms.map(({ target, rank, a: nameA, b: nameB }) => {
      const [a, b] = [read(nameA), read(nameB)]
      const [inputs, outputs] = [a.length / rank, b.length / rank]
      const product = Float64Array.from({ length: outputs * inputs }, (_, at) => {
        let sum = 0
        for (let k = 0; k < rank; k++)
          sum += (b[Math.floor(at / inputs) * rank + k] as number) * (a[k * inputs + (at % inputs)] as number)
        return sum
      })
      return [target, { a, b, product }]
    }),
  )
}

it.each(['pissa', 'olora'])("%s starts where PEFT's does, but for signs that cancel", async (name) => {
  const c = cases.find((one) => one.name === name) as StrategyCase
  const { golden, base, adapter, description, model, spec } = await open(c)
  const read = (factor: string) => adapter.read(factor, 'value')
  const theirs = products(flat(spec), (factor) => floats(golden, `init.base_model.model.${factor}`))
  await initialize(adapter, description, base, 1)
  const ours = products(flat(spec), read)
  for (const [target, { product, a }] of theirs) {
    const own = ours.get(target) as NonNullable<ReturnType<typeof ours.get>>
    expect(relativeError(own.product, product), target).toBeLessThan(1e-6)
    expect(relativeError(own.a.map(Math.abs), a.map(Math.abs)), target).toBeLessThan(1e-5)
  }
  for (const { a, b, snapshotA, snapshotB } of flat(spec)) {
    expect(read(snapshotA as string)).toEqual(read(a))
    expect(read(snapshotB as string)).toEqual(read(b))
  }
  await adapter.dispose()
  await model.dispose()
})

it("loftq starts where PEFT's does over the same NF4 weights", async () => {
  const golden = await readGolden('strategies/loftq.safetensors')
  const { base, graph, model } = await loadTiny('odd', 'nf4')
  const description = describeAdapter(
    lora({ r: 4, loraAlpha: 4, initLoraWeights: 'loftq' }),
    linearSites(graph),
  )
  const adapter = addon().createAdapter(description.spec, { trainable: true })
  await initialize(adapter, description, base, 1)
  const theirs = products(flat(description.spec), (factor) => floats(golden, factor))
  const ours = products(flat(description.spec), (factor) => adapter.read(factor, 'value'))
  for (const [target, { product }] of theirs)
    expect(relativeError(ours.get(target)?.product as Float64Array, product), target).toBeLessThan(1e-5)
  await adapter.dispose()
  await model.dispose()
})

it.each(cases.filter(({ ranks }) => ranks))('a run of $name draws the ranks that the peer was given', (c) => {
  const strategy = strategyOf(c)
  const facts = { seed: SEED, totalSteps: 10 } as RunFacts
  const rules = rulesOf(strategy).steps?.(strategy)?.begin(facts, undefined)
  expect(c.ranks?.map((_, i) => rules?.ranks?.(i + 1).active)).toEqual(c.ranks)
})

describe.each(cases)('$name in fp32 against PEFT', (c) => {
  it('gives the loss and the gradient of every trained tensor', async () => {
    const { golden, model, adapter, saved } = await open(c)
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    const loss = await backward(
      session,
      goldenBatch(await readGolden(`golden/${c.model}.safetensors`)),
      rankInput(c),
    )
    expect(Math.abs(loss / c.loss - 1)).toBeLessThan(1e-5)
    const trained = saved.filter((factor) => factor.trained)
    expect([...golden.keys()].filter((key) => key.startsWith('grad.')).sort()).toEqual(
      trained.map(({ tensor }) => `grad.${tensor}`).sort(),
    )
    for (const { name, tensor } of trained)
      expect(
        relativeError(adapter.read(name, 'gradient'), floats(golden, `grad.${tensor}`)),
        tensor,
      ).toBeLessThan(1e-5)
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
  })

  it("takes the same steps of the strategy's optimizer", async () => {
    const { golden, adapter, saved } = await attached(c)
    expectSteps(await train(adapter, c), c)
    expectTensors(adapter, saved, golden)
    await adapter.detach()
  })
})

it.each(cases.filter(({ late_loss }) => late_loss !== undefined))(
  '$name gives the loss and the gradients of weights that were moved one by one',
  async (c) => {
    const { golden, model, adapter, saved, spec } = await open(c)
    const { lambda } = c.strategy as unknown as { lambda: number }
    const tensorOf = new Map(saved.map(({ name, tensor }) => [name, tensor]))
    for (const { a, b, snapshotA, snapshotB, snapshotRatio } of flat(spec)) {
      const pairs: [string, string, string][] = [
        [a, 'final', a],
        [b, 'final', b],
        [snapshotA as string, 'snapshot', a],
        [snapshotB as string, 'snapshot', b],
      ]
      for (const [name, when, factor] of pairs)
        adapter.write(name, 'value', floats(golden, `${when}.${tensorOf.get(factor)}`))
      adapter.write(snapshotRatio as string, 'value', Float32Array.of(lambda))
    }
    const batch = goldenBatch(await readGolden(`golden/${c.model}.safetensors`))
    for (const recompute of [false, true]) {
      await adapter.zeroGradients().promise
      const session = await addon().createSession(model, [adapter], { train: { ...trainPlan, recompute } })
        .promise
      expect(Math.abs((await backward(session, batch)) / (c.late_loss as number) - 1)).toBeLessThan(1e-5)
      for (const { name, tensor } of saved)
        expect(
          relativeError(adapter.read(name, 'gradient'), floats(golden, `late.grad.${tensor}`)),
          tensor,
        ).toBeLessThan(1e-5)
      await session.dispose()
    }
    await adapter.dispose()
    await model.dispose()
  },
)

describe.each([
  ['vera_saved', 'odd'],
  ['vera_drawn', 'odd'],
  ['adalora_saved', 'odd'],
  ['loha_saved', 'odd'],
  ['miss_saved', 'odd'],
  ['oft_saved', 'odd'],
  ['hira_saved', 'odd'],
  ['dora_saved', 'qwen2'],
  ['trained_saved', 'qwen2_window'],
  ['tied_saved', 'smollm2'],
  ['embedding_saved', 'half'],
  ['lokr_saved', 'odd'],
])('the folder %s that PEFT wrote', (name, base) => {
  it("gives PEFT's logits", async () => {
    const batch = goldenBatch(await readGolden(`golden/${base}.safetensors`))
    const expected = floats(await readGolden(`strategies/${name}.logits.safetensors`), 'logits')
    const model = await loadModel(join(parity, 'models', base), { precision: 'fp32' })
    const adapter = await model.loadAdapter(join(parity, 'strategies', name))
    const vocab = expected.length / batch.tokens.length
    for (let s = 0; s + 1 < batch.cuSeqlens.length; s++) {
      const [begin, end] = [batch.cuSeqlens[s] as number, batch.cuSeqlens[s + 1] as number]
      const logits = await model.logits(batch.tokens.slice(begin, end), { adapters: [adapter] })
      expect(relativeError(logits, expected.subarray(begin * vocab, end * vocab))).toBeLessThan(1e-5)
    }
    await model.dispose()
  })
})
