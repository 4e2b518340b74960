/** DP-SGD against Opacus: gradients of every example, their norms, the clipped sum. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { addon, type MicroBatch } from '../../lib/native/addon.js'
import { describeAdapter, linearSites, weightSites } from '../../lib/strategies/describe.js'
import { dpDylora } from '../../lib/strategies/dp-dylora.js'
import { readStrategy } from '../../lib/strategies/index.js'
import {
  floats,
  goldenBatch,
  loadTiny,
  loraSpec,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'

interface Clipped {
  name: string
  model: string
  clipping_norm: number
  /** Examples that the sum is divided by. */
  expected: number
  norms: number[]
}

interface Case extends Clipped {
  rank: number
  /** With `active` ranks in use. */
  scale: number
  active: number
  last: boolean
}

const read = <Cases>(file: string): Cases => JSON.parse(readFileSync(join(parity, 'private', file), 'utf8'))
const cases = read<Case[]>('cases.json')
/** Adapters that train weights of the base, or factors of an embedding. */
const beside = read<(Clipped & { strategy: { name: string } })[]>('beside.json')

/** The sequences of a packed batch, each on its own. */
function apart({ tokens, labels, cuSeqlens }: MicroBatch): MicroBatch[] {
  return [...cuSeqlens.slice(1)].map((end, i) => {
    const begin = cuSeqlens[i] as number
    return {
      tokens: tokens.slice(begin, end),
      labels: labels.slice(begin, end),
      cuSeqlens: Int32Array.of(0, end - begin),
    }
  })
}

const flat = (tensors: Iterable<Float32Array>) => [...tensors].flatMap((values) => [...values])

async function packed(): Promise<MicroBatch[]> {
  const tensors = await readGolden('private/batches.safetensors')
  return [0, 1].map((micro) => goldenBatch(tensors, `micro.${micro}.`))
}

/** Some are clipped, and some are not. */
function expectNorms(norms: number[], { norms: theirs, clipping_norm: bound }: Clipped): void {
  expect(theirs.some((norm) => norm > bound)).toBe(true)
  expect(theirs.some((norm) => norm > 0 && norm < bound)).toBe(true)
  expect(norms).toHaveLength(theirs.length)
  for (const [i, norm] of theirs.entries())
    expect(Math.abs((norms[i] as number) - norm)).toBeLessThanOrEqual(1e-5 * norm)
}

describe.each(cases)('$name', ({ name, model: base, rank, scale, active, last, ...c }) => {
  /** The norms of a round's examples, and what it releases without noise, by tensor. */
  async function round(batches: MicroBatch[], clippingNorm: number, cohort: number) {
    const { graph, model } = await loadTiny(base)
    const entries = linearSites(graph)
      .filter(({ path }) => path.startsWith('model.layers.'))
      .map((site) => ({ path: site.path, rank, scale, inputs: site.in, outputs: site.out }))
    const spec = { ...loraSpec(entries), privacy: 'examples' as const }
    const adapter = addon().createAdapter(spec, { trainable: true })
    const golden = await readGolden(`private/${name}.safetensors`)
    for (const { name: factor } of spec.parameters)
      adapter.write(factor, 'value', floats(golden, `init.${factor}`))
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    await adapter.beginRound().promise
    const norms: number[] = []
    for (const [microStep, batch] of batches.entries()) {
      const counters = { lossScale: 1, seed: 0, step: 1, microStep }
      const ranks = { activeRank: active, lastRankOnly: last }
      const done = await session.trainStep('train', { ...batch, ...counters, ...ranks, clippingNorm }).promise
      norms.push(...(done.norms ?? []))
    }
    const key = new Uint8Array(32)
    await adapter.release({ key, round: 1, deviation: 0, cohort, active, lastOnly: last }).promise
    const released = new Map(
      spec.parameters.map(({ name: factor }) => [factor, adapter.read(factor, 'gradient')]),
    )
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
    return { norms, released, golden }
  }

  it("has the norms and the clipped sum of Opacus' optimizer, of packed sequences", async () => {
    const { norms, released, golden } = await round(await packed(), c.clipping_norm, c.expected)
    expectNorms(norms, { name, model: base, ...c })
    const theirs = [...released.keys()].map((factor) => floats(golden, `grad.${factor}`))
    expect(relativeError(flat(released.values()), flat(theirs))).toBeLessThan(1e-5)
  })

  it('has the gradients that its hooks take of each example', async () => {
    for (const [i, example] of (await packed()).flatMap(apart).entries()) {
      const { released, golden } = await round([example], 1e6, 1)
      const theirs = flat([...released.keys()].map((factor) => floats(golden, `example.${i}.${factor}`)))
      const ours = flat(released.values())
      if (c.norms[i] === 0) expect(ours.every((value) => value === 0)).toBe(true)
      else expect(relativeError(ours, theirs)).toBeLessThan(1e-5)
    }
  })
})

describe.each(beside)('$name', (c) => {
  it("has the norms and the clipped sum of Opacus' optimizer, one example at a time", async () => {
    const { graph, model } = await loadTiny(c.model)
    const golden = await readGolden(`private/${c.name}.safetensors`)
    const adapted = readStrategy(c.strategy, { name: c.name, spelling: 'snake' })
    const { spec, factors } = describeAdapter(
      dpDylora({ adapter: adapted, privacyUnit: 'example', rounds: 1, noiseMultiplier: 1 }),
      linearSites(graph),
      { weights: weightSites(graph) },
    )
    const adapter = addon().createAdapter(spec, { trainable: true })
    for (const { name, tensor } of factors)
      adapter.write(name, 'value', floats(golden, `init.${tensor?.name}`))
    const session = await addon().createSession(model, [adapter], { train: { ...trainPlan, sequences: 1 } })
      .promise
    await adapter.beginRound().promise
    const norms: number[] = []
    for (const [microStep, batch] of (await packed()).flatMap(apart).entries()) {
      const counters = { lossScale: 1, seed: 0, step: 1, microStep, clippingNorm: c.clipping_norm }
      const done = await session.trainStep('train', { ...batch, ...counters }).promise
      norms.push(...(done.norms ?? []))
    }
    expectNorms(norms, c)
    await adapter.release({ key: new Uint8Array(32), round: 1, deviation: 0, cohort: c.expected }).promise
    const ours = factors.map(({ name }) => adapter.read(name, 'gradient'))
    const theirs = factors.map(({ tensor }) => floats(golden, `grad.${tensor?.name}`))
    expect(relativeError(flat(ours), flat(theirs))).toBeLessThan(1e-5)
    for (const [i, own] of ours.entries())
      expect(relativeError(own, theirs[i] as Float32Array), factors[i]?.name).toBeLessThan(1e-4)
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
  })
})
