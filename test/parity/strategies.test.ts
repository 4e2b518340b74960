import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadModel } from '../../lib/index.js'
import { addon, type LowRankSlot } from '../../lib/native/addon.js'
import { describeAdapter, initialise, linearSites, weightSites } from '../../lib/strategies/describe.js'
import { rulesOf, strategyFrom } from '../../lib/strategies/index.js'
import { lora } from '../../lib/strategies/lora.js'
import { vera } from '../../lib/strategies/vera.js'
import {
  backward,
  floats,
  goldenBatch,
  loadTiny,
  parity,
  readGolden,
  relativeError,
  type TrainingCase,
  takeSteps,
  trainPlan,
} from './engine.js'

interface Case extends TrainingCase {
  strategy: { name: string; trained_ranks?: 'last' | 'active'; masked_update?: boolean }
  /** Ranks in use in each step, where a strategy draws them. */
  ranks?: number[]
  /** Loss of the first batch after the ten steps, where the weight itself has moved. */
  late_loss?: number
}

/** Relative error that trained tensors may have; decay alone moves most of them by 2 %. */
function toleranceOf(name: string, tensor: string): number {
  // A softmax takes no notice of a bias of its keys, so Adam makes steps of rounding alone.
  if (tensor.endsWith('k_proj.bias')) return 5e-4
  // Adam also magnifies gradients that almost cancel: the errors measured here are 1e-4, 7e-5 and 2e-5.
  const own: Record<string, number> = { adalora_long: 5e-4, dylora_frozen: 5e-4, lora_plus: 1e-4 }
  return own[name] ?? 1e-5
}

/** The ranks of a step of a case, as a run would hand them on. */
function ranksOf({ ranks, strategy }: Case, step: number) {
  if (ranks === undefined) return undefined
  const draws = ranks.map((_, i) => ranks.slice(0, step).filter((rank) => rank === i + 1).length)
  const active = ranks[step - 1] as number
  return { active, lastOnly: strategy.trained_ranks === 'last', draws }
}

function rankInput(c: Case, step: number) {
  const ranks = ranksOf(c, step)
  return ranks ? { activeRank: ranks.active, lastRankOnly: ranks.lastOnly } : {}
}

const cases = JSON.parse(readFileSync(join(parity, 'strategies/cases.json'), 'utf8')) as Case[]

async function open(c: Case) {
  const golden = await readGolden(`strategies/${c.name}.safetensors`)
  const { base, graph, model } = await loadTiny(c.model)
  const strategy = strategyFrom(c.strategy, { name: c.name, spelling: 'snake' })
  const description = describeAdapter(strategy, linearSites(graph), { weights: weightSites(graph) })
  const { spec, factors, groups } = description
  const adapter = addon().createAdapter(spec, { trainable: true })
  const saved = factors.flatMap(({ name, trained, tensor }) =>
    tensor ? [{ name, trained, tensor: tensor.name }] : [],
  )
  for (const { name, tensor } of saved) adapter.write(name, 'value', floats(golden, `init.${tensor}`))
  for (const { a, b, snapshotA, snapshotB, subtracts } of spec.slots) {
    if (!subtracts) continue
    adapter.write(snapshotA as string, 'value', adapter.read(a, 'value'))
    adapter.write(snapshotB as string, 'value', adapter.read(b, 'value'))
    adapter.fill('start_ratio', { kind: 'constant', value: 1 })
  }
  const run = { seed: 0, totalSteps: c.losses.length, description, native: adapter }
  const rules = () => rulesOf(strategy).steps?.(strategy, run, undefined) ?? {}
  return { golden, base, model, adapter, description, saved, groups, spec, rules }
}

