import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesForPeft, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { blockSizeFor, oft } from '../../../lib/strategies/oft.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { LinearSite } from '../../../lib/strategies/strategy.js'
import { sites } from './sites.js'

const [site] = sites as [LinearSite]

describe('oft()', () => {
  test('trains the upper triangle of a skew-symmetric matrix for each block of the input', () => {
    const { spec, factors } = describeAdapter(oft({ oftBlockSize: 8 }), sites)
    expect(factors).toHaveLength(sites.length)
    expect(factors[0]).toMatchObject({
      rows: site.in / 8,
      cols: 28,
      trained: true,
      initializer: { kind: 'zeros' },
      tensor: { name: `base_model.model.${site.path}.oft_R.weight`, shape: [site.in / 8, 28] },
    })
    expect(spec.terms[0]).toEqual({
      kind: 'rotation',
      target: site.path,
      parameters: { skew: `${site.path}.oft_R.weight` },
      numbers: { size: 8, terms: 5 },
    })
  })

  test('has one row where blocks share it, and starts as PEFT does', () => {
    const [factor] = describeAdapter(
      oft({ oftBlockSize: 8, blockShare: true, initWeights: false }),
      sites,
    ).factors
    expect(factor).toMatchObject({ rows: 1, cols: 28, initializer: { kind: 'normal', std: 0.1 } })
  })

  test('takes the nearest size that divides the width, the smaller of two, as PEFT does', () => {
    // PEFT's adjust_oft_parameters(width, size).
    for (const [width, wanted, size] of [
      [576, 32, 32],
      [72, 32, 36],
      [120, 32, 30],
      [100, 30, 25],
      [60, 32, 30],
      [24, 32, 24],
      [26, 7, 2],
    ] as const)
      expect(blockSizeFor(width, wanted), `${width} ${wanted}`).toBe(size)
    const prime: LinearSite[] = [{ path: 'model.layers.0.self_attn.q_proj', in: 61, out: 64 }]
    expect(() => describeAdapter(oft({ oftBlockSize: 8 }), prime)).toThrow(
      'oft_block_size is 8, but the 61 inputs of model.layers.0.self_attn.q_proj cannot be divided into blocks of about that size; expected a size near a divisor of 61.',
    )
  })

  test('is wrapped by others, which then save files of its type', () => {
    for (const config of [loraPlus({ adapter: oft() }), qlora({ adapter: oft() })])
      expect(rulesOf(config).toPeft(config)).toMatchObject({ peft_type: 'OFT', r: 0, oft_block_size: 32 })
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = oft({ oftBlockSize: 4, blockShare: true, targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(() => oft({ oftBlockSize: 1 })).toThrow('oft(): oftBlockSize is 1, expected an integer from 2.')
    expect(() => oft({ loraAlpha: 1 } as never)).toThrow('unknown key loraAlpha')
  })

  test('reads what PEFT writes by default, and refuses other forms by name', () => {
    const written = {
      r: 0,
      oft_block_size: 8,
      block_share: false,
      use_cayley_neumann: true,
      num_cayley_neumann_terms: 6,
      module_dropout: 0.1,
      eps: 6e-5,
      target_modules: ['v_proj'],
    }
    const fromPeft = rulesForPeft('OFT', written)?.fromPeft
    expect(fromPeft?.(written)).toEqual(
      oft({ oftBlockSize: 8, numCayleyNeumannTerms: 6, targetModules: ['v_proj'] }),
    )
    expect(() => fromPeft?.({ ...written, use_cayley_neumann: false })).toThrow(
      'adapter_config.json: use_cayley_neumann is false, which is not supported; expected true.',
    )
    expect(() => fromPeft?.({ ...written, r: 4, oft_block_size: 0 })).toThrow(
      'adapter_config.json: r is 4, which is not supported; expected r 0 and a block size in oft_block_size.',
    )
  })
})
