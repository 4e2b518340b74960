// The learning rate of every strategy: held-out loss after a fixed number of steps, over rates half a decade apart.
//
//   npm run build && node benchmarks/rates.mjs MODEL [--name demo] [--strategies lora,vera] [--steps 60,300]
//     [--sst2 FOLDER] [--held-out-rows 64] [--batch 4] [--length 128] [--seeds 42] [--from 1e-3]
//     [--results benchmarks/results/rates.json]
//
// MODEL is a folder or a .gguf file. The task is the demo's, or with --sst2, a folder with train.tsv and dev.tsv of sentences
// and labels, SST-2 as plain text. A strategy trains with all its defaults, at the defaults of a run but for the size of
// a batch. The search begins at --from, else at the best rate known of the strategy, or at 1e-3, and moves on by half a
// decade until the best rate has a worse one on either side. A rate's loss is the mean over all seeds; a seed draws the
// order of rows and the first values. Each result is written as soon as it is there, and is not measured again: run the
// same command to go on after an interruption. At the end the table of all results is printed.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel } from '../dist/esm/index.js'
import { listStrategies, rulesOf, strategyFrom } from '../dist/esm/strategies/index.js'
import { table } from '../scripts/markdown.mjs'
import { laboratory } from './laboratory/load.mjs'

const { sst2 } = await laboratory('tasks')
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: 'string' },
    strategies: { type: 'string' },
    steps: { type: 'string', default: '60' },
    sst2: { type: 'string' },
    'held-out-rows': { type: 'string', default: '64' },
    batch: { type: 'string', default: '4' },
    length: { type: 'string', default: '128' },
    seeds: { type: 'string', default: '42' },
    from: { type: 'string' },
    results: { type: 'string', default: 'benchmarks/results/rates.json' },
  },
})
if (positionals.length !== 1) throw new Error('name one model: node benchmarks/rates.mjs MODEL')
const [path] = positionals
const name = options.name ?? basename(path).replace(/\.gguf$/, '')
const batch = Number(options.batch)
const seeds = options.seeds.split(',').map(Number)
const TASK_SEED = 42 // which rows of SST-2 there are
const [HALF_DECADES_LOW, HALF_DECADES_HIGH] = [-12, 2]

// Clients are needed for private training. The noise is that of a large population, since that of a small one drowns
// every rate.
const PRIVATE = {
  clients: { partition: 'iid', count: 1000 },
  targetEpsilon: 8,
  cohort: 8,
  simulation: { population: 1_000_000, cohort: 5000 },
}

