import { expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { sites } from './sites.js'

test('qlora() describes exactly the adapter it wraps and asks for NF4 with double quantization', () => {
  const adapter = lora({ r: 3, targetModules: ['v_proj'] })
  const wrapped = describeAdapter(qlora({ adapter }), sites)
  expect({ ...wrapped, strategy: adapter }).toEqual(describeAdapter(adapter, sites))
  const config = qlora({ adapter })
  expect(rulesOf(config).defaults(config)).toEqual({ quantization: { type: 'nf4', doubleQuant: true } })
})

test('qlora() wraps plain LoRA by default, and reads back from the keys of a file', () => {
  const config = qlora()
  expect(config.adapter).toEqual(lora())
  const source = { name: 'config.yaml', spelling: 'snake', at: 'strategy' } as const
  expect(readStrategy(strategyToFile(config), source)).toEqual(config)
  expect(readStrategy({ name: 'qlora' }, source)).toEqual(config)
})

test('qlora() refuses an adapter that does not exist and checks the one that does', () => {
  expect(() => qlora({ adapter: { name: 'prompt' } })).toThrow(
    'adapter.name is "prompt", expected one of lora',
  )
  expect(() => qlora({ adapter: { name: 'qlora' } })).toThrow('adapter.name is "qlora", expected one of lora')
  expect(() => qlora({ adapter: { name: 'lora', r: -1 } as never })).toThrow('adapter.r is -1')
})
