/**
 * The cost of the hashes of checkpoints: saves checkpoints of a run, and times how long their files take to hash when
 * they are saved and to check when a run goes on from them.
 *
 *   npm run build && node benchmarks/checkpoints.mjs MODEL [--strategy full|lora] [--steps 3]
 */
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { full, loadModel, lora } from '../dist/esm/index.js'
import { damageIn, writeSums } from '../dist/esm/io/sums.js'
import { median } from './measure.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { strategy: { type: 'string', default: 'full' }, steps: { type: 'string', default: '3' } },
})
const [path] = positionals
if (path === undefined) throw new Error('name a model folder or a .gguf file')

/** Seconds that some work takes. */
async function timed(work) {
  const begin = performance.now()
  await work()
  return (performance.now() - begin) / 1000
}

const outputDir = await mkdtemp(join(tmpdir(), 'lowrank-checkpoints-'))
const model = await loadModel(path)
try {
  const adapter = await model.attach(values.strategy === 'full' ? full() : lora({ r: 16 }))
  const rows = Array.from({ length: 8 }, (_, i) => ({ text: `Row ${i} of a text that is not long.` }))
  const options = { maxSteps: Number(values.steps), maxSeqLength: 32, perDeviceTrainBatchSize: 1 }
  const run = adapter.train(rows, { ...options, saveSteps: 1, outputDir })
  const saves = []
  let begin = performance.now()
  for await (const { tokens, tokensPerSecond } of run) {
    // A checkpoint is saved before its step is told.
    saves.push((performance.now() - begin) / 1000 - tokens / tokensPerSecond)
    begin = performance.now()
  }
  const [checkpoint] = run.checkpoints
  const names = await readdir(checkpoint)
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(checkpoint, name))).size))
  const mebibytes = sizes.reduce((sum, size) => sum + size, 0) / 2 ** 20
  const hashing = []
  for (const folder of run.checkpoints) hashing.push(await timed(() => writeSums(folder)))
  const checks = []
  for (const folder of run.checkpoints) checks.push(await timed(() => damageIn(folder, [])))
  const [save, hash, check] = [median(saves), median(hashing), median(checks)]
  console.log(`checkpoint   ${mebibytes.toFixed(1)} MiB`)
  console.log(`saved in     ${save.toFixed(2)} s`)
  console.log(`of which     ${hash.toFixed(2)} s are its hashes (${(mebibytes / hash).toFixed(0)} MiB/s)`)
  console.log(`checked in   ${check.toFixed(2)} s`)
} finally {
  await model.dispose()
  await rm(outputDir, { recursive: true, force: true })
}
