// A model folder with random bf16 weights in the shape of a published model: for speed and memory it does not matter what
// the weights are. Norms are ones and biases zeros.
//
//   npm run build && node benchmarks/random-model.mjs Qwen2.5-0.5B FOLDER
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeSafetensors } from '../dist/esm/formats/safetensors.js'
import { graphOf } from '../dist/esm/models/index.js'
import { SHAPES } from '../dist/esm/models/shapes.js'

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

/** Writes a folder with random weights in the shape of a model of `SHAPES`, and the demo's tokenizer. */
export async function writeRandomModel(shape, folder) {
  const config = SHAPES.get(shape)
  if (config === undefined)
    throw new Error(`${shape} is not a known shape; expected one of ${[...SHAPES.keys()].join(', ')}`)
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

if (import.meta.filename === process.argv[1]) {
  const [shape, folder] = process.argv.slice(2)
  if (folder === undefined)
    throw new Error('name a shape and a folder: node benchmarks/random-model.mjs SHAPE FOLDER')
  await writeRandomModel(shape, folder)
}
