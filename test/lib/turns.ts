import { setImmediate } from 'node:timers/promises'

/** How many times the event loop goes round until `work` ends: few, however busy the machine, if it is held up. */
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
