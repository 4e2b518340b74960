import { expect, test } from 'vitest'
import {
  contestant,
  contestants,
  controls,
  readEntries,
  strategyNames,
  strategyOfRun,
} from '../../../lib/compare/entries.js'
import { checkOwn, nearestSize, unequalSizes } from '../../../lib/compare/equal.js'
import type { CompareEntry } from '../../../lib/compare/results.js'
import { adalora } from '../../../lib/strategies/adalora.js'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { listStrategies } from '../../../lib/strategies/index.js'
import { lora } from '../../../lib/strategies/lora.js'
import { qlora } from '../../../lib/strategies/qlora.js'

const own = lora({ r: 4, loraAlpha: 12, targetModules: ['q_proj', 'v_proj'], loraDropout: 0.1 })
const sites = ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.up_proj'].map((name) => ({
  path: `model.layers.0.${name}`,
  in: 32,
  out: 64,
}))

test('LoRA is always among the strategies, and all are all that there are', () => {
  expect(strategyNames(['vera', 'vera'])).toEqual(['lora', 'vera'])
  expect(strategyNames('all')).toEqual([...listStrategies().map(({ name }) => name), 'full'])
  expect(() => strategyNames(['vira'])).toThrow('did you mean vera?')
})

test('the default is a quick answer, and the strategy of the config', () => {
  const namesOf = (given: typeof own) => contestants(null, given).map(({ name }) => name)
  expect(namesOf(own)).toEqual(['lora', 'qlora', 'dora', 'lokr'])
  expect(namesOf(contestant('vera', own).strategy as typeof own)).toEqual([
    'lora',
    'qlora',
    'dora',
    'lokr',
    'vera',
  ])
})

test('strategies share rank, scale, targets and dropout with the config', () => {
  const shared = { targetModules: ['q_proj', 'v_proj'] }
  expect(contestant('dora', own).strategy).toMatchObject({ r: 4, loraAlpha: 12, loraDropout: 0.1, ...shared })
  expect(contestant('adalora', own).strategy).toMatchObject({
    targetR: 4,
    initR: 6,
    // Its scale is alpha over the initial rank: 3, as LoRA's.
    loraAlpha: 18,
    ...shared,
  })
  expect(contestant('loha', own).strategy).toMatchObject({ r: 4, alpha: 12, ...shared })
  expect(contestant('vera', own).strategy).toMatchObject({ r: 256, ...shared })
  expect(contestant('lora-plus', own).strategy).toMatchObject({ adapter: { name: 'lora', r: 4 } })
  expect(contestant('dp-dylora', own).strategy).toMatchObject({ privacyUnit: 'example', targetEpsilon: 8 })
  expect(contestant('delta-lora', own).strategy).toMatchObject({ r: 4, loraDropout: 0 })
  expect(contestant('lora', qlora({ adapter: own })).strategy).toEqual(own)
  expect(contestant('adalora', adalora({ targetR: 3, initR: 9 })).strategy).toMatchObject({ initR: 9 })
})

const large = { name: 'lora-r64', strategy: lora({ r: 64, loraAlpha: 64 }) }

test('own entries are there as given, beside named ones, which share the config', () => {
  const found = contestants(['vera', large, 'lora'], own)
  expect(found.map(({ name }) => name)).toEqual(['lora', 'vera', 'lora-r64'])
  expect(found[0]?.strategy).toBe(own)
  expect(found[2]).toEqual({ ...large, isOwn: true })
  expect(controls(found, sites).map(({ name }) => name)).toEqual(['lora+attention'])
})

test('an own entry named lora is the reference, and has no controls', () => {
  const reference = { ...large, name: 'lora' }
  const found = contestants(['dora', reference], own)
  expect(found.map(({ name }) => name)).toEqual(['lora', 'dora'])
  expect(found[0]).toEqual({ ...reference, isOwn: true })
  expect(contestants([reference], own)).toEqual([found[0]])
  expect(contestants(['all', reference], own)).toHaveLength(strategyNames('all').length)
  expect(controls(found, sites)).toEqual([])
})

test('mistakes in own entries name the entry', () => {
  const wrong = { name: 'wide', strategy: { name: 'lora', r: 0 } }
  expect(() => readEntries([wrong])).toThrow(
    'compare: entry wide: strategy.r is 0, expected a positive integer',
  )
  expect(readEntries(['dora', { name: 'wide', strategy: { name: 'lora' } }])).toEqual([
    'dora',
    { name: 'wide', strategy: lora() },
  ])
  expect(() => contestants([large, large], own)).toThrow('strategies has two entries named lora-r64')
  expect(() => contestants(['dora', { ...large, name: 'dora' }], own)).toThrow('two entries named dora')
})

