/**
 * The memory of whole training processes: what `plan` tells against what the kernel counts (VmHWM, from the start of the
 * process to its end), for fifteen settings.
 *
 *   node benchmarks/process-memory.mjs MODEL [--json]
 *
 * The data fills every sequence, so that steps touch what is planned for them. Build first (npm run build).
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { positionals, values } = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' } } })
const [model] = positionals
if (model === undefined) throw new Error('name a model folder or a .gguf file')

const named = (name, more = {}) => ({ strategy: { name }, ...more })
const long = { max_seq_length: 512 }
const SETTINGS = [
  ['lora', named('lora')],
  ['lora, 512 tokens', named('lora', long)],
  ['lora, activations kept', named('lora', { gradient_checkpointing: false, max_seq_length: 256 })],
  ['lora, base in int8', named('lora', { quantization: 'int8' })],
  ['lora, base paged', named('lora', { paged_weights: true })],
  ['qlora', named('qlora')],
  ['qlora, 512 tokens', named('qlora', long)],
  ['qlora, 8-bit state', named('qlora', { optimizer: 'adamw_8bit' })],
  ['qlora, activations on the disk', named('qlora', { ...long, activation_offloading: true })],
  ['dora', named('dora')],
  ['adalora', named('adalora')],
  ['loha', named('loha')],
  ['vera', named('vera')],
  ['full, 8-bit state', named('full', { optimizer: 'adamw_8bit' })],
  ['full, paged state', named('full', { optimizer: 'paged_adamw' })],
]

const main = fileURLToPath(new URL('../dist/esm/cli/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'lowrank-process-memory-'))
const lowrank = (...args) =>
  execFileSync(process.execPath, [main, ...args, '--json'], { cwd: folder, encoding: 'utf8', stdio: 'pipe' })
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

const words = 'alpha beta gamma delta epsilon zeta eta theta iota kappa'.split(' ')
const text = (row) =>
  Array.from({ length: 600 }, (_, i) => words[(i * 7 + row * 3 + (i >> 3)) % 10]).join(' ')
writeFileSync(
  join(folder, 'rows.jsonl'),
  Array.from({ length: 24 }, (_, row) => JSON.stringify({ text: text(row) })).join('\n'),
)

const results = []
try {
  for (const [name, settings] of SETTINGS) {
    const config = {
      ...{
        model: resolve(model),
        dataset: 'rows.jsonl',
        eval_fraction: 0.1,
        precision: 'fp32',
        max_steps: 4,
      },
      ...{ save_steps: 2, per_device_train_batch_size: 1, max_seq_length: 128, learning_rate: 1e-4 },
      ...settings,
      output_dir: 'out',
    }
    rmSync(join(folder, 'out'), { recursive: true, force: true })
    writeFileSync(join(folder, 'run.yaml'), JSON.stringify(config))
    const [{ peak_bytes: planned, process: told }] = lowrank('plan', 'run.yaml')
    const measured = lowrank('train', 'run.yaml').find(({ event }) => event === 'done').peak_rss_bytes
    results.push({ name, planned_bytes: planned, told_bytes: told.bytes, measured_bytes: measured })
    if (!values.json) print(results.at(-1), results.length === 1)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
if (values.json) console.log(JSON.stringify(results, null, 2))
else console.log(`\n${results.filter(isNear).length} of ${results.length} within 5 % or 8 MiB`)

function isNear({ told_bytes: told, measured_bytes: measured }) {
  return Math.abs(told - measured) <= Math.max(0.05 * measured, 8 * 2 ** 20)
}

function print({ name, planned_bytes: planned, told_bytes: told, measured_bytes: measured }, first) {
  const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1)
  if (first)
    console.log(
      '| setting | planned, MiB | told | measured | told / measured |\n| --- | --: | --: | --: | --: |',
    )
  const ratio = (told / measured).toFixed(3)
  console.log(`| ${name} | ${mebibytes(planned)} | ${mebibytes(told)} | ${mebibytes(measured)} | ${ratio} |`)
}
