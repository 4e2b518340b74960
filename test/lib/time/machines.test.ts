import { expect, test } from 'vitest'
import { dora, lora, qlora } from '../../../lib/index.js'
import { machineNamed, machineNames, ratesOn } from '../../../lib/time/machines.js'
import { layOut } from '../../../lib/time/setting.js'
import { runTime } from '../../../lib/train/run-time.js'
import { settingOf } from './setting.js'

const figures = {
  ...{ head: 50e9, token_seconds: 0, update_seconds: 0 },
  ...{ format: 'nf4_double', precision: 'f32' as const },
}
const machine = {
  ...{ name: 'made-up', version: 1 as const, cpu: 'none', level: 'avx2', threads: 4, prefers_bf16: false },
  settings: [
    { ...figures, hidden_size: 576, length: 512, blocks: 100e9 },
    { ...figures, hidden_size: 576, length: 2048, blocks: 80e9 },
    { ...figures, hidden_size: 2048, length: 512, blocks: 120e9 },
    { ...figures, format: 'int8', hidden_size: 576, length: 512, blocks: 30e9 },
    { ...figures, precision: 'bf16' as const, hidden_size: 576, length: 512, blocks: 300e9 },
  ],
  strategies: { dora: 1.25 },
}

test('every machine that comes with the package can be read', () => {
  expect(machineNames()).not.toEqual([])
  for (const name of machineNames()) {
    const { settings, strategies } = machineNamed(name)
    expect(new Set(settings.map(({ precision }) => precision))).toEqual(new Set(['f32', 'bf16']))
    expect(Object.keys(strategies)).toContain('dora')
  }
})

test('a machine that is not known is an error with those that are', () => {
  const [name] = machineNames() as [string]
  expect(() => machineNamed('../package')).toThrow(`machine '../package' is unknown; expected one of ${name}`)
  expect(() => machineNamed(`${name}x`)).toThrow(`did you mean ${name}?`)
})

test('the rates of a setting are those of the nearest that was measured', () => {
  const blocksOf = (setting: ReturnType<typeof settingOf>) =>
    ratesOn(machine, setting, layOut(setting)).blocks
  const small = settingOf('SmolLM2-135M')
  expect(blocksOf(small)).toBe(100e9)
  expect(blocksOf(settingOf('SmolLM2-135M', { maxSeqLength: 4096 }))).toBe(80e9)
  expect(blocksOf(settingOf('Llama-3.2-1B'))).toBe(120e9)
  const as = (format: 'fp4' | 'int8') => ({
    ...small,
    formatOf: (name: string) => (name.endsWith('_proj.weight') ? format : small.formatOf(name)),
  })
  expect(blocksOf(as('int8'))).toBe(30e9)
  expect(blocksOf(as('fp4'))).toBe(100e9)
  expect(blocksOf({ ...small, precision: 'bf16' })).toBe(300e9)
  expect(blocksOf({ ...small, strategy: dora() })).toBe(80e9)
  expect(blocksOf({ ...small, strategy: qlora({ adapter: dora() }) })).toBe(80e9)
})

const run = { gradientAccumulationSteps: 2, maxSteps: null, numTrainEpochs: 3 }

test('the time of a run is its steps, which the data decides', async () => {
  const setting = settingOf('SmolLM2-135M')
  const { work } = layOut(setting)
  const step = 2 * (work.blocks / 100e9 + work.head / 50e9)
  const none = await runTime(setting, run, { threads: 1, machine })
  expect(none).toMatchObject({ tokensPerStep: 4096, steps: null, runSeconds: null, machine: 'made-up' })
  expect('secondsPerStep' in none && none.secondsPerStep / step).toBeCloseTo(1, 9)
  // 20 full micro-batches are 10 steps, three times over.
  const data = { examples: 80, tokens: 20 * 2048 }
  expect(await runTime(setting, run, { threads: 1, machine, data })).toMatchObject({
    steps: 30,
    runSeconds: 30 * step,
  })
  expect(await runTime(setting, { ...run, maxSteps: 7 }, { threads: 1, machine, data })).toMatchObject({
    steps: 7,
  })
})

test('rows that are short make short micro-batches where they are not packed', async () => {
  const data = { examples: 100, tokens: 100 * 64 }
  const time = (packing: boolean) =>
    runTime(settingOf('SmolLM2-135M', { packing }), run, { threads: 1, machine, data })
  expect(await time(false)).toMatchObject({ tokensPerStep: 2 * 4 * 64, steps: 39 })
  expect(await time(true)).toMatchObject({ tokensPerStep: 2 * 2048, steps: 6 })
})

test('private training has no time, nor has a machine that may not be measured', async () => {
  const off = await runTime(settingOf('SmolLM2-135M'), run, { threads: 1 })
  expect(off).toEqual({ unknown: 'LOWRANK_MEASURE is off' })
  const { dpDylora } = await import('../../../lib/index.js')
  const strategy = dpDylora({ adapter: lora(), targetEpsilon: 8, clients: { column: 'who' } })
  const hidden = await runTime({ ...settingOf('SmolLM2-135M'), strategy }, run, { threads: 1, machine })
  expect(hidden).toEqual({ unknown: expect.stringContaining('private training') })
})
