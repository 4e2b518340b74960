/** DP-SGD against Opacus: gradients of every example, their norms, the clipped sum. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { addon, type MicroBatch } from '../../lib/native/addon.js'
import { linearSites } from '../../lib/strategies/describe.js'
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

interface Case {
  name: string
  model: string
  rank: number
  /** With `active` ranks in use. */
  scale: number
  active: number
  last: boolean
  clipping_norm: number
  /** Examples that the sum is divided by. */
  expected: number
  norms: number[]
}

const cases = JSON.parse(readFileSync(join(parity, 'private/cases.json'), 'utf8')) as Case[]

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
    const session = addon().createSession(model, [adapter], { train: trainPlan })
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
    session.dispose()
    adapter.dispose()
    model.dispose()
    return { norms, released, golden }
  }

  const flat = (tensors: Iterable<Float32Array>) => [...tensors].flatMap((values) => [...values])

  async function packed(): Promise<MicroBatch[]> {
    const tensors = await readGolden('private/batches.safetensors')
    return [0, 1].map((micro) => goldenBatch(tensors, `micro.${micro}.`))
  }

  it("has the norms and the clipped sum of Opacus' optimiser, of packed sequences", async () => {
    const { norms, released, golden } = await round(await packed(), c.clipping_norm, c.expected)
    expect(c.norms.some((norm) => norm > c.clipping_norm)).toBe(true)
    expect(c.norms.some((norm) => norm > 0 && norm < c.clipping_norm)).toBe(true)
    expect(norms).toHaveLength(c.norms.length)
    for (const [i, norm] of c.norms.entries())
      expect(Math.abs((norms[i] as number) - norm)).toBeLessThanOrEqual(1e-5 * norm)
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
