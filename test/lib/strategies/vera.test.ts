import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { torchUniform } from '../../../lib/strategies/torch-random.js'
import { vera } from '../../../lib/strategies/vera.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

describe('vera()', () => {
  const widest = Math.max(...sites.map((site) => site.in))
  const tallest = Math.max(...sites.map((site) => site.out))

  test('shares one frozen pair, as wide and tall as the largest linear, and trains two vectors in each', () => {
    const { spec, factors } = describeAdapter(vera({ r: 8 }), sites)
    expect(factors.filter(({ trained }) => !trained)).toMatchObject([
      { name: 'vera_A', rows: 8, cols: widest, tensor: { name: 'base_model.vera_A', shape: [8, widest] } },
      { name: 'vera_B', rows: tallest, cols: 8, tensor: { name: 'base_model.vera_B', shape: [tallest, 8] } },
    ])
    expect(new Set(flat(spec).map(({ a, b }) => `${a} ${b}`))).toEqual(new Set(['vera_A vera_B']))
    const trained = factors.filter((factor) => factor.trained)
    expect(trained).toHaveLength(2 * sites.length)
    expect(trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0)).toBe(
      sites.reduce((sum, { out }) => sum + out + 8, 0),
    )
    expect(trained.slice(0, 2)).toMatchObject([
      { initializer: { kind: 'zeros' }, tensor: { shape: [sites[0]?.out] } },
      { initializer: { kind: 'constant', value: 0.1 }, tensor: { shape: [8] } },
    ])
  })

  test('leaves the pair out of the file when asked, and draws B after A from one generator', () => {
    const { factors } = describeAdapter(vera({ r: 8, saveProjection: false, projectionPrngKey: 5 }), sites)
    const [a, b] = factors.filter(({ trained }) => !trained)
    expect([a?.tensor, b?.tensor]).toEqual([undefined, undefined])
    expect(a?.initializer).toMatchObject({ seed: 5, skip: 0 })
    expect(b?.initializer).toMatchObject({ seed: 5, skip: 8 * widest })
  })

  test('is wrapped by others, which then save files of its type', () => {
    for (const config of [loraPlus({ adapter: vera() }), qlora({ adapter: vera() })])
      expect(rulesOf(config).toPeft(config)).toMatchObject({ peft_type: 'VERA', r: 256 })
    const groups = describeAdapter(loraPlus({ adapter: vera() }), sites).groups
    expect(groups.map(({ parameters }) => parameters.length)).toEqual([0, 2 * sites.length])
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = vera({ r: 3, veraDropout: 0.25, targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => vera({ r: 0 })).toThrow('vera(): r is 0, expected a positive integer.')
    expect(() => vera({ veraDropout: 1 })).toThrow('veraDropout is 1')
    expect(() => vera({ loraAlpha: 1 } as never)).toThrow('unknown key loraAlpha')
  })
})

test('torchUniform() draws what torch draws, for small keys, large ones and after others', () => {
  // torch.Generator().manual_seed(key), then torch.empty(4, 8).uniform_(-bound, bound) with bound = sqrt(6 / 8).
  const bound = Math.sqrt(3) * (Math.SQRT2 / Math.sqrt(8))
  const first = (key: number) => [...torchUniform(key, 4, bound)].map((value) => Number(value.toPrecision(9)))
  expect(first(0)).toEqual([-0.00648377649, 0.464573771, -0.712777972, -0.637341857])
  expect(first(42)).toEqual([0.662109792, 0.718807936, -0.202885911, 0.79554069])
  expect(first(2 ** 40 + 42)).toEqual(first(42))
  expect([...torchUniform(42, 3, bound, 1)]).toEqual([...torchUniform(42, 4, bound)].slice(1))
})