it('draws the shared matrices of VeRA bit for bit as torch does', async () => {
  const { golden, adapter, model, saved } = await open(cases.find(({ name }) => name === 'vera') as Case)
  const shared = saved.filter(({ name }) => /^vera_[AB]$/.test(name))
  expect(shared).toHaveLength(2)
  const { graph, base } = await loadTiny('llama3')
  await initialise(
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
  slots: readonly LowRankSlot[],
  read: (name: string) => Float32Array,
): Map<string, { a: Float32Array; b: Float32Array; product: Float64Array }> {
  return new Map(
    slots.map(({ target, rank, a: nameA, b: nameB }) => {
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
  const c = cases.find((one) => one.name === name) as Case
  const { golden, base, adapter, description, model, spec } = await open(c)
  const read = (factor: string) => adapter.read(factor, 'value')
  const theirs = products(spec.slots, (factor) => floats(golden, `init.base_model.model.${factor}`))
  await initialise(adapter, description, base, 1)
  const ours = products(spec.slots, read)
  for (const [target, { product, a }] of theirs) {
    const own = ours.get(target) as NonNullable<ReturnType<typeof ours.get>>
    expect(relativeError(own.product, product), target).toBeLessThan(1e-6)
    expect(relativeError(own.a.map(Math.abs), a.map(Math.abs)), target).toBeLessThan(1e-5)
  }
  for (const { a, b, snapshotA, snapshotB } of spec.slots) {
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
  await initialise(adapter, description, base, 1)
  const theirs = products(description.spec.slots, (factor) => floats(golden, factor))
  const ours = products(description.spec.slots, (factor) => adapter.read(factor, 'value'))
  for (const [target, { product }] of theirs)
    expect(relativeError(ours.get(target)?.product as Float64Array, product), target).toBeLessThan(1e-5)
  await adapter.dispose()
  await model.dispose()
})

describe.each(cases)('$name in fp32 against PEFT', (c) => {
  it('gives the loss and the gradient of every trained tensor', async () => {
    const { golden, model, adapter, saved } = await open(c)
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    const loss = await backward(
      session,
      goldenBatch(await readGolden(`golden/${c.model}.safetensors`)),
      rankInput(c, 1),
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

  it("takes the same steps of the strategy's optimiser", async () => {
    const { golden, model, adapter, saved, groups, rules } = await open(c)
    const session = await addon().createSession(model, [adapter], {
      train: { ...trainPlan, recompute: true },
    }).promise
    const { lr, eps, betas, weight_decay } = c.optimizer
    const settings = (step: number) => ({
      groups: groups.map((group) => ({
        learningRate: lr * group.learningRateFactor,
        weightDecay: group.decays === false ? 0 : weight_decay,
      })),
      // PEFT's optimiser for LoRA-FA adds eps to the root of the moment before its bias is taken out.
      epsilon: c.strategy.name === 'lora-fa' ? eps / Math.sqrt(1 - betas[1] ** step) : eps,
      ...(c.ranks && c.strategy.masked_update !== false ? { ranks: ranksOf(c, step) } : {}),
    })
    const own = rules()
    const updated = async (step: number) => own.updated?.(step)
    const steps = await takeSteps(session, adapter, c, settings, (step) => rankInput(c, step), updated)
    for (const [s, { loss, norm }] of steps.entries()) {
      expect(Math.abs(loss / (c.losses[s] as number) - 1), `loss of step ${s}`).toBeLessThan(1e-5)
      expect(Math.abs(norm / (c.grad_norms[s] as number) - 1), `norm of step ${s}`).toBeLessThan(1e-5)
    }
    for (const { name, tensor } of saved) {
      const [ours, theirs] = [adapter.read(name, 'value'), floats(golden, `final.${tensor}`)]
      if (theirs.every((value) => value === 0)) expect(ours, tensor).toEqual(theirs)
      else expect(relativeError(ours, theirs), tensor).toBeLessThan(toleranceOf(c.name, tensor))
    }
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
  })
})

it.each(cases.filter(({ late_loss }) => late_loss !== undefined))(
  '$name gives the loss and the gradients of weights that were moved one by one',
  async (c) => {
    const { golden, model, adapter, saved, spec } = await open(c)
    const { lambda } = c.strategy as unknown as { lambda: number }
    const tensorOf = new Map(saved.map(({ name, tensor }) => [name, tensor]))
    for (const { a, b, snapshotA, snapshotB, snapshotRatio } of spec.slots) {
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
