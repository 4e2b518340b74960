import { expect, test } from 'vitest'
import type { Printed } from '../../../lib/cli/schemas.js'
import { timeText } from '../../../lib/cli/time.js'
import { project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { lowrank, printed } from './lowrank.js'

const env = { LOWRANK_MEASURE: '' }
/** Each call may measure, on a machine that may be busy. */
const PATIENCE_MS = 180_000
const TIME =
  /about [\d.]+ m?s a step of \d+ tokens \(\d+ tokens\/s\); 12 steps take about [\d.]+ m?s, evaluations and checkpoints not counted/

sweepTest('plan and train tell the same time, measured once', { timeout: PATIENCE_MS }, async () => {
  const { config } = project()
  const plan = await lowrank(['plan', config], { env })
  expect(plan.stdout).toMatch(
    new RegExp(`^time ${TIME.source} \\(measured on this machine; other programs slow it down\\)$`, 'm'),
  )
  const [{ time }] = printed<'plan'>(await lowrank(['plan', config, '--json'], { env })) as [Printed<'plan'>]
  if (time === null) throw new Error('no time was told')
  expect(time).toMatchObject({ steps: 12 })
  expect(time.run_seconds).toBeCloseTo(12 * time.seconds_per_step, 9)
  expect(time.tokens_per_second).toBeCloseTo(time.tokens_per_step / time.seconds_per_step, 6)
  const [start, planned, told] = printed<'train'>(await lowrank(['train', config, '--json'], { env }))
  expect([start?.event, planned?.event, told]).toEqual(['start', 'plan', { event: 'time', ...time }])
})

sweepTest('the time of a run that goes on is that of the steps left', { timeout: PATIENCE_MS }, async () => {
  const { config, at } = project({ max_steps: 5, save_steps: 2 })
  const { stderr } = await lowrank(['train', config], { env })
  expect(stderr).toMatch(/^Time: about [\d.]+ m?s a step of \d+ tokens .*; 5 steps take about /m)
  const args = ['train', config, '--resume', at('out', 'checkpoint-2'), '--json']
  const [, , told] = printed<'train'>(await lowrank(args, { env }))
  expect(told).toMatchObject({ event: 'time', steps: 3 })
})

sweepTest('where it may not be measured, plan says so and train leaves it out', async () => {
  const { config } = project()
  const plan = await lowrank(['plan', config])
  expect(plan.stdout).toMatch(/^time not known: LOWRANK_MEASURE is off$/m)
  expect(printed<'plan'>(await lowrank(['plan', config, '--json']))[0]).toMatchObject({ time: null })
  const train = await lowrank(['train', config])
  expect(train).toMatchObject({ code: 0 })
  expect(train.stderr).not.toContain('Time:')
})

test('seconds, minutes and hours are told as far as they count', () => {
  const known = { tokensPerStep: 2048, steps: 1200 }
  const at = (secondsPerStep: number) => ({
    ...known,
    secondsPerStep,
    tokensPerSecond: 2048 / secondsPerStep,
    runSeconds: 1200 * secondsPerStep,
  })
  expect(timeText(at(0.5))).toBe(
    'about 0.50 s a step of 2,048 tokens (4096 tokens/s); 1,200 steps take about 10 min 00 s, evaluations and checkpoints not counted',
  )
  expect(timeText(at(0.0021))).toContain(
    'about 2.1 ms a step of 2,048 tokens (975238 tokens/s); 1,200 steps take about 2.52 s',
  )
  expect(timeText({ ...at(75), steps: null, runSeconds: null })).toBe(
    'about 1 min 15 s a step of 2,048 tokens (27.3 tokens/s)',
  )
})
