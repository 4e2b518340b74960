import { describe, expect, test } from 'vitest'
import { addon } from '../../../lib/native/addon.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { strategyFrom, strategyToFile } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { sites, tinyGraph } from './sites.js'

describe('loraFa()', () => {
  test('is LoRA with the same slots, files and start, and A frozen', () => {
    const options = { r: 4, loraAlpha: 8, rankPattern: { q_proj: 2 }, initLoraWeights: 'gaussian' } as const
    const [own, plain] = [describeAdapter(loraFa(options), sites), describeAdapter(lora(options), sites)]
    expect(own.spec.slots).toEqual(plain.spec.slots)
    expect(own.factors.map((factor) => ({ ...factor, trained: true }))).toEqual(plain.factors)
    expect(own.factors.filter(({ trained }) => !trained).map(({ name }) => name)).toEqual(
      own.spec.slots.map(({ a }) => a),
    )
  })

  test('projects the gradient of every B by its own A and scale, unless told not to', () => {
    const { spec } = describeAdapter(loraFa({ r: 4, loraAlpha: 8, alphaPattern: { q_proj: 2 } }), sites)
    expect(spec.projections).toEqual(spec.slots.map(({ a, b, scale }) => ({ a, b, scale })))
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
    expect(strategyFrom(file, { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
  })

  test('refuses what LoRA refuses', () => {
    expect(() => loraFa({ r: 0 })).toThrow('loraFa(): r is 0, expected a positive integer.')
    expect(() => loraFa({ projectGradient: 1 as never })).toThrow(
      'projectGradient is 1, expected true or false',
    )
  })
})

test('a projection whose A trains, or of another rank, is refused', () => {
  const spec = describeAdapter(loraFa({ targetModules: ['q_proj'], layersToTransform: 0 }), sites).spec
  const trained = { ...spec, parameters: spec.parameters.map((p) => ({ ...p, trained: true })) }
  expect(() => addon().createAdapter(trained, { trainable: true })).toThrow(
    'expected a trained B, a frozen A',
  )
  const [a, b] = [spec.slots[0]?.a as string, spec.slots[0]?.b as string]
  const swapped = { ...spec, projections: [{ a: b, b: a, scale: 1 }] }
  expect(() => addon().createAdapter(swapped, { trainable: true })).toThrow('cannot be projected')
})
