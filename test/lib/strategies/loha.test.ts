import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { loha } from '../../../lib/strategies/loha.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

describe('loha()', () => {
  test('trains two pairs of factors in each linear, which make a product of rank r²', () => {
    const { spec, factors } = describeAdapter(loha({ r: 3, alpha: 6 }), sites)
    const path = sites[0]?.path
    expect(flat(spec)[0]).toMatchObject({
      target: path,
      rank: 9,
      scale: 2,
      b: `${path}.hada_w1_a`,
      a: `${path}.hada_w1_b`,
      b2: `${path}.hada_w2_a`,
      a2: `${path}.hada_w2_b`,
    })
    expect(factors.every(({ trained }) => trained)).toBe(true)
    expect(factors.reduce((sum, { rows, cols }) => sum + rows * cols, 0)).toBe(
      sites.reduce((sum, site) => sum + 2 * 3 * (site.in + site.out), 0),
    )
    expect(factors.slice(0, 2)).toMatchObject([
      { tensor: { name: `base_model.model.${path}.hada_w1_a`, shape: [sites[0]?.out, 3] } },
      { tensor: { name: `base_model.model.${path}.hada_w1_b`, shape: [3, sites[0]?.in] } },
    ])
  })

  test('starts as PEFT does, or as LyCORIS does, or everywhere away from zero', () => {
    const starts = (initWeights: boolean | 'lycoris') =>
      describeAdapter(loha({ r: 4, initWeights }), sites)
        .factors.slice(0, 4)
        .map(({ initializer }) => initializer)
    const [out, into] = [1 / Math.sqrt(4), 1 / Math.sqrt(sites[0]?.in as number)]
    const uniform = (bound: number) => ({ kind: 'uniform', bound })
    expect(starts(true)).toEqual([uniform(out), uniform(into), uniform(out), { kind: 'zeros' }])
    expect(starts('lycoris')).toEqual([
      { kind: 'normal', std: 0.1 },
      { kind: 'normal', std: 1 },
      { kind: 'zeros' },
      { kind: 'normal', std: 1 },
    ])
    expect(starts(false)).toEqual([uniform(out), uniform(into), uniform(out), uniform(into)])
  })

  test('takes rank and alpha of the first pattern that matches', () => {
    const config = loha({ r: 2, alpha: 2, rankPattern: { v_proj: 4 }, alphaPattern: { v_proj: 8 } })
    const terms = flat(describeAdapter(config, sites).spec)
    for (const { target, rank, scale } of terms)
      expect([rank, scale]).toEqual(target.endsWith('v_proj') ? [16, 2] : [4, 1])
  })

  test('is wrapped by others, which then save files of its type', () => {
    for (const config of [loraPlus({ adapter: loha() }), qlora({ adapter: loha() })])
      expect(rulesOf(config).toPeft(config)).toMatchObject({ peft_type: 'LOHA', r: 8, alpha: 8 })
    const { groups } = describeAdapter(loraPlus({ adapter: loha() }), sites)
    expect(groups.map(({ parameters }) => parameters.length)).toEqual([2 * sites.length, 2 * sites.length])
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = loha({ r: 3, rankDropout: 0.25, initWeights: 'lycoris', targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => loha({ r: 0 })).toThrow('loha(): r is 0, expected a positive integer.')
    expect(() => loha({ moduleDropout: 1 })).toThrow('moduleDropout is 1')
    expect(() => loha({ initWeights: 'gaussian' as never })).toThrow('expected true, false or lycoris')
    expect(() => loha({ loraAlpha: 1 } as never)).toThrow('unknown key loraAlpha')
  })
})
