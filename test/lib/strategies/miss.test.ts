import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesForPeft, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { miss } from '../../../lib/strategies/miss.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { LinearSite } from '../../../lib/strategies/strategy.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

const widest = Math.max(...sites.map((site) => site.in))

describe('miss()', () => {
  test('shares one frozen array of identities, and trains one matrix in each linear', () => {
    const { spec, factors } = describeAdapter(miss({ r: 6 }), sites)
    const [blocks, ...others] = factors
    expect(blocks).toMatchObject({ name: 'miss_blocks', rows: 6, cols: widest, trained: false })
    expect(blocks?.tensor).toBeUndefined()
    expect(others).toHaveLength(sites.length)
    expect(others.every(({ trained }) => trained)).toBe(true)
    const [site] = sites as [LinearSite]
    expect(others[0]).toMatchObject({
      rows: site.out,
      cols: 6,
      initializer: { kind: 'zeros' },
      tensor: { name: `base_model.model.${site.path}.miss_block`, shape: [6, site.out], transposed: true },
    })
    expect(new Set(flat(spec).map(({ a, scale, rank }) => `${a} ${scale} ${rank}`))).toEqual(
      new Set(['miss_blocks 1 6']),
    )
  })

  test('sums every r-th input, the last block being shorter where r does not divide the width', () => {
    const { factors } = describeAdapter(miss({ r: 5 }), sites)
    const { initializer } = factors[0] as (typeof factors)[number]
    const values = initializer.kind === 'values' ? initializer.make() : new Float32Array()
    expect(values).toHaveLength(5 * widest)
    for (let j = 0; j < 5; j++)
      for (let i = 0; i < widest; i++) expect(values[j * widest + i]).toBe(i % 5 === j ? 1 : 0)
  })

  test('starts as PEFT does', () => {
    const [, factor] = describeAdapter(miss({ r: 4, initWeights: false }), sites).factors
    expect(factor?.initializer).toEqual({ kind: 'uniform', bound: 1 / Math.sqrt(sites[0]?.out as number) })
  })

  test('is wrapped by others, which then save files of its type', () => {
    for (const config of [loraPlus({ adapter: miss() }), qlora({ adapter: miss() })])
      expect(rulesOf(config).toPeft(config)).toMatchObject({ peft_type: 'MISS', r: 64, mini_r: 1 })
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = miss({ r: 3, missDropout: 0.25, targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => miss({ r: 0 })).toThrow('miss(): r is 0, expected a positive integer.')
    expect(() => miss({ loraAlpha: 1 } as never)).toThrow('unknown key loraAlpha')
    const narrow: LinearSite[] = [{ path: 'model.layers.0.self_attn.q_proj', in: 48, out: 64 }]
    expect(() => describeAdapter(miss(), narrow)).toThrow(
      'r is 64, but model.layers.0.self_attn.q_proj has only 48 inputs; expected at most 48.',
    )
  })

  test('reads what PEFT writes by default, and refuses its other forms by name', () => {
    const written = { r: 8, miss_dropout: 0.1, mini_r: 1, init_weights: true, target_modules: ['v_proj'] }
    const fromPeft = rulesForPeft('MISS', written)?.fromPeft
    expect(fromPeft?.(written)).toEqual(miss({ r: 8, missDropout: 0.1, targetModules: ['v_proj'] }))
    for (const form of ['bat', 'mini'])
      expect(() => fromPeft?.({ ...written, init_weights: form })).toThrow(
        `adapter_config.json: init_weights is "${form}", a variant of MiSS with other matrices; expected true or false. The variants bat and mini are not supported.`,
      )
  })
})