const readRows = (file) =>
  readFileSync(new URL(`../demo/${file}`, import.meta.url), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
const task =
  options.sst2 === undefined
    ? { train: readRows('train.jsonl'), test: readRows('test.jsonl') }
    : await sst2(options.sst2, { clients: 1, rowsPerClient: 1e5, testRows: 1e5 }, TASK_SEED)
const heldOut = task.test.slice(0, Number(options['held-out-rows']))

const results = existsSync(options.results) ? JSON.parse(readFileSync(options.results, 'utf8')) : []
const setting = {
  model: name,
  task: options.sst2 === undefined ? 'demo' : 'sst2',
  batch,
  length: Number(options.length),
}
const isHere = (cell) => Object.entries(setting).every(([key, value]) => cell[key] === value)

/** 1e-4 for -8, 3e-4 for -7. */
const rateAt = (half) => Number(half % 2 === 0 ? `1e${half / 2}` : `3e${(half - 1) / 2}`)
const halfOf = (rate) => {
  const decade = Math.floor(Math.log10(rate) + 1e-9)
  return 2 * decade + (rate / 10 ** decade > 2 ? 1 : 0)
}

let model
let held
async function modelHeld(quantization) {
  if (held === quantization) return model
  await model?.dispose()
  model = await loadModel(path, { quantization, precision: 'fp32' })
  held = quantization
  return model
}

const shape = {
  maxSeqLength: setting.length,
  perDeviceTrainBatchSize: batch,
  packing: false,
  // Sentences and labels are text to go on with, no turns.
  ...(options.sst2 === undefined ? {} : { chatTemplate: false }),
}
const lossOf = async (base) => (await base.evaluate(heldOut, { ...shape, perDeviceTrainBatchSize: 4 })).loss

/** Held-out loss after a run; null where it diverged. */
async function measure(strategy, rate, steps, seed) {
  const config = strategyFrom({
    name: strategy,
    ...(strategy === 'dp-dylora' ? { ...PRIVATE, rounds: steps } : {}),
  })
  const base = await modelHeld(rulesOf(config).defaults(config).quantization?.type ?? 'none')
  const run = { ...shape, learningRate: rate, gradientCheckpointing: false, seed }
  const adapter = await base.attach(await base.probe(config, task.train, run), { seed })
  try {
    // The steps of private training are its rounds.
    const maxSteps = strategy === 'dp-dylora' ? null : steps
    for await (const _ of adapter.train(task.train, { ...run, maxSteps }));
    return await lossOf(base)
  } catch (error) {
    if (error.code === 'DIVERGED') return null
    throw error
  } finally {
    await adapter.detach()
  }
}

/** The losses by rate of a strategy in runs of so many steps. */
function searchOf(strategy, steps) {
  const key = { ...setting, strategy, steps }
  const known = results.find((one) => Object.entries(key).every(([name, value]) => one[name] === value))
  if (known !== undefined) return known
  const made = { ...key, before: baseline.get(strategy === 'qlora'), losses: {} }
  results.push(made)
  return made
}

/** Mean loss of a rate over the seeds that it was measured with; infinite where a run diverged. */
function meanOf(bySeed) {
  const losses = Object.values(bySeed).map((loss) => loss ?? Number.POSITIVE_INFINITY)
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length
}

async function lossAt(found, half) {
  const { strategy, steps, before, losses } = found
  const rate = rateAt(half)
  losses[rate] ??= {}
  for (const seed of seeds) {
    if (losses[rate][seed] !== undefined) continue
    const started = performance.now()
    const loss = await measure(strategy, rate, steps, seed)
    losses[rate][seed] = loss === null ? null : Number(loss.toFixed(4))
    found.losses = Object.fromEntries(Object.entries(losses).toSorted(([a], [b]) => Number(a) - Number(b)))
    writeFileSync(options.results, `${JSON.stringify(results, null, 2)}\n`)
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    console.error(
      `${name} ${strategy} ${steps} steps at ${rate}, seed ${seed}: ${before} -> ${losses[rate][seed]} (${seconds} s)`,
    )
  }
  return meanOf(losses[rate])
}

/** The rate with the lowest loss, as half decades. */
function bestOf({ losses }) {
  const [[rate]] = Object.entries(losses).toSorted(([, a], [, b]) => meanOf(a) - meanOf(b))
  return halfOf(Number(rate))
}

/** Measures rates until the best one has a worse one on either side. */
async function search(strategy, steps) {
  const others = results.filter((one) => one.strategy === strategy && Object.keys(one.losses).length > 0)
  // Searches on the same model and of the same length tell most.
  const nearness = (one) => 2 * (isHere(one) ? 1 : 0) + (one.steps === steps ? 1 : 0)
  const [nearest] = others.toSorted((a, b) => nearness(b) - nearness(a))
  let at = halfOf(Number(options.from ?? 1e-3))
  if (options.from === undefined && nearest !== undefined) at = bestOf(nearest)
  const found = searchOf(strategy, steps)
  let loss = await lossAt(found, at)
  for (const direction of [1, -1]) {
    let moved = false
    while (at + direction >= HALF_DECADES_LOW && at + direction <= HALF_DECADES_HIGH) {
      const next = await lossAt(found, at + direction)
      if (next >= loss) break
      at += direction
      loss = next
      moved = true
    }
    if (moved) break
  }
}

/** Loss of the untrained model, as NF4 for qlora or as it is. */
const baseline = new Map()

const names = options.strategies?.split(',') ?? [
  ...listStrategies()
    .map(({ name }) => name)
    .filter((name) => name !== 'qlora'),
  'full',
  'qlora',
]
for (const strategy of names) {
  const nf4 = strategy === 'qlora'
  if (!baseline.has(nf4)) {
    const known = results.find((one) => isHere(one) && (one.strategy === 'qlora') === nf4)
    baseline.set(
      nf4,
      known?.before ?? Number((await lossOf(await modelHeld(nf4 ? 'nf4' : 'none'))).toFixed(4)),
    )
  }
  for (const steps of options.steps.split(',').map(Number)) await search(strategy, steps)
}
await model?.dispose()

const rates = [...new Set(results.flatMap(({ losses }) => Object.keys(losses)))].toSorted((a, b) => a - b)
const rows = results.map(({ strategy, model, task, steps, before, losses }) => {
  const lowest = Math.min(...Object.values(losses).map(meanOf))
  const text = (rate) => {
    if (losses[rate] === undefined) return ''
    const loss = meanOf(losses[rate])
    const shown = Number.isFinite(loss) ? loss.toFixed(3) : 'diverged'
    return loss === lowest ? `**${shown}**` : shown
  }
  return [strategy, model, task, steps, before.toFixed(3), ...rates.map(text)]
})
console.log(table(['strategy', 'model', 'task', 'steps', 'before', ...rates], rows))
