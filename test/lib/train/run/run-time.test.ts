import { afterEach, expect, test, vi } from 'vitest'
import { dpDylora, lora } from '../../../../lib/index.js'
import * as measuring from '../../../../lib/time/measure.js'
import { layOut } from '../../../../lib/time/setting.js'
import { runTime } from '../../../../lib/train/run/run-time.js'
import { settingOf } from '../../time/setting.js'

vi.mock('../../../../lib/time/measure.js', { spy: true })

/** Lets the machine have these rates, without a measurement. */
function measured() {
  const rates = { blocks: 100e9, head: 50e9, tokenSeconds: 0, updateSeconds: 0 }
  vi.mocked(measuring.measuringIsOff).mockReturnValue(false)
  vi.mocked(measuring.measuredRates).mockResolvedValue(rates)
}

afterEach(() => vi.resetAllMocks())

const run = { gradientAccumulationSteps: 2, maxSteps: null, numTrainEpochs: 3 }

test('the time of a run is its steps, which the data decides', async () => {
  measured()
  const setting = settingOf('SmolLM2-135M')
  const { work } = layOut(setting)
  const step = 2 * (work.blocks / 100e9 + work.head / 50e9)
  const none = await runTime(setting, run, { threads: 1 })
  expect(none).toMatchObject({ tokensPerStep: 4096, steps: null, runSeconds: null })
  expect('secondsPerStep' in none && none.secondsPerStep / step).toBeCloseTo(1, 9)
  // 20 full micro-batches are 10 steps, three times over.
  const data = { examples: 80, tokens: 20 * 2048 }
  expect(await runTime(setting, run, { threads: 1, data })).toMatchObject({
    steps: 30,
    runSeconds: 30 * step,
  })
  expect(await runTime(setting, { ...run, maxSteps: 7 }, { threads: 1, data })).toMatchObject({
    steps: 7,
  })
})

test('rows that are short make short micro-batches where they are not packed', async () => {
  measured()
  const data = { examples: 100, tokens: 100 * 64 }
  const time = (packing: boolean) =>
    runTime(settingOf('SmolLM2-135M', { packing }), run, { threads: 1, data })
  expect(await time(false)).toMatchObject({ tokensPerStep: 2 * 4 * 64, steps: 39 })
  expect(await time(true)).toMatchObject({ tokensPerStep: 2 * 2048, steps: 6 })
})

test('private training has no time, nor has a machine that may not be measured', async () => {
  const off = await runTime(settingOf('SmolLM2-135M'), run, { threads: 1 })
  expect(off).toEqual({ unknown: 'LOWRANK_MEASURE is off' })
  measured()
  const strategy = dpDylora({ adapter: lora(), targetEpsilon: 8, clients: { column: 'who' } })
  const hidden = await runTime({ ...settingOf('SmolLM2-135M'), strategy }, run, { threads: 1 })
  expect(hidden).toEqual({ unknown: expect.stringContaining('private training') })
})
