import { describe, expect, test } from 'vitest'
import { addon } from '../../../lib/native/addon.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { dora } from '../../../lib/strategies/dora.js'
import { dylora } from '../../../lib/strategies/dylora.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraDrop } from '../../../lib/strategies/lora-drop.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { flat } from './flat.js'
import { sites, tinyGraph } from './sites.js'

describe('loraFa()', () => {
  test('is LoRA with the same terms, files and start, and A frozen', () => {
    const options = { r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 }, initLoraWeights: 'gaussian' } as const
    const [own, plain] = [describeAdapter(loraFa(options), sites), describeAdapter(lora(options), sites)]
    expect(own.spec.terms).toEqual(plain.spec.terms)
    expect(own.factors.map((factor) => ({ ...factor, trained: true }))).toEqual(plain.factors)
    expect(own.factors.filter(({ trained }) => !trained).map(({ name }) => name)).toEqual(
      flat(own.spec).map(({ a }) => a),
    )
  })

  test('projects the gradient of every B by its own A and scale, unless told not to', () => {
    const { spec } = describeAdapter(loraFa({ r: 4, loraAlpha: 8, alphaPattern: { q_proj: 2 } }), sites)
    expect(spec.projections).toEqual(flat(spec).map(({ a, b, scale }) => ({ a, b, scale })))
    expect(describeAdapter(loraFa({ projectGradient: false }), sites).spec.projections).toEqual([])
  })

  test('keeps fewer activations than LoRA', () => {
    const formats = Object.fromEntries(tinyGraph.weights.map(({ name }) => [name, 'f32' as const]))
    const plans = {
      train: { mode: 'train', tokens: 256, sequences: 4, headRows: 256, precision: 'f32' },
    } as const
    const activations = (strategy: Parameters<typeof describeAdapter>[0]) => {
      const { spec } = describeAdapter(strategy, sites)
      return addon().plan(tinyGraph, formats, [{ spec, trainable: true }], plans).arenaBytes
    }
    const options = { r: 4, targetModules: ['down_proj'] }
    expect(activations(loraFa(options))).toBeLessThan(activations(lora(options)))
  })

  test('reads back from the keys of a file', () => {
    const config = loraFa({ r: 3, projectGradient: false })
    const file = strategyToFile(config)
    expect(file).toMatchObject({ name: 'lora-fa', r: 3, project_gradient: false })
    expect(readStrategy(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
  })

  test('refuses what LoRA refuses', () => {
    expect(() => loraFa({ r: 0 })).toThrow('loraFa(): r is 0, expected a positive integer.')
    expect(() => loraFa({ projectGradient: 1 as never })).toThrow(
      'projectGradient is 1, expected true or false',
    )
  })
})

describe('a frozen A in other strategies', () => {
  const options = { r: 4, loraAlpha: 8, freezeA: true } as const
  const keep = ['model.layers.0.self_attn.q_proj']

  test.each([
    ['DoRA', dora(options), dora({ r: 4, loraAlpha: 8 })],
    ['DyLoRA', dylora(options), dylora({ r: 4, loraAlpha: 8 })],
    ['LoRA-drop', loraDrop({ ...options, keep }), loraDrop({ r: 4, loraAlpha: 8, keep })],
  ])('%s trains all it trains but A, and says so in its file', async (_, frozen, plain) => {
    const [own, other] = [describeAdapter(frozen, sites), describeAdapter(plain, sites)]
    expect(own.spec.terms).toEqual(other.spec.terms)
    const as = new Set(flat(own.spec).map(({ a }) => a))
    expect(own.factors).toEqual(
      other.factors.map((factor) => (as.has(factor.name) ? { ...factor, trained: false } : factor)),
    )
    const file = strategyToFile(frozen)
    expect(file).toMatchObject({ freeze_a: true })
    expect(readStrategy(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(frozen)
    const native = addon().createAdapter(own.spec, { trainable: true })
    for (const a of as) expect(native.arrays(a)).toEqual(['value'])
    await native.dispose()
  })

  test('projects each B once, also one that linears share, and none whose ranks are drawn', () => {
    const { spec } = describeAdapter(loraDrop({ ...options, keep }), sites)
    const bs = spec.projections?.map(({ b }) => b)
    expect(new Set(bs).size).toBe(bs?.length)
    expect(new Set(bs)).toEqual(new Set(flat(spec).map(({ b }) => b)))
    expect(describeAdapter(dora({ ...options, projectGradient: false }), sites).spec.projections).toEqual([])
    expect(describeAdapter(dora(options), sites).spec.projections).toHaveLength(sites.length)
    expect(describeAdapter(dylora(options), sites).spec.projections).toEqual([])
    expect(describeAdapter(dora({ r: 4 }), sites).spec.projections).toEqual([])
  })

  test('a probe of LoRA-drop trains what is to be trained', () => {
    const probe = rulesOf(loraDrop()).probe
    expect(probe?.(loraDrop(options))?.adapter).toEqual(loraFa({ r: 4, loraAlpha: 8 }))
    expect(probe?.(loraDrop({ r: 4 }))?.adapter).toEqual(lora({ r: 4 }))
  })
})

test('a projection whose A trains, or of another rank, is refused', () => {
  const spec = describeAdapter(loraFa({ targetModules: ['q_proj'], layersToTransform: 0 }), sites).spec
  const trained = { ...spec, parameters: spec.parameters.map((p) => ({ ...p, trained: true })) }
  expect(() => addon().createAdapter(trained, { trainable: true })).toThrow(
    'expected a trained B, a frozen A',
  )
  const [a, b] = [flat(spec)[0]?.a as string, flat(spec)[0]?.b as string]
  const swapped = { ...spec, projections: [{ a: b, b: a, scale: 1 }] }
  expect(() => addon().createAdapter(swapped, { trainable: true })).toThrow('cannot be projected')
})