test('own entries are not resized, so that sizes cannot be made equal', () => {
  const found = contestants([large], own)
  expect(() => checkOwn(found, 'parameters')).toThrow(
    'compare: equal is parameters, but entry lora-r64 has a strategy of its own',
  )
  expect(() => checkOwn(found, 'bytes')).toThrow('equal is bytes')
  for (const equal of ['rank', 'time'] as const) expect(() => checkOwn(found, equal)).not.toThrow()
  expect(() => checkOwn(contestants([{ ...large, name: 'lora' }], own), 'bytes')).not.toThrow()
})

test('controls are those of the strategies that are there', () => {
  const of = (...names: string[]) =>
    Object.fromEntries(
      controls(
        names.map((name) => contestant(name, own)),
        sites,
      ).map(({ name, strategy }) => [name, strategy]),
    )
  expect(Object.keys(of('lora'))).toEqual(['lora+attention'])
  expect(of('lora')['lora+attention']).toMatchObject({ targetModules: ['q_proj', 'v_proj'] })
  expect(of('lora', 'delta-lora')['lora+alpha']).toMatchObject({ loraAlpha: 36 })
  expect(of('lora', 'lora-plus')['lora+b-rate']).toMatchObject({ loraplusLrRatio: 2 })
  expect(of('lora', 'dylora')['dylora+fixed-rank']).toMatchObject({ rankDistribution: [0, 0, 0, 1] })
})

test('a control belongs to one strategy, however many share its rules', () => {
  const all = strategyNames('all').map((name) => contestant(name, own))
  expect(controls(all, sites).map(({ name, controlOf }) => `${controlOf}: ${name}`)).toEqual([
    'lora: lora+attention',
    'dylora: dylora+fixed-rank',
    'delta-lora: lora+alpha',
    'lora-plus: lora+b-rate',
  ])
})

test('private runs make a round of every step, and their noise follows from the seed', () => {
  const { strategy } = contestant('dp-dylora', own)
  const one = strategyOfRun(strategy, { steps: 7, seed: 1, cohort: 4 })
  expect(one).toMatchObject({ rounds: 7, cohort: 4 })
  expect(one).toEqual(strategyOfRun(strategy, { steps: 7, seed: 1, cohort: 4 }))
  expect(one).not.toEqual(strategyOfRun(strategy, { steps: 7, seed: 2, cohort: 4 }))
  expect(strategyOfRun(own, { steps: 7, seed: 1, cohort: 4 })).toBe(own)
})

const parametersOf = async (strategy: Parameters<typeof describeAdapter>[0]) =>
  describeAdapter(strategy, sites).spec.parameters.reduce((sum, { rows, cols }) => sum + rows * cols, 0)

test('the rank whose size is nearest is found, and the scale stays', async () => {
  const target = await parametersOf(own)
  const loha = await nearestSize(contestant('loha', own).strategy, target, parametersOf)
  expect(loha).toMatchObject({ r: 2, alpha: 6 })
  expect(await nearestSize(own, target, parametersOf)).toBe(own)
})

test('LoKr is split otherwise only if no rank of its own split comes near', async () => {
  const lokr = contestant('lokr', own).strategy
  const target = await parametersOf(own)
  const found = await nearestSize(lokr, target, parametersOf)
  expect(await parametersOf(found)).toBeGreaterThan(target / 1.25)
  expect(await parametersOf(found)).toBeLessThan(target * 1.25)
  const small = await parametersOf(lokr)
  expect(await nearestSize(lokr, small, parametersOf)).toBe(lokr)
  const wrapped = await nearestSize(qlora({ adapter: lokr }), target, parametersOf)
  expect(wrapped).toMatchObject({ adapter: found })
})

test('an entry of another size than LoRA is told', () => {
  const entry = (name: string, parameters: number, bytes: number) =>
    ({ name, trainable_parameters: parameters, planned: { bytes } }) as unknown as CompareEntry
  const entries = [
    entry('lora', 10_000, 2 ** 20),
    entry('vera', 2_000, 2 ** 20),
    entry('dora', 11_000, 2 ** 21),
  ]
  expect(unequalSizes({ entries, equal: 'rank' })).toEqual([
    'At equal rank, entries train other numbers of parameters than lora, in multiples of its: vera 0.2. --equal parameters compares them at about the same.',
  ])
  expect(unequalSizes({ entries: entries.slice(2), equal: 'rank' })).toEqual([])
  expect(
    unequalSizes({ entries: [entries[0] as CompareEntry, entries[2] as CompareEntry], equal: 'rank' }),
  ).toEqual([])
  expect(unequalSizes({ entries, equal: 'parameters' })).toEqual([
    'vera misses the trained parameters of lora: 2,000 for 10,000. No rank or shape of it comes nearer.',
  ])
  expect(unequalSizes({ entries, equal: 'bytes' })).toEqual([
    'dora misses the planned bytes of lora: 2.00 MiB for 1.00 MiB. No rank or shape of it comes nearer.',
  ])
})
