// The anonymous memory of a LoRA run over a base that stays on the disk, on random weights in the shape of a published
// model: what the weights are does not matter for memory.
//
//   npm run build && node benchmarks/streamed.mjs [--shape Qwen2.5-0.5B] [--tokens 256] [--rank 16]
//     [--logits 8MiB] [--state 1MiB] [--offload] [--folder FOLDER]
//
// The model is written to FOLDER (default a temporary one, about a GB for the default shape), with the tokenizer of the demo,
// and the quantised base beside it. The training, `qlora-paged` of `lowrank bench memory`, runs in a process of its own,
// which is read from outside; `--logits` is its logits_memory, and `--state` pages its 8-bit state with so much of it in
// memory. Prints a table, and the same as JSON in the last line. Linux only.
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writeSafetensors } from '../dist/esm/files/safetensors.js'
import { pagedAdamW8bit } from '../dist/esm/index.js'
import { graphOf } from '../dist/esm/models/index.js'
import { measuredBars, methodOf } from '../dist/esm/report/memory.js'
import { SHAPES } from '../dist/esm/report/shapes.js'

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
const config = SHAPES.get(options.shape)
if (config === undefined)
  throw new Error(`--shape ${options.shape} is not known; expected one of ${[...SHAPES.keys()].join(', ')}`)
const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'lowrank-streamed-')))
process.env.LOWRANK_WEIGHT_CACHE = join(folder, 'cache')

/** Small random numbers in bf16, either sign, as many as the largest rows; tensors repeat them from other places. */
const NOISE = Uint16Array.from({ length: 1 << 20 }, (_, i) => {
  const hash = Math.imul(i ^ (i >>> 15), 0x2c1b3c6d) ^ Math.imul(i, 0x297a2d39)
  return 0x3c00 + ((hash >>> 8) & 0x7f) + (hash & 0x80 ? 0x8000 : 0) // 0.0078 to 0.0156
})

async function* randomBf16(count, seed) {
  for (let done = 0; done < count; done += NOISE.length) {
    const block = NOISE.slice(0, Math.min(NOISE.length, count - done))
    const turn = (seed * 7919 + done) % block.length
    block.set(NOISE.subarray(turn, turn + block.length - turn), 0)
    yield new Uint8Array(block.buffer)
  }
}

function* constantBf16(count, bits) {
  yield new Uint8Array(new Uint16Array(count).fill(bits).buffer)
}

async function writeModel() {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  const demo = new URL('../demo/base/', import.meta.url)
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(new URL(name, demo), join(folder, name))
  const tensors = graphOf(config).weights.map(({ name, rows, cols, kind }, index) => ({
    name,
    dtype: 'BF16',
    shape: kind === 'vector' ? [rows * cols] : [rows, cols],
    data: () =>
      kind !== 'vector'
        ? randomBf16(rows * cols, index)
        : constantBf16(rows * cols, name.endsWith('bias') ? 0 : 0x3f80),
  }))
  await writeSafetensors(join(folder, 'model.safetensors'), tensors)
}

try {
  if (!existsSync(join(folder, 'model.safetensors'))) await writeModel()
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
