/**
 * What an application does with the package, in a few seconds: loads, trains, saves, generates, aborts, meets errors, works in
 * worker threads, and exits. Runs under whatever program scripts/platforms.mjs names and writes what it saw as JSON.
 *
 *   program.mjs OUTPUT
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { noiseMultiplierFor, privacySpent } from '../../dist/esm/federated/accountant.js'
import { clientsOf } from '../../dist/esm/federated/clients.js'
import { dataset, loadModel, lora, nf4 } from '../../dist/esm/index.js'
import { addon } from '../../dist/esm/native/addon.js'
import { addonOrigin } from '../../dist/esm/native/load.js'
import { budgetAt } from '../../dist/esm/strategies/adalora.js'

const demo = fileURLToPath(new URL('../../demo/', import.meta.url))
const OPTIONS = { learningRate: 5e-4, maxSeqLength: 128, seed: 1 }

if (isMainThread) await main(process.argv[2])
else {
  const model = await loadModel(join(demo, 'base'), { quantization: nf4() })
  const { losses } = await train(model, 2)
  parentPort.postMessage(losses)
  await model.dispose()
}

async function main(output) {
  const { bun, deno, node } = process.versions
  // Before this thread loads the addon, so that a worker is the only one that has it.
  const first = await inWorker()
  const libraries = process.report?.getReport?.()?.sharedObjects ?? []
  // Bun and Deno name none.
  const kept = libraries.length > 0 ? libraries.some((file) => file.endsWith('.node')) : undefined
  const { isa, levels, threads } = addon().cpu()
  const seen = {
    runtime: bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`,
    platform: `${process.platform}-${process.arch}`,
    addon: addonOrigin().from,
    isa,
    levels,
    threads,
    kept,
  }
  const begin = performance.now()
  const model = await loadModel(join(demo, 'base'), { quantization: nf4() })
  const { adapter, losses } = await train(model, 5)
  seen.losses = losses
  seen.drawn = drawn()
  seen.saved = await savedAndLoaded(model, adapter)
  const messages = [
    { role: 'user', content: 'I need five brass rings for Norwin in Zamouth by 7 July 2044.' },
  ]
  seen.text = (await model.generate(messages, { adapters: [adapter], maxNewTokens: 24 })).text
  seen.paged = await pagedLosses()
  seen.abort = await aborted(model)
  seen.missing = await nameOf(() => loadModel(join(demo, 'nothing')))
  seen.typing = await nameOf(() => adapter.train(data(), { ...OPTIONS, max_seq_len: 3 }).finished)
  seen.worker = [first, await inWorker()]
  seen.terminated = await terminated()
  seen.after = (await train(model, 2)).losses
  seen.seconds = Math.round((performance.now() - begin) / 100) / 10
  writeFileSync(output, `${JSON.stringify(seen, null, 2)}\n`)
  // The model is not disposed of: the program ends all the same.
}

function data() {
  return dataset(join(demo, 'train.jsonl'))
}

/** Digest of what JavaScript computes for a run: clients, noise, epsilon, and budgets. */
function drawn() {
  const rows = Uint32Array.from({ length: 500 }, (_, row) => row)
  const partition = { column: 'label', partition: 'dirichlet', count: 10 }
  const numbers = [0.1, 0.5, 3].flatMap((alpha) =>
    clientsOf({ rowGroup: (row) => row % 5 }, rows, { ...partition, alpha }, 1).flatMap((own) => [
      -1,
      ...own,
    ]),
  )
  for (const samplingRate of [0.001, 0.01, 0.05, 0.2, 0.6])
    for (const noiseMultiplier of [0.4, 0.7, 1.1, 2.3, 5])
      for (const steps of [10, 1000])
        numbers.push(privacySpent({ samplingRate, noiseMultiplier, steps, delta: 1e-6 }).epsilon)
  for (const targetEpsilon of [0.5, 2, 8])
    numbers.push(noiseMultiplierFor({ targetEpsilon, samplingRate: 0.05, steps: 100, delta: 1e-6 }))
  const budget = { initial: 1000, target: 10, tinit: 5, tfinal: 10, totalSteps: 300 }
  for (let step = 0; step < budget.totalSteps; step++) numbers.push(budgetAt(budget, step))
  return createHash('sha256')
    .update(new Uint8Array(Float64Array.from(numbers).buffer))
    .digest('hex')
}

async function train(model, maxSteps, options = {}) {
  const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
  const losses = []
  for await (const { loss } of adapter.train(data(), { ...OPTIONS, ...options, maxSteps })) losses.push(loss)
  return { adapter, losses }
}

async function savedAndLoaded(model, adapter) {
  const folder = await mkdtemp(join(tmpdir(), 'lowrank with spaces ü-'))
  try {
    await adapter.save(join(folder, 'tuned'))
    await model.loadAdapter(join(folder, 'tuned'))
    return true
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Losses of a run whose weights and optimizer state are paged from disk. */
async function pagedLosses() {
  const model = await loadModel(join(demo, 'base'), { quantization: nf4(), pagedWeights: true })
  try {
    return (await train(model, 3, { optimizer: 'paged_adamw' })).losses
  } finally {
    await model.dispose()
  }
}

async function aborted(model) {
  const controller = new AbortController()
  const adapter = await model.attach(lora({ r: 8, loraAlpha: 16 }))
  const run = adapter.train(data(), { ...OPTIONS, maxSteps: 500, signal: controller.signal })
  let steps = 0
  const name = await nameOf(async () => {
    for await (const _ of run) if (++steps === 3) controller.abort()
  })
  return `${name} after step ${steps}`
}

async function nameOf(act) {
  try {
    await act()
    return 'no error'
  } catch ({ name, code }) {
    return [name, code].filter((part) => typeof part === 'string').join(' ')
  }
}

function worker() {
  return new Worker(new URL(import.meta.url))
}

/** Losses of a worker that has ended. */
function inWorker() {
  return new Promise((done, failed) => {
    let losses
    const thread = worker()
    thread.on('message', (value) => {
      losses = value
    })
    thread.on('error', failed)
    thread.on('exit', (code) => (code === 0 ? done(losses) : failed(new Error(`it exits with ${code}`))))
  })
}

/** Ends a worker in the middle of its work. */
async function terminated() {
  const thread = worker()
  await new Promise((done) => setTimeout(done, 1000))
  await thread.terminate()
  return true
}
