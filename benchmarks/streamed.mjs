// The anonymous memory of a LoRA run over a base that stays on the disk, on random weights in the shape of a published
// model: what the weights are does not matter for memory.
//
//   npm run build && node benchmarks/streamed.mjs [--shape Qwen2.5-0.5B] [--tokens 256] [--rank 16]
//     [--logits 8MiB] [--state 1MiB] [--offload] [--folder FOLDER]
//
// The model is written to FOLDER (default a temporary one, about a GB for the default shape), with the tokenizer of the demo,
// and the quantized base beside it. The training, `qlora-paged` of `lowrank bench memory`, runs in a process of its own,
// which is read from outside; `--logits` is its logits_memory, and `--state` pages its 8-bit state with so much of it in
// memory. Prints a table, and the same as JSON in the last line. Linux only.
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measuredBars, methodOf } from '../dist/esm/bench/memory.js'
import { pagedAdamW8bit } from '../dist/esm/index.js'
import { writeRandomModel } from './random-model.mjs'

const { values: options } = parseArgs({
  options: {
    shape: { type: 'string', default: 'Qwen2.5-0.5B' },
    tokens: { type: 'string', default: '256' },
    rank: { type: 'string', default: '16' },
    logits: { type: 'string' },
    state: { type: 'string' },
    offload: { type: 'boolean', default: false },
    folder: { type: 'string' },
  },
})
const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'lowrank-streamed-')))
process.env.LOWRANK_WEIGHT_CACHE = join(folder, 'cache')

try {
  if (!existsSync(join(folder, 'model.safetensors'))) await writeRandomModel(options.shape, folder)
  const settings = {
    ...{ rank: Number(options.rank), perDeviceTrainBatchSize: 1, maxSeqLength: Number(options.tokens) },
    ...{ gradientCheckpointing: true, precision: 'auto' },
  }
  const method = {
    ...methodOf('qlora-paged', settings.rank),
    activationOffloading: options.offload,
    ...(options.logits === undefined ? {} : { logitsMemory: options.logits }),
    ...(options.state === undefined ? {} : { optimizer: pagedAdamW8bit({ resident: options.state }) }),
  }
  const [bar] = await measuredBars(folder, [method], settings)
  const { rows, measured } = bar
  const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`
  const inFile = rows.find(({ category }) => category === 'paged_weights').bytes
  const planned = bar.plannedBytes - inFile
  const anonymous = measured.anonymousBytes - measured.idleAnonymousBytes
  const lines = rows.map(({ category, bytes }) => `${category.padEnd(24)} ${mb(bytes).padStart(10)}`)
  console.log(
    [
      `${options.shape}, LoRA of rank ${settings.rank} on all linears, NF4 on the disk, ${settings.maxSeqLength} tokens`,
      ...lines,
      `planned, anonymous: ${mb(planned)}; measured above the idle process: ${mb(anonymous)}, of which ${mb(anonymous - planned)} are not the engine's`,
      `pages of files: ${mb(measured.fileBytes)}`,
    ].join('\n'),
  )
  console.log(
    JSON.stringify({ shape: options.shape, ...settings, rows, planned, anonymous, file: measured.fileBytes }),
  )
} finally {
  if (options.folder === undefined) await rm(folder, { recursive: true })
}
