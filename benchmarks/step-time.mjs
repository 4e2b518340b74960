/**
 * The time of a step: what `plan` tells against what a run takes, for ten settings on the demo's model and, where one is
 * named, on another.
 *
 *   npm run build && node benchmarks/step-time.mjs [MODEL] [--steps 6] [--only TEXT] [--json]
 *
 * MODEL is a folder or a .gguf file. The data fills every sequence. A step counts with the less of its time by the clock and
 * its CPU time over the engine's threads, since other processes make either longer; measured is the least of the steps after
 * the first. With LOWRANK_THREADS=1 that holds on a busy machine too.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { loadModel } from '../dist/esm/index.js'
import { addon } from '../dist/esm/native/addon.js'
import { loadConfig, loadQuantization, trainOptions } from '../dist/esm/train/config/config.js'
import { cpuSeconds, median, textRows } from './measure.mjs'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: 'string', default: '6' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const main = fileURLToPath(new URL('../dist/esm/cli/main.js', import.meta.url))
const demo = fileURLToPath(new URL('../demo/base', import.meta.url))

const setting = (name, length, more = {}) => ({
  strategy: { name },
  max_seq_length: length,
  per_device_train_batch_size: 1,
  ...more,
})
const kept = { gradient_checkpointing: false }
const SETTINGS = [
  ['lora, 4 x 128', setting('lora', 128, { per_device_train_batch_size: 4 })],
  ['lora, 512', setting('lora', 512)],
  ['lora, 512, fp32', setting('lora', 512, { precision: 'fp32' })],
  ['lora, 512, int8', setting('lora', 512, { quantization: 'int8' })],
  ['qlora, 512', setting('qlora', 512)],
  ['qlora, 512, activations kept', setting('qlora', 512, kept)],
  ['qlora, 2048', setting('qlora', 2048)],
  ['dora, 512', setting('dora', 512)],
  ['loha, 512, activations kept', setting('loha', 512, kept)],
  ['full, 512', setting('full', 512)],
]

const folder = mkdtempSync(join(tmpdir(), 'lowrank-step-time-'))
const results = []
try {
  for (const [model, name] of [[demo, 'demo'], ...positionals.map((path) => [resolve(path), 'the model'])])
    for (const [what, settings] of SETTINGS.filter(([text]) => text.includes(values.only ?? ''))) {
      const path = join(folder, 'run.yaml')
      const config = {
        ...{ model, dataset: 'rows.jsonl', max_steps: Number(values.steps) + 1, train_on: 'all' },
        ...{ learning_rate: 1e-5, ...settings },
      }
      const rows = textRows(64, config.max_seq_length).map(({ text }) =>
        text.split(' ').slice(0, config.max_seq_length),
      )
      writeFileSync(path, JSON.stringify(config))
      writeFileSync(
        join(folder, 'rows.jsonl'),
        rows.map((words) => JSON.stringify({ text: words.join(' ') })).join('\n'),
      )
      const told = toldBy(path)
      results.push({ model: name, setting: what, told, measured: await measured(path) })
      if (!values.json) print(results.at(-1), results.length === 1)
    }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
if (values.json) console.log(JSON.stringify(results, null, 2))
else {
  const off = results.map(({ told, measured }) => Math.abs(told / measured - 1))
  console.log(`\noff by ${percent(median(off))} in the median, ${percent(Math.max(...off))} at most`)
}

function toldBy(path) {
  const answer = execFileSync(process.execPath, [main, 'plan', path, '--json'], {
    encoding: 'utf8',
  })
  return JSON.parse(answer).time?.seconds_per_step ?? Number.NaN
}

async function measured(path) {
  const config = await loadConfig(path)
  const model = await loadModel(config.model, { ...loadQuantization(config), precision: config.precision })
  const { threads } = addon().cpu()
  try {
    const adapter = await model.attach(config.strategy)
    const seconds = []
    let before = { wall: performance.now() / 1e3, cpu: cpuSeconds() }
    for await (const _ of adapter.train(config.dataset, trainOptions(config))) {
      const now = { wall: performance.now() / 1e3, cpu: cpuSeconds() }
      seconds.push(Math.min(now.wall - before.wall, (now.cpu - before.cpu) / threads))
      before = now
    }
    return Math.min(...seconds.slice(1))
  } finally {
    await model.dispose()
  }
}

function print({ model, setting, told, measured }, first) {
  if (first)
    console.log(
      '| model | setting | told, s | measured, s | told / measured |\n| --- | --- | --: | --: | --: |',
    )
  const cells = [model, setting, told.toPrecision(3), measured.toPrecision(3), (told / measured).toFixed(2)]
  console.log(`| ${cells.join(' | ')} |`)
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`
}
