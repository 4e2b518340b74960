import { expect, test } from 'vitest'
import { LiveState, type LogLine } from '../../../../lib/report/live/state.js'

const plan = { event: 'plan' }
const made = (step: number, more: Partial<LogLine> = {}): LogLine => {
  return { event: 'step', step, total_steps: 100, loss: 2, tokens: 100, tokens_per_second: 50, ...more }
}

function after(...lines: LogLine[]): LiveState {
  const state = new LiveState()
  state.status = { alive: true, reachable: true }
  for (const line of lines) state.take(line)
  return state
}

test('a run waits, trains, pauses, goes on, and is done', () => {
  expect(after().phase).toBe('waiting')
  expect(after(plan).phase).toBe('training')
  expect(after(plan, made(1)).message()).toBe(undefined)
  const paused = after(plan, made(1), { event: 'checkpoint', step: 1 }, made(2), { event: 'paused', step: 2 })
  expect([paused.phase, paused.controlled, paused.over]).toEqual(['paused', true, false])
  expect(paused.message()).toMatchObject({ tone: 'warn', title: 'Paused after step 2.' })
  expect(paused.message()?.text).toContain('checkpoint is of step 1')
  paused.take({ event: 'resumed', step: 2 })
  expect(paused.phase).toBe('training')
  paused.take({ event: 'done', output_dir: 'out' })
  expect([paused.phase, paused.controlled, paused.over]).toEqual(['done', false, true])
  paused.take({ event: 'samples' })
  expect(paused.message()?.text).toBe('The result is in out.')
})

test('a run that was stopped says how to go on, and one that failed says why', () => {
  const start = { event: 'start', command: 'npx lowrank train run.yaml' }
  const stopped = after(start, plan, made(3), { event: 'stopped', step: 3, path: 'out/checkpoint-3' })
  expect(stopped.message()).toMatchObject({
    title: 'Stopped and saved at step 3.',
    command: 'npx lowrank train run.yaml --resume',
  })
  const early = after(start, plan, { event: 'stopped', step: 0, path: null })
  expect(early.message()).toMatchObject({
    title: 'Stopped before the first step.',
    text: 'Nothing was saved.',
  })
  const failed = after(plan, made(1), { event: 'error', code: 'DIVERGED', message: 'The loss is NaN.' })
  expect([failed.phase, failed.over]).toEqual(['failed', true])
  expect(failed.message()).toEqual({ tone: 'bad', title: 'DIVERGED', text: 'The loss is NaN.' })
})

test('a run that was resumed trains again', () => {
  const state = after(plan, made(3), { event: 'stopped', step: 3, path: 'out/checkpoint-3' }, plan)
  expect(state.phase).toBe('training')
})

test('a process that ended without a word is told from a server that does not answer', () => {
  const state = after({ event: 'start', command: 'npx lowrank train run.yaml' }, plan, made(7))
  state.connected = false
  expect([state.phase, state.controlled]).toEqual(['lost', false])
  state.connected = true
  state.status = { alive: false, reachable: false }
  expect(state.phase).toBe('interrupted')
  expect(state.message()).toMatchObject({ tone: 'bad', text: expect.stringContaining('of no step yet') })
  expect(state.message()?.command).toBe(undefined)
  state.take({ event: 'checkpoint', step: 5 })
  expect(state.message()?.command).toBe('npx lowrank train run.yaml --resume')
  const done = after(plan, { event: 'done' })
  done.connected = false
  done.status = { alive: false, reachable: false }
  expect(done.phase).toBe('done')
})

test('the time left is that of the usual step, and of the evaluations to come', () => {
  const steps = Array.from({ length: 10 }, (_, index) => made(index + 1))
  expect(after(plan, ...steps.slice(0, 2)).secondsLeft).toBe(undefined)
  expect(after(plan, ...steps).secondsLeft).toBe(90 * 2)
  const slow = made(5, { tokens_per_second: 0.5 })
  expect(after(plan, ...steps.slice(0, 4), slow, ...steps.slice(5)).secondsLeft).toBe(90 * 2)
  const evaluated = [made(5, { time: 100 }), { event: 'eval', step: 5, loss: 1, time: 103 }]
  const again = [made(10, { time: 110 }), { event: 'eval', step: 10, loss: 1, time: 113 }]
  expect(after(plan, ...steps, ...evaluated, ...again).secondsLeft).toBe(90 * 2 + 18 * 3)
})

test('numbers that are not there are left out', () => {
  const state = after(plan, made(1, { loss: null }))
  expect([state.loss, state.heldOut]).toEqual([undefined, undefined])
  expect(after(plan, made(1), made(2, { loss: 4 })).loss).toBe(3)
  expect(after().share).toBe(0)
})

test('the title says how far the run is', () => {
  expect(after(plan, made(37)).title('orders')).toBe('37 % · orders · lowrank')
  expect(after(plan, made(37), { event: 'paused' }).title('orders')).toBe('Paused · orders · lowrank')
})
