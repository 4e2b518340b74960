/** The threads of the engine wait for each other at every operation: none may miss that it is woken. */
import { Worker } from 'node:worker_threads'
import { afterEach, expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { lora } from '../../../lib/strategies/lora.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile } from '../scratch.js'

const STEPS = 1000
/** A step takes milliseconds or a second, as the system shares its cores out; one that nobody wakes takes forever. */
const MOST_SECONDS = 30
/** After so long, fewer steps will do. */
const ENOUGH_SECONDS = 180
const LEAST_STEPS = 20
const busy: Worker[] = []
afterEach(async () => {
  await Promise.all(busy.splice(0).map((worker) => worker.terminate()))
})

test('two threads take many steps beside work that keeps both cores busy', async () => {
  const model = await loadModel(tinyModel(), { precision: 'fp32', threads: 2 })
  for (let i = 0; i < 2; i++) busy.push(new Worker('for (;;) Math.random()', { eval: true }))
  const adapter = await model.attach(lora({ r: 2 }))
  const run = adapter.train(scratchFile('data.jsonl', chats(8)), {
    ...{ maxSteps: STEPS, maxSeqLength: 64, perDeviceTrainBatchSize: 1, seed: 1 },
  })
  const begin = performance.now()
  let last = 0
  let before = begin
  for await (const { step } of run) {
    last = step
    const now = performance.now()
    expect((now - before) / 1e3).toBeLessThan(MOST_SECONDS)
    before = now
    if (now - begin > 1e3 * ENOUGH_SECONDS) break
  }
  expect(last).toBeGreaterThanOrEqual(before - begin > 1e3 * ENOUGH_SECONDS ? LEAST_STEPS : STEPS)
  await model.dispose()
}, 600_000)
