import { describe, expect, test } from 'vitest'
import { addon, type NativeAdapter } from '../../../lib/native/addon.js'
import { aboveBudget, adalora, adaloraRules, budgetAt } from '../../../lib/strategies/adalora.js'
import { asLora } from '../../../lib/strategies/convert.js'
import { describeAdapter, initialize } from '../../../lib/strategies/describe.js'
import { readStrategy, rulesOf, strategyToFile } from '../../../lib/strategies/index.js'
import { loraPlus } from '../../../lib/strategies/lora-plus.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { flat } from './flat.js'
import { sites } from './sites.js'

const base = undefined as never

/** Counter-based noise, so that gradients are the same in every run. */
function noise(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed))
}

async function create(config: StrategyConfig) {
  const description = describeAdapter(config, sites)
  const native = addon().createAdapter(description.spec, { trainable: true })
  await initialize(native, description, base, 3)
  return { description, native, read: (name: string) => native.read(name, 'value') }
}

async function update({ native, description }: Awaited<ReturnType<typeof create>>, step: number) {
  for (const [i, { name, rows, cols }] of description.factors.entries())
    native.write(name, 'gradient', noise(rows * cols, step * 100 + i))
  const groups = description.groups.map(() => ({ learningRate: 0.01, weightDecay: 0 }))
  const adamw = { kind: 'adamw' as const, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, maxGradNorm: 1 }
  await native.optimizerStep({ ...adamw, groups, step }).promise
}

const values = (native: NativeAdapter, names: string[]) =>
  names.flatMap((name) => [...native.read(name, 'value')])
const singular = sites.map(({ path }) => `${path}.lora_E`)
const alive = (native: NativeAdapter) => values(native, singular).filter((value) => value !== 0).length

describe('adalora()', () => {
  test('has three trained factors a linear, named and shaped as in the file of PEFT', () => {
    const { spec, factors } = describeAdapter(adalora({ initR: 6, targetR: 2, loraAlpha: 12 }), sites)
    const [site] = sites
    expect(factors.slice(0, 3)).toMatchObject([
      { rows: 6, cols: site?.in, trained: true, initializer: { kind: 'normal', std: 0.02 } },
      { rows: 1, cols: 6, tensor: { name: `base_model.model.${site?.path}.lora_E`, shape: [6, 1] } },
      { rows: site?.out, cols: 6, role: 'b', initializer: { kind: 'normal', std: 0.02 } },
    ])
    expect(flat(spec)[0]?.scale).toBe(12 / (6 + 1e-5))
    expect(spec.triplets).toHaveLength(sites.length)
    expect(spec.triplets?.[0]).toMatchObject({ beta1: 0.85, orthogonal: 0.5 / (2 * sites.length) })
  })

  test('counts the importances in the plan, until they are dropped', async () => {
    const { spec } = describeAdapter(adalora(), sites)
    const trained = spec.parameters.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    const before = addon().allocated().optimizer
    const native = addon().createAdapter(spec, { trainable: true })
    await native.restart().promise
    expect(addon().allocated().optimizer - before).toBe(trained * 16)
    native.dropImportances()
    expect(addon().allocated().optimizer - before).toBe(trained * 8)
    expect(native.arrays(singular[0] as string)).toEqual(['value', 'gradient'])
    expect(() => native.read(singular[0] as string, 'sensitivity')).toThrow('has no sensitivity')
    await native.restart().promise
    expect(addon().allocated().optimizer - before).toBe(trained * 16)
    await native.dispose()
  })

  test('reads back from the keys of a file, and refuses what is out of range', () => {
    const config = adalora({ initR: 3, targetR: 3, tinit: 0, deltaT: 5, targetModules: ['v_proj'] })
    expect(readStrategy(strategyToFile(config), { name: 'config.yaml', spelling: 'snake' })).toEqual(config)
    expect(strategyToFile(config)).toMatchObject({ init_r: 3, delta_t: 5, orth_reg_weight: 0.5 })
    expect(() => adalora({ targetR: 13 })).toThrow(
      'adalora(): targetR is 13, expected at most the rank at first, 12.',
    )
    expect(() => adalora({ beta1: 1 })).toThrow('beta1 is 1, expected a number between 0 and 1')
    expect(() => adalora({ rankPattern: { 'a.lora_E': [true] } })).toThrow('12 entries')
    expect(() => qlora({ adapter: adalora({ targetR: 13 }) })).toThrow('at most the rank at first')
  })

  test('is wrapped by LoRA+ with E among the slow ones, and by QLoRA', () => {
    const { groups } = describeAdapter(loraPlus({ adapter: adalora() }), sites)
    expect(groups.map(({ parameters }) => parameters.length)).toEqual([2 * sites.length, sites.length])
    expect(rulesOf(qlora()).toPeft(qlora({ adapter: adalora() }))).toMatchObject({ peft_type: 'ADALORA' })
  })
})

