import { expect, test } from 'vitest'
import {
  isControlled,
  isOver,
  type LiveRun,
  messageOf,
  phaseOf,
  progressOf,
  secondsLeft,
  speedOf,
  titleOf,
} from '../../../../lib/report/live/state.js'
import { addLine, emptyRun } from '../../../../lib/report/run-data.js'
import type { MetricsLine } from '../../../../lib/train/records/event-schemas.js'

type Fields = Record<string, unknown>
const start = { event: 'start', command: 'npx lowrank train run.yaml', total_steps: 100, resumed_from: null }
const plan = { event: 'plan', peak_bytes: 1, rows: [] }
const made = (step: number, more: Fields = {}): Fields => {
  return { event: 'step', step, loss: 2, tokens: 100, tokens_per_second: 50, time: 1000 + 2 * step, ...more }
}

/** A run after these lines, which the page can reach. */
function after(...lines: Fields[]): LiveRun {
  const live = { run: emptyRun(), connected: true, status: { alive: true, reachable: true } }
  for (const line of lines) add(live, line)
  return live
}

const add = ({ run }: LiveRun, line: Fields) =>
  addLine(run, { time: 1000, ...line } as unknown as MetricsLine)

test('a run waits, trains, pauses, goes on, and is done', () => {
  expect(phaseOf(after())).toBe('waiting')
  expect(phaseOf(after(start))).toBe('waiting')
  expect(phaseOf(after(start, plan))).toBe('training')
  expect(messageOf(after(start, plan, made(1)))).toBe(undefined)
  const live = after(start, plan, made(1), { event: 'checkpoint', step: 1 }, made(2))
  add(live, { event: 'paused', step: 2 })
  expect([phaseOf(live), isControlled(live), isOver(live.run)]).toEqual(['paused', true, false])
  expect(messageOf(live)).toMatchObject({ tone: 'warn', title: 'Paused after step 2.' })
  expect(messageOf(live)?.text).toContain('The newest checkpoint is of step 1.')
  add(live, { event: 'resumed', step: 2 })
  expect(phaseOf(live)).toBe('training')
  add(live, { event: 'done', output_dir: 'out' })
  add(live, { event: 'samples', held_out: true, rows: [] })
  expect([phaseOf(live), isControlled(live), isOver(live.run)]).toEqual(['done', false, true])
  expect(messageOf(live)?.text).toBe('The result is in out.')
})

test('a run that was stopped says how to go on, and one that failed says why', () => {
  const stopped = after(start, plan, made(3), { event: 'stopped', step: 3, path: 'out/checkpoint-3' })
  expect(messageOf(stopped)).toMatchObject({
    title: 'Stopped and saved at step 3.',
    command: 'npx lowrank train run.yaml --resume',
  })
  const again = after({ ...start, command: 'npx lowrank train run.yaml --resume' }, plan, made(3))
  add(again, { event: 'stopped', step: 3, path: 'out/checkpoint-3' })
  expect(messageOf(again)?.command).toBe('npx lowrank train run.yaml --resume')
  const early = after(start, plan, { event: 'stopped', step: 0, path: null })
  expect(messageOf(early)).toMatchObject({
    title: 'Stopped before the first step.',
    text: 'Nothing was saved.',
  })
  const failed = after(start, plan, {
    event: 'error',
    step: 0,
    code: 'DIVERGED',
    message: 'The loss is NaN.',
  })
  expect(messageOf(failed)).toEqual({ tone: 'bad', title: 'DIVERGED', text: 'The loss is NaN.' })
})

test('a run that was resumed trains again', () => {
  const live = after(start, plan, made(3), { event: 'stopped', step: 3, path: 'out/checkpoint-3' })
  add(live, { ...start, resumed_from: 3 })
  expect([phaseOf(live), isOver(live.run)]).toEqual(['training', false])
})

test('a process that is gone is told from a server that does not answer', () => {
  const live = after(start, plan, made(7))
  live.connected = false
  expect([phaseOf(live), isControlled(live)]).toEqual(['lost', false])
  live.connected = true
  live.status = { alive: false, reachable: false }
  expect(phaseOf(live)).toBe('interrupted')
  expect(messageOf(live)?.text).toContain('It was at step 7. There is no checkpoint yet.')
  expect(messageOf(live)?.command).toBe(undefined)
  add(live, { event: 'checkpoint', step: 5 })
  expect(messageOf(live)?.command).toBe('npx lowrank train run.yaml --resume')
  const done = { ...after(start, plan, { event: 'done' }), connected: false, status: live.status }
  expect(phaseOf(done)).toBe('done')
})

test('the time left is that of the usual step, and of the evaluations to come', () => {
  const steps = Array.from({ length: 10 }, (_, index) => made(index + 1))
  expect(secondsLeft(after(start, plan, ...steps.slice(0, 2)).run)).toBe(undefined)
  expect(secondsLeft(after(start, plan, ...steps).run)).toBe(90 * 2)
  const slow = made(5, { tokens_per_second: 0.5 })
  expect(secondsLeft(after(start, plan, ...steps.slice(0, 4), slow, ...steps.slice(5)).run)).toBe(90 * 2)
  const evaluated = (step: number) => ({ event: 'eval', step, loss: 1 })
  const later = steps.slice(5).map((line) => ({ ...line, time: (line.time as number) + 3 }))
  const live = after(start, plan, evaluated(0), ...steps.slice(0, 5), evaluated(5), ...later)
  expect(secondsLeft(live.run)).toBe(90 * 2 + 18 * 3)
})

test('progress, speed, and the title', () => {
  expect(progressOf(after().run)).toEqual({ step: 0, totalSteps: 0 })
  expect(progressOf(after({ ...start, resumed_from: 30 }, plan).run)).toEqual({ step: 30, totalSteps: 100 })
  expect(speedOf(after(start, plan, made(1), made(2, { tokens: 300, tokens_per_second: 75 })).run)).toBe(
    400 / 6,
  )
  expect(speedOf(after(start).run)).toBe(undefined)
  expect(titleOf(after(start, plan, made(37)), 'orders')).toBe('37 % · orders · lowrank')
  expect(titleOf(after(start, plan, { event: 'paused', step: 0 }), 'orders')).toBe(
    'Paused · orders · lowrank',
  )
})
