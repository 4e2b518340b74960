import { expect, test } from 'vitest'
import { limitTime } from '../../../lib/core/time-limit.js'

const late = () => new Error('late')
/** Does nothing for a while, as a process does that others keep from the processor. */
const idle = (milliseconds: number) =>
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

test('a task that computes for too long is stopped', () => {
  const forever = () => {
    for (;;);
  }
  expect(() => limitTime(50, forever, late)).toThrow('late')
})

test('a task that was kept waiting begins again', () => {
  let starts = 0
  const kept = () => {
    if (++starts < 3) idle(10_000)
    return starts
  }
  expect(limitTime(50, kept, late)).toBe(3)
})

test('errors of a task are its own', () => {
  const failing = () => {
    throw new RangeError('no')
  }
  expect(() => limitTime(1000, failing, late)).toThrow(RangeError)
})

test('within a limit no other one runs', () => {
  expect(limitTime(1000, () => limitTime(1, () => idle(50), late), late)).toBe('timed-out')
})
