/**
 * Trains in a process of its own. Started by `utilityProcess.fork` it talks through `process.parentPort`; started by
 * `fork` of node:child_process, as tests do, through `process.send`.
 *
 * It takes `{ type: 'train', model, data, output, resume, threads, options }` once, then `{ type: 'pause' }`,
 * `{ type: 'continue' }` and `{ type: 'cancel' }`. It says `plan`, `step`, `paused`, `continued`, and last `done`,
 * `canceled` or `error`.
 */
import { constants, setPriority } from 'node:os'
import { loadModel, lora } from 'lowrank'

const { parentPort } = process
const send = (message) => (parentPort ? parentPort.postMessage(message) : process.send(message))

const abort = new AbortController()
/** While paused: a promise that resolves when training may continue. */
let pause
let endPause

const actions = {
  train,
  pause() {
    pause ??= new Promise((resolve) => {
      endPause = resolve
    })
  },
  continue() {
    pause = undefined
    endPause?.()
  },
  cancel() {
    abort.abort()
    endPause?.()
  },
}

if (parentPort) parentPort.on('message', ({ data }) => actions[data.type](data))
else process.on('message', (message) => actions[message.type](message))

async function train({ model: path, data, output, resume, threads, options }) {
  // The engine's threads start later and inherit it: windows come first.
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL)
  const { signal } = abort
  let model
  let run
  try {
    model = await loadModel(path, { threads, signal })
    const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
    run = adapter.train(data, { ...options, outputDir: output, resume, signal })
    send({ type: 'plan', peakBytes: run.memory.peakBytes })
    for await (const { step, totalSteps, loss, tokensPerSecond } of run) {
      send({ type: 'step', step, totalSteps, loss, tokensPerSecond })
      // A run executes a step only when it is requested.
      if (pause && !signal.aborted && step < totalSteps) {
        send({ type: 'paused', step })
        await pause
        if (!signal.aborted) send({ type: 'continued', step })
      }
    }
    send({ type: 'done', output })
  } catch (error) {
    if (signal.aborted) send({ type: 'canceled', checkpoint: run?.checkpoints.at(-1) ?? null })
    else send({ type: 'error', code: error.code, message: error.message })
  } finally {
    await model?.dispose()
  }
}
