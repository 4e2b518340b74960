import { setImmediate } from 'node:timers/promises'

/** Number of turns of the event loop until `work` ends: few, on any machine, if it is blocked. */
export async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let over = false
  const ended = work.finally(() => {
    over = true
  })
  let turns = 0
  for (; !over; turns++) await setImmediate()
  await ended
  return turns
}

/**
 * Number of turns of a timer until `work` ends. For work that also waits for files, where the event loop turns
 * any number of times: a timer does so once a millisecond at most.
 */
export async function timersDuring(work: Promise<unknown>): Promise<number> {
  let timers = 0
  let next: NodeJS.Timeout | undefined
  const count = () => {
    timers++
    next = setTimeout(count, 1)
  }
  next = setTimeout(count, 1)
  await work.finally(() => clearTimeout(next))
  return timers
}
