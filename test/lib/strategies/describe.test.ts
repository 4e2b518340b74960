import { expect, test } from 'vitest'
import type { NativeAdapter } from '../../../lib/native/addon.js'
import {
  describeAdapter,
  initialize,
  type StartingBase,
  weightSites,
} from '../../../lib/strategies/describe.js'
import { full } from '../../../lib/strategies/full.js'
import { listStrategies, rulesOf } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { sites, tinyGraph } from './sites.js'

test('the linears of a model are those of its blocks, without the head', () => {
  expect(sites).toHaveLength(14)
  expect(sites[1]).toEqual({ path: 'model.layers.0.self_attn.k_proj', in: 64, out: 32 })
})

test('every trained parameter is in exactly one optimizer group', () => {
  const { groups, spec } = describeAdapter(lora(), sites)
  const grouped = groups.flatMap((group) => group.parameters)
  expect(grouped).toEqual(spec.parameters.filter((p) => p.trained).map((p) => p.name))
})

test('only random fills carry the seed', async () => {
  const description = describeAdapter(lora(), sites)
  const fills = new Map<string, unknown>()
  const adapter = { fill: (name: string, fill: unknown) => fills.set(name, fill) } as unknown as NativeAdapter
  await initialize(adapter, description, {} as StartingBase, 7)
  expect(fills.get(description.factors[0]?.name as string)).toMatchObject({ kind: 'uniform', seed: 7 })
  expect(fills.get(description.factors[1]?.name as string)).toEqual({ kind: 'zeros' })
})

test('full fine-tuning trains a copy of every weight of the base and adds nothing', () => {
  const { spec, factors } = describeAdapter(full(), sites, { weights: weightSites(tinyGraph) })
  expect(spec.terms).toEqual([])
  expect(spec.copies?.map(({ weight }) => weight)).toEqual(tinyGraph.weights.map(({ name }) => name))
  expect(factors.every((factor) => factor.trained)).toBe(true)
  expect(factors.find(({ name }) => name === 'model.norm.weight')?.tensor?.shape).toEqual([64])
})

test('every strategy names its source, its file type and the bases it runs on', () => {
  for (const entry of listStrategies()) {
    expect(entry.paper).toMatch(/^(arXiv \d{4}\.\d{5}|OpenReview \w+)$/)
    expect(entry.bases.length).toBeGreaterThan(0)
    expect(entry).toHaveProperty('peft_type')
  }
  expect(listStrategies().map((entry) => entry.name)).toEqual([
    'lora',
    'loha',
    'dylora',
    'adalora',
    'lora-fa',
    'delta-lora',
    'lokr',
    'vera',
    'lora-drop',
    'dora',
    'miss',
    'oft',
    'hira',
    'lora-plus',
    'dp-dylora',
    'qlora',
  ])
})

test('an unknown strategy is refused with the nearest name', () => {
  expect(() => rulesOf({ name: 'qlorra' })).toThrow('strategy "qlorra" does not exist; did you mean qlora?')
})