describe('the budget', () => {
  const schedule = { initial: 36 * 12, target: 36 * 8, tinit: 10, tfinal: 20, totalSteps: 100 }

  test('falls by the cube from all ranks to those that are to stay', () => {
    const at = [0, 10, 11, 45, 79, 80, 81, 99].map((t) => budgetAt(schedule, t))
    expect(at).toEqual([432, 432, 425, 306, 288, 288, 288, 288])
  })

  test('ties go', () => {
    expect([...aboveBudget(Float64Array.of(3, 1, 2, 1), 3)]).toEqual([1, 0, 1, 0])
    expect([...aboveBudget(Float64Array.of(0, 0), 2)]).toEqual([1, 1])
  })

  const runs: [string, Partial<Parameters<typeof adalora>[0]>][] = [
    ['with a warm-up and an end', { tinit: 2, tfinal: 6, deltaT: 1 }],
    ['with rare allocations', { tinit: 2, tfinal: 6, deltaT: 4 }],
    ['without an end', { tinit: 0, tfinal: 0, deltaT: 1 }],
    ['with the default schedule', {}],
    ['that stays', { initR: 5, targetR: 5, tinit: 0, tfinal: 3 }],
  ]
  test.each(runs)(
    'is kept at every step of a run %s, and goes on the same when resumed',
    async (_, given) => {
      const totalSteps = 20
      const config = adalora({ initR: 5, targetR: 2, ...given })
      const run = await create(config)
      const { native, description } = run
      const facts = { seed: 0, totalSteps, description }
      const start = (on: NativeAdapter, state: unknown) =>
        adaloraRules.steps?.(config)?.begin({ ...facts, native: on }, state)
      let rules = start(native, undefined)
      const schedule = {
        initial: sites.length * config.initR,
        target: sites.length * config.targetR,
        tinit: config.tinit ?? 2,
        tfinal: config.tfinal ?? 6,
        totalSteps,
      }
      const history: number[][] = []
      for (let step = 1; step <= totalSteps; step++) {
        await update(run, step)
        await rules?.updated?.(step)
        const t = step - 1
        const masks = t > schedule.tinit && t % config.deltaT === 0 && t < totalSteps - schedule.tfinal
        const final = t >= totalSteps - schedule.tfinal || step === totalSteps
        const expected = final ? schedule.target : masks ? budgetAt(schedule, t) : schedule.initial
        expect(alive(native), `step ${step}`).toBe(expected)
        history.push(values(native, singular))
        // State of a checkpoint, passed to new rules.
        rules = start(native, JSON.parse(JSON.stringify(rules?.state?.() ?? null)) ?? undefined)
      }
      const patterns = history
        .slice(totalSteps - schedule.tfinal)
        .map((step) => step.map((value) => (value === 0 ? '0' : '1')).join(''))
      expect(new Set(patterns).size).toBe(schedule.tfinal > 0 ? 1 : 0)
      await native.dispose()
    },
  )

  test('refuses a schedule with no step for it', async () => {
    const run = await create(adalora({ tinit: 5, tfinal: 5 }))
    const facts = { ...run, seed: 0, totalSteps: 10 }
    expect(() => adaloraRules.steps?.(adalora({ tinit: 5, tfinal: 5 }))?.begin(facts, undefined)).toThrow(
      'adalora: tinit 5 and tfinal 5 leave none of the 10 steps for pruning',
    )
    await run.native.dispose()
  })
})

test('the regularizer moves A and B toward orthogonal vectors where nothing else does', async () => {
  const config = adalora({ initR: 3, targetR: 3, orthRegWeight: 10, targetModules: ['v_proj'] })
  const run = await create(config)
  const { native, description } = run
  const [{ in: width } = { in: 0 }] = sites.filter(({ path }) => path.endsWith('v_proj'))
  const distance = () => {
    const a = native.read(description.factors[0]?.name as string, 'value')
    let sum = 0
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++) {
        let dot = i === j ? -1 : 0
        for (let c = 0; c < width; c++) dot += (a[i * width + c] as number) * (a[j * width + c] as number)
        sum += dot * dot
      }
    return Math.sqrt(sum)
  }
  const before = distance()
  const groups = [{ learningRate: 0.01, weightDecay: 0 }]
  const adamw = { kind: 'adamw' as const, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, maxGradNorm: 0 }
  for (let step = 1; step <= 40; step++) await native.optimizerStep({ ...adamw, groups, step }).promise
  expect(before).toBeGreaterThan(1.5)
  expect(distance()).toBeLessThan(0.2)
  await native.dispose()
})

