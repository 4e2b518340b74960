import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test, vi } from 'vitest'
import type { StepSetting } from '../../../lib/planning/step-setting.js'
import { measuredRates } from '../../../lib/time/measure.js'
import { layOut } from '../../../lib/time/setting.js'
import { scratchFolder } from '../scratch.js'
import { settingOf } from './setting.js'

const tiny: StepSetting = {
  ...settingOf('SmolLM2-135M', { perDeviceTrainBatchSize: 1, maxSeqLength: 64 }),
  config: JSON.parse(readFileSync(new URL('../../../demo/base/config.json', import.meta.url), 'utf8')),
}

let home: string

beforeEach(() => {
  home = scratchFolder()
  vi.stubEnv('HF_HOME', home)
  vi.stubEnv('HF_ASSETS_CACHE', '')
  return () => vi.unstubAllEnvs()
})

async function rates(setting = tiny) {
  const onMeasure = vi.fn()
  const found = await measuredRates(setting, layOut(setting), 1, { onMeasure, seconds: 0 })
  return { found, measured: onMeasure.mock.calls.length }
}

function keptFile(): string {
  const folder = join(home, 'assets', 'lowrank')
  const [file] = readdirSync(folder).filter((name) => name.startsWith('step-time-')) as [string]
  return join(folder, file)
}

test('a setting is measured once, and another one for itself', async () => {
  const first = await rates()
  expect(first).toMatchObject({ measured: 1, found: { blocks: expect.any(Number) } })
  expect(first.found?.blocks).toBeGreaterThan(0)
  expect(first.found?.updateSeconds).toBeGreaterThan(0)
  expect(await rates()).toEqual({ ...first, measured: 0 })
  const longer = { ...tiny, options: { ...tiny.options, maxSeqLength: 128 } }
  expect((await rates(longer)).measured).toBe(1)
  expect(await rates()).toEqual({ ...first, measured: 0 })
})

test.each([
  ['cut short', (text: string) => text.slice(0, -20)],
  ['of another version', (text: string) => text.replace('"version": 1', '"version": 2')],
  ['with figures that cannot be', (text: string) => text.replace(/"blocks": /, '"blocks": -')],
])('a kept file that is %s is made anew', async (_, damaged) => {
  await rates()
  const text = readFileSync(keptFile(), 'utf8')
  writeFileSync(keptFile(), damaged(text))
  expect((await rates()).measured).toBe(1)
  expect((await rates()).measured).toBe(0)
})

test('without a place to keep it, it is measured all the same', async () => {
  writeFileSync(join(home, 'assets'), 'a file where a folder should be')
  expect(await rates()).toMatchObject({ measured: 1, found: { blocks: expect.any(Number) } })
})

test('a process that cannot time anything leaves the rates unknown, and keeps nothing', async () => {
  mkdirSync(join(home, 'assets', 'lowrank'), { recursive: true })
  vi.stubEnv('LOWRANK_NATIVE_PATH', '/nowhere/lowrank.node')
  expect(await rates()).toEqual({ measured: 1, found: undefined })
  expect(readdirSync(join(home, 'assets', 'lowrank'))).toEqual([])
})

test('an abort ends it with its own reason', async () => {
  const reason = new Error('enough')
  const stop = new AbortController()
  const control = { signal: stop.signal, onMeasure: () => setTimeout(() => stop.abort(reason), 50) }
  await expect(measuredRates(tiny, layOut(tiny), 1, control)).rejects.toBe(reason)
})
