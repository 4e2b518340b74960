import { expect, test } from 'vitest'
import { describeAdapter, fillOf } from '../../../lib/strategies/describe.js'
import { listStrategies, rulesOf } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { sites } from './sites.js'

test('the linears of a model are those of its blocks, without the head', () => {
  expect(sites).toHaveLength(14)
  expect(sites[1]).toEqual({ path: 'model.layers.0.self_attn.k_proj', in: 64, out: 32 })
})

test('every trained parameter is in exactly one optimiser group', () => {
  const { groups, spec } = describeAdapter(lora(), sites)
  const grouped = groups.flatMap((group) => group.parameters)
  expect(grouped).toEqual(spec.parameters.filter((p) => p.trained).map((p) => p.name))
})

test('only random fills carry the seed', () => {
  const [a, b] = describeAdapter(lora(), sites).factors
  expect(a && fillOf(a, 7)).toMatchObject({ kind: 'uniform', seed: 7 })
  expect(b && fillOf(b, 7)).toEqual({ kind: 'zeros' })
})

test('every strategy names its source, its file type and the bases it runs on', () => {
  for (const entry of listStrategies()) {
    expect(entry.paper).toMatch(/^arXiv \d{4}\.\d{5}$/)
    expect(entry.bases.length).toBeGreaterThan(0)
    expect(entry).toHaveProperty('peft_type')
  }
  expect(listStrategies().map((entry) => entry.name)).toEqual(['lora', 'qlora'])
})

test('an unknown strategy is refused with the nearest name', () => {
  expect(() => rulesOf({ name: 'qlorra' })).toThrow('strategy "qlorra" does not exist; did you mean qlora?')
})
