// Runs that begin on one device and go on on the other, and their memory on the GPU. Arguments: a model and names of runs
// (task-runs.mjs), by default one of each kind. Prints a line of JSON for each and for each way.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { addon } from '../../../dist/esm/native/addon.js'
import { opened } from './task-runs.mjs'

const [model, ...asked] = process.argv.slice(2)
const usual = ['dpo', 'kto', 'classification', 'grpo', 'neftune']
const STEPS = 4
const HALF = STEPS / 2
const bytes = (place) => Object.values(addon().allocated(place)).reduce((sum, count) => sum + count, 0)

/** Losses of a run, or rewards if it has some, and on the GPU the memory of each step beside what was planned. */
async function lossesOf(name, device, { last, ...more } = {}) {
  const { loaded, train } = await opened(model, 'fp32', name, device)
  const run = train({ maxSteps: STEPS, learningRate: 0.01, evalFraction: 0.25, evalSteps: STEPS, ...more })
  const losses = []
  const memory = []
  for await (const { loss, reward, step } of run) {
    losses.push(reward ?? loss)
    if (device === 'cuda')
      memory.push([bytes('device'), bytes('pinned'), run.memory.peakBytes, run.memory.pinnedBytes])
    if (step === last) break
  }
  await loaded.dispose()
  return { losses, memory }
}

for (const name of asked.length > 0 ? asked : usual) {
  const { losses: whole } = await lossesOf(name, 'cpu')
  for (const [from, to] of [
    ['cpu', 'cuda'],
    ['cuda', 'cpu'],
  ]) {
    const outputDir = mkdtempSync(join(tmpdir(), 'lowrank-moved-'))
    const before = await lossesOf(name, from, { outputDir, saveSteps: HALF, last: HALF })
    const after = await lossesOf(name, to, { outputDir, saveSteps: HALF, resume: true })
    rmSync(outputDir, { recursive: true })
    const memory = [...before.memory, ...after.memory]
    console.log(
      JSON.stringify({ name, from, to, whole, losses: [...before.losses, ...after.losses], memory }),
    )
  }
}
