// Cells of a compare repeated by PEFT: the same rows in the same order, initial adapter, learning rates, and test rows.
// Prints how far the mean test loss is from ours, beside its spread over seeds.
//
//   node benchmarks/peers/repeat_cells.mjs RESULTS --python venv/bin/python [--entries lora,dora,lokr] [--seed 42]
//     [--model FOLDER] [--json]
//
// RESULTS is results.json of a compare in fp32 (`--set precision=fp32`), or its folder; model and data must be where they
// were. `--model` is the folder that transformers reads, where the compare has another file of the same weights. Entries
// may be lora, lora-plus, dora, loha, lokr, vera, and controls that are one of these.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { strategyOf } from '../../dist/esm/compare/cells.js'
import { describeData, readCompareData, seedData } from '../../dist/esm/compare/data.js'
import { loadModel, readResults } from '../../dist/esm/index.js'
import { scheduleAt } from '../../dist/esm/options/schedules.js'
import { resolveConfig, trainOptions } from '../../dist/esm/train/config/config.js'
import { windowsOf } from '../../dist/esm/train/rows/batches.js'
import { dataOf, rowsInOrder } from '../../dist/esm/train/rows/data.js'
import { peerEnvironment } from '../measure.mjs'

const TAKEN = ['lora', 'lora-plus', 'dora', 'loha', 'lokr', 'vera']

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: 'string', default: 'python3' },
    entries: { type: 'string', default: 'lora,dora,lokr' },
    seed: { type: 'string' },
    model: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const results = await readResults(positionals[0])
const names = options.entries.split(',')
const entries = names.map((name) => {
  const entry = results.entries.find((one) => one.name === name)
  if (!entry) throw new Error(`the compare has no entry ${name}; expected some of those it has`)
  if (!TAKEN.includes(entry.strategy.name) || entry.base_format !== 'none')
    throw new Error(`PEFT does not repeat ${name} here; expected one of ${TAKEN.join(', ')}, unquantized`)
  return entry
})
if (results.model.precision !== 'f32')
  throw new Error(`the compare computed in ${results.model.precision}; repeat it with --set precision=fp32`)

const config = resolveConfig(
  { ...results.settings, strategy: results.asked.strategy },
  { name: positionals[0], spelling: 'snake' },
  '/',
)
const now = Date.parse(results.created)
const { validation_rows: validationRows, test_rows: testRows, train_share: trainShare } = results.asked
const model = await loadModel(config.model, { precision: 'fp32' })
const { rows: generalRows } = results.data.general
const data = await readCompareData(model.base, config, {
  ...{ validationRows, testRows, generalRows, trainShare, now },
})
const { pool, test } = await describeData(data, config.seed)
if (pool.hash !== results.data.pool?.hash || test.hash !== results.data.test.hash)
  throw new Error('the data has changed since the compare')

const batchOf = ({ tokens, labels, cuSeqlens }) => ({
  ...{ tokens: [...tokens], labels: [...labels], bounds: [...cuSeqlens] },
})
const rows = rowsInOrder(data.test, config.maxSeqLength)
const testBatches = [...data.test.rows].map((_, row) => batchOf(rows.get(0, row)))

const work = mkdtempSync(join(tmpdir(), 'lowrank-repeat-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))
const found = []
for (const entry of entries) {
  const cell = entry.cells.find(({ seed }) => String(seed) === options.seed) ?? entry.cells[0]
  const { seed, rate, steps } = cell
  const run = { ...trainOptions(config), seed, maxSteps: steps, learningRate: rate }
  const adapter = await model.attach(strategyOf(entry), { seed })
  const folder = join(work, entry.name)
  await adapter.save(folder)
  await adapter.detach()
  const { train } = seedData(data, seed)
  const { windows } = windowsOf((await dataOf(train, run, now)).train, run)
  const order = []
  let place = { epoch: 0, microBatch: 0 }
  for (let step = 0; step < steps; step++) {
    const { batches, next } = await windows.at(place)
    order.push({ rate: rate * scheduleAt(run, step, steps), batches: batches.map(batchOf) })
    place = next
  }
  await windows.close()
  const job = join(work, 'job.json')
  const ratio = entry.strategy.name === 'lora-plus' ? entry.strategy.loraplus_lr_ratio : 1
  const { weightDecay, maxGradNorm } = run
  const text = { rate, ratio, weight_decay: weightDecay, max_grad_norm: maxGradNorm, steps: order }
  writeFileSync(job, JSON.stringify({ ...text, test: testBatches }))
  const script = join(import.meta.dirname, 'repeat_cell.py')
  const folderOfModel = options.model ?? config.model
  const stdout = execFileSync(options.python, [script, folderOfModel, folder, job], {
    ...{ env: peerEnvironment(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
    maxBuffer: 1 << 28,
  })
  const peer = JSON.parse(stdout.trim().split('\n').at(-1))
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
  const losses = entry.cells.map(({ metrics }) => metrics.loss)
  const spread = Math.sqrt(
    losses.reduce((sum, loss) => sum + (loss - mean(losses)) ** 2, 0) / Math.max(1, losses.length - 1),
  )
  const one = {
    ...{ name: entry.name, seed, rate, steps, loss: cell.metrics.loss, peer_loss: mean(peer.test_losses) },
    ...{ spread: losses.length > 1 ? spread : null, versions: peer.versions },
    largest_step_difference: Math.max(
      ...peer.train_losses.map((loss, i) => Math.abs(loss - cell.train_losses[i])),
    ),
  }
  found.push({ ...one, difference: one.peer_loss - one.loss })
  if (!options.json)
    console.log(
      `${cell.id}: ${one.loss.toFixed(6)}, by PEFT ${one.peer_loss.toFixed(6)}, difference ${(one.peer_loss - one.loss).toExponential(1)}; spread over ${losses.length} seeds ${spread.toExponential(1)}; losses of steps differ by ${one.largest_step_difference.toExponential(1)} at most`,
    )
}
await model.dispose()
if (options.json) console.log(JSON.stringify(found, null, 2))
