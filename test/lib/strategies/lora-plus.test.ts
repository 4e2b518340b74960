import { describe, expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraFa } from '../../../lib/strategies/lora-fa.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { sites } from './sites.js'

describe('loraPlus()', () => {
  test('moves B into a group of a higher rate and changes nothing else', () => {
    const adapter = lora({ r: 4 })
    const wrapped = describeAdapter(loraPlus({ adapter, loraplusLrRatio: 8 }), sites)
    const plain = describeAdapter(adapter, sites)
    expect(wrapped.spec.terms).toEqual(plain.spec.terms)
    expect(wrapped.groups.map(({ name, learningRateFactor }) => [name, learningRateFactor])).toEqual([
      ['lora', 1],
      ['lora_b', 8],
    ])
    expect(wrapped.groups[0]?.parameters.every((name) => name.endsWith('lora_A.weight'))).toBe(true)
    expect(wrapped.groups[1]?.parameters.every((name) => name.endsWith('lora_B.weight'))).toBe(true)
    expect(wrapped.spec.parameters.map(({ group }) => group)).toEqual(sites.flatMap(() => [0, 1]))
  })

  test('every trained parameter is in exactly one group, whatever is wrapped', () => {
    for (const adapter of [lora(), loraFa()]) {
      const { groups, spec } = describeAdapter(loraPlus({ adapter }), sites)
      expect(groups.flatMap(({ parameters }) => parameters).sort()).toEqual(
        spec.parameters
          .filter(({ trained }) => trained)
          .map(({ name }) => name)
          .sort(),
      )
    }
  })

  test('keeps the rules of the adapter it wraps', () => {
    const config = loraPlus({ adapter: loraFa() })
    expect(describeAdapter(config, sites).spec.projections).toHaveLength(sites.length)
    expect(rulesOf(config).toPeft(config)).toEqual({ peft_type: 'LORA', ...rulesOf(lora()).toPeft(lora()) })
  })

  test('stands inside of qlora(), and reads back from the keys of a file', () => {
    const config = qlora({ adapter: loraPlus({ loraplusLrRatio: 4, adapter: lora({ r: 2 }) }) })
    expect(describeAdapter(config, sites).groups.map(({ learningRateFactor }) => learningRateFactor)).toEqual(
      [1, 4],
    )
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
  })

  test.each([
    [{ loraplusLrRatio: 0.5 }, 'loraPlus(): loraplusLrRatio is 0.5, expected a number from 1.'],
    [{ adapter: { name: 'qlora' } }, 'adapter.name is "qlora", expected one of lora, loha'],
    [{ adapter: loraPlus() }, 'adapter.name is "lora-plus", expected one of lora, loha'],
  ])('refuses %j', (options, message) => {
    expect(() => loraPlus(options as never)).toThrow(message)
  })
})
