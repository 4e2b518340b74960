// Worker threads that come and go beside native work, in a process of their own since a mistake here hangs or kills it.
//
//   worker-exit.mjs exit        a worker ends while the main thread's jobs are queued: they must all settle
//   worker-exit.mjs terminate   the only environment that has the addon is ended in the middle of a job
//   worker-exit.mjs settle      workers are ended while jobs of theirs settle, one after the other
//   worker-exit.mjs keep        a worker that alone had the addon ends: its code must stay where it is
//   worker-exit.mjs leave       the process ends with sessions open, opening and closing behind a job
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { graphOf, openModelFiles } from '../../../dist/esm/models/index.js'
import { addon } from '../../../dist/esm/native/addon.js'

/** A session over a tiny model that is slow to evaluate; `open` opens another. */
async function slowSession() {
  const native = addon()
  native.configure({ threads: 1, isa: 'reference' })
  const files = await openModelFiles(join(import.meta.dirname, '../../parity/models/llama3'))
  const graph = graphOf(files.config)
  const model = native.createModel(graph)
  for (const { name } of graph.weights) await model.loadWeight(name, files.tensors.get(name), 'f32').promise
  const plan = { mode: 'evaluate', tokens: 1024, sequences: 1, headRows: 1024, precision: 'f32' }
  const open = () => native.createSession(model, [], { plan }).promise
  return { open, session: await open() }
}

function evaluationsBy(session, count) {
  const tokens = Int32Array.from({ length: 1024 }, (_, i) => i % 200)
  const input = { tokens, labels: tokens, cuSeqlens: Int32Array.of(0, 1024) }
  return Array.from({ length: count }, () => session.evaluate('plan', input).promise)
}

const evaluations = async (count) => evaluationsBy((await slowSession()).session, count)

const mode = isMainThread ? process.argv[2] : workerData
const worker = () => new Worker(new URL(import.meta.url), { workerData: mode })
if (isMainThread && mode === 'exit') {
  const jobs = await evaluations(8)
  const ended = once(worker(), 'exit')
  const first = await Promise.race([ended.then(() => 'worker'), Promise.all(jobs).then(() => 'jobs')])
  const results = await Promise.all(jobs)
  console.log(`${first} first, ${results.filter(({ count }) => count === 1024).length} settled`)
} else if (mode === 'leave') {
  const { open, session } = await slowSession()
  const closed = await open()
  evaluationsBy(session, 2)
  open()
  closed.dispose()
  console.log('left')
  process.exit()
} else if (isMainThread && mode === 'keep') {
  await once(worker(), 'exit')
  const { sharedObjects } = process.report.getReport()
  console.log(sharedObjects.some((file) => file.endsWith('.node')) ? 'kept' : 'unloaded')
} else if (isMainThread && mode === 'settle') {
  for (let i = 0; i < 30; i++) {
    const busy = worker()
    await once(busy, 'message')
    await sleep(3 * (i % 10))
    await busy.terminate()
  }
  console.log('alive')
} else if (isMainThread) {
  const busy = worker()
  await once(busy, 'message')
  await busy.terminate()
  await sleep(100)
  console.log('alive')
} else if (mode === 'exit' || mode === 'keep') {
  addon().cpu()
} else if (mode === 'settle') {
  const again = () => addon().arithmeticPeak({ precision: 'f32', rounds: 1 }).promise.then(again, again)
  for (let i = 0; i < 40; i++) again()
  parentPort.postMessage('busy')
} else {
  const jobs = await evaluations(8)
  parentPort.postMessage('busy')
  await Promise.all(jobs)
}