describe('saved', () => {
  const config = adalora({ initR: 4, targetR: 2 })
  const pruned = async () => {
    const run = await create(config)
    for (const [i, name] of singular.entries())
      run.native.write(
        name,
        'value',
        i === 0 ? new Float32Array(4) : Float32Array.of(0.5, 0, -2, i === 1 ? 0 : 1),
      )
    return run
  }

  test('it has only the ranks that are left, and says which', async () => {
    const { native, description, read } = await pruned()
    const saved = adaloraRules.savedAs?.(config, description, read)
    const described = describeAdapter(saved?.strategy as StrategyConfig, sites)
    expect(described.empty.map(({ tensor }) => tensor?.shape)).toEqual([
      [0, sites[0]?.in],
      [0, 1],
      [sites[0]?.out, 0],
    ])
    expect(flat(described.spec).map(({ rank }) => rank)).toEqual([2, ...sites.slice(2).map(() => 3)])
    expect(saved?.read(singular[1] as string)).toEqual(Float32Array.of(0.5, -2))
    const b = read(`${sites[1]?.path}.lora_B`)
    expect([...(saved?.read(`${sites[1]?.path}.lora_B`) ?? [])].slice(0, 4)).toEqual([b[0], b[2], b[4], b[6]])
    const peft = rulesOf(config).toPeft(saved?.strategy as StrategyConfig)
    expect(peft.rank_pattern).toMatchObject({
      [singular[0] as string]: [false, false, false, false],
      [singular[1] as string]: [true, false, true, false],
    })
    await native.dispose()
  })

  test('what is sliced again still names the ranks at first', async () => {
    const { native, description, read } = await pruned()
    const once = adaloraRules.savedAs?.(config, description, read)
    const again = describeAdapter(once?.strategy as StrategyConfig, sites)
    const values = (name: string) =>
      name === singular[1] ? Float32Array.of(0, 7) : (once?.read(name) as Float32Array)
    const twice = adaloraRules.savedAs?.(once?.strategy as typeof config, again, values)
    expect(twice?.strategy).toMatchObject({
      rankPattern: {
        [singular[0] as string]: [false, false, false, false],
        [singular[1] as string]: [false, false, true, false],
        [singular[2] as string]: [true, false, true, true],
      },
    })
    await native.dispose()
  })

  test('as plain LoRA it computes the same, without the linears that have no rank left', async () => {
    const { native, description, read } = await pruned()
    const lora = asLora(description, sites, read)
    const described = describeAdapter(lora.strategy, sites)
    expect(described.targets).toEqual(sites.slice(1).map(({ path }) => path))
    const site = sites[1] as (typeof sites)[number]
    const delta = (
      a: Float32Array,
      b: Float32Array,
      e: (k: number) => number,
      rank: number,
      scale: number,
    ) => {
      let sum = 0
      for (let k = 0; k < rank; k++)
        sum += (b[3 * rank + k] as number) * e(k) * (a[k * site.in + 5] as number)
      return scale * sum
    }
    const [term] = flat(described.spec)
    const [e, a, b] = ['lora_E', 'lora_A', 'lora_B'].map((name) => read(`${site.path}.${name}`))
    const own = delta(
      a as Float32Array,
      b as Float32Array,
      (k) => e?.[k] as number,
      4,
      flat(description.spec)[1]?.scale as number,
    )
    const [plainA, plainB] = [term?.a, term?.b].map((name) => lora.read(name as string))
    const plain = delta(plainA as Float32Array, plainB as Float32Array, () => 1, 2, term?.scale as number)
    expect(Math.abs(plain / own - 1)).toBeLessThan(1e-6)
    await native.dispose()
  })

  test('before it was trained it is saved whole', async () => {
    const { native, description, read } = await create(config)
    expect(adaloraRules.savedAs?.(config, description, read)).toBeUndefined()
    expect(asLora(description, sites, read).strategy).toMatchObject({ r: 4 })
    await native.dispose()
  })
})
