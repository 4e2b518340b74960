// Every task on the CPU and on the first GPU (both-devices.mjs). Arguments: a model, a precision, and names of runs
// (task-runs.mjs), by default all.
import { compareDevices, stepsOf } from './both-devices.mjs'
import { opened, runs } from './task-runs.mjs'

const [model, precision, ...asked] = process.argv.slice(2)
// In bf16 the devices draw other answers.
const usual = Object.keys(runs).filter((name) => precision === 'fp32' || name !== 'grpo')

for (const name of asked.length > 0 ? asked : usual)
  await compareDevices(name, async (device) => {
    const { loaded, adapter, train } = await opened(model, precision, name, device)
    const made = await stepsOf(adapter, train({}))
    await loaded.dispose()
    return made
  })
