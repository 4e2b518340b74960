import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { breather } from '../../../lib/core/breather.js'

/** Keeps the thread busy for longer than a piece may take. */
function work() {
  const begin = performance.now()
  while (performance.now() - begin < 3);
}

test('timers have their turn between two pieces, in the callback of a read as well', async () => {
  for (const before of [async () => undefined, () => readFile(import.meta.filename)]) {
    const breathe = breather()
    await before()
    let turn = false
    setTimeout(() => {
      turn = true
    }, 0)
    work()
    await breathe()
    expect(turn).toBe(true)
  }
})

test('short pieces go on at once', async () => {
  const breathe = breather()
  let turn = false
  setImmediate(() => {
    turn = true
  })
  await breathe()
  expect(turn).toBe(false)
})
