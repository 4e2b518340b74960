import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeSafetensors } from '../../lib/formats/safetensors.js'
import { graphOf } from '../../lib/models/index.js'
import { measure } from './measure.js'

const folder = mkdtempSync(join(tmpdir(), 'lowrank-loading-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const config = {
  model_type: 'llama',
  vocab_size: 8192,
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 16,
  num_attention_heads: 8,
  tie_word_embeddings: true,
}

/** A bf16 folder of 71 M weights; their values do not matter, so one tensor's bytes serve for all. */
async function writeFolder(): Promise<number> {
  const largest = new Uint8Array(2 * config.vocab_size * config.hidden_size)
  for (let i = 0; i < largest.length; i += 2) {
    largest[i] = (i * 37) & 255
    largest[i + 1] = i & 2 ? 0x3c : 0xbc // about ±0.01
  }
  const weights = graphOf(config).weights
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    weights.map(({ name, rows, cols, kind }) => ({
      name,
      dtype: 'BF16',
      shape: kind === 'vector' ? [cols] : [rows, cols],
      data: largest.subarray(0, 2 * rows * cols),
    })),
  )
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const layer = weights.filter(({ name }) => name.startsWith('model.layers.0.'))
  return layer.reduce((sum, { rows, cols }) => sum + 2 * rows * cols, 0)
}

describe('loading a folder into NF4', () => {
  it('never needs more than the quantized model and two layers as stored', async () => {
    const layerBytes = await writeFolder()
    const { before, loadPeak, allocated } = await measure(folder)
    const held = allocated.weights + allocated.quantization_constants // with the embedding, in bf16
    expect(held).toBeLessThan(50e6)
    expect(loadPeak - before).toBeLessThan(held + 2 * layerBytes)
  })
})
