/**
 * Models of every family with an adapter merged in, as folders: from a folder, and from a GGUF file of the same model.
 * With LOWRANK_MERGED_FOLDERS, the folders stay there with our logits, and check_merged.py loads them with transformers
 * (scripts/families.mjs does both). Without Python, the configs are held to the spelling of their numbers.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeSafetensors } from '../../lib/formats/safetensors.js'
import { loadModel } from '../../lib/model/load.js'
import type { Model } from '../../lib/model/model.js'
import { float32Bytes } from '../../lib/peft/floats.js'
import { lora } from '../../lib/strategies/lora.js'
import { tinyModel } from '../e2e/tiny-model.js'
import { scratchFolder } from '../lib/scratch.js'
import { ints, parity, readGolden } from './engine.js'

const root = process.env.LOWRANK_MERGED_FOLDERS ?? scratchFolder()
const models = readdirSync(join(parity, 'models'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

/** Variants of families that GGUF files have no keys for, with what the error names. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  gemma_odd: /attention_bias is true, expected false/,
  gemma3_window: /attention_bias is true, expected false/,
  granite4_nope: /head_dim is 20, expected hidden_size \/ num_attention_heads, 72 \/ 6,/,
  granite_odd: /head_dim is 20, expected hidden_size \/ num_attention_heads, 64 \/ 6,/,
  lfm2_odd: /conv_bias is true, expected false/,
  llama3: /its rope_freqs\.weight does not follow Llama 3's scaling/,
  ministral3_window: /sliding_window is 10, expected null/,
  squared: /hidden_act is "relu2", expected "silu"/,
  olmo2_odd: /head_dim is 20, expected hidden_size \/ num_attention_heads, 64 \/ 6,/,
  olmo3_window: /head_dim is 20, expected hidden_size \/ num_attention_heads, 64 \/ 6,/,
  qwen2_window: /sliding_window is 10, expected it to be absent/,
  qwen3_5_odd: /attention_bias is true, expected false/,
  qwen3_window: /attention_bias is true, expected false/,
  smollm3_window:
    /sliding_window is 10, expected null; use_sliding_window is true, expected false; layer_types is .*, expected it to be absent/,
}

/** Merges an adapter into a model; the folder gets the logits of model and adapter beside it. */
async function merged(path: string, output: string, tokens: Int32Array): Promise<string> {
  const model = await loadModel(path, { precision: 'fp32' })
  try {
    const adapter = await model.attach(lora({ r: 4, loraAlpha: 8, targetModules: 'all-linear' }))
    for (const { name } of adapter.state.description.factors)
      if (name.includes('lora_B')) adapter.state.native.fill(name, { kind: 'normal', std: 0.1, seed: 5 })
    mkdirSync(output, { recursive: true })
    await adapter.merge(join(output, 'model'), { dtype: 'f32', check: false, force: true })
    await writeLogits(join(output, 'logits.safetensors'), model, tokens)
  } finally {
    await model.dispose()
  }
  return readFileSync(join(output, 'model/config.json'), 'utf8')
}

async function writeLogits(path: string, model: Model, tokens: Int32Array): Promise<void> {
  const logits = await model.logits(tokens)
  const shape = [tokens.length, logits.length / tokens.length]
  await writeSafetensors(path, [
    { name: 'input_ids', dtype: 'I32', shape: [tokens.length], data: new Uint8Array(tokens.buffer) },
    { name: 'logits', dtype: 'F32', shape, data: float32Bytes(logits) },
  ])
}

async function firstSequence(name: string): Promise<Int32Array> {
  const golden = await readGolden(`golden/${name}.safetensors`)
  return ints(golden, 'input_ids').slice(0, ints(golden, 'cu_seqlens')[1])
}

describe.each(models)('%s with an adapter merged in', (name) => {
  it('has the config of its folder, character by character but for the dtype', async () => {
    const config = await merged(tinyModel(name), join(root, name, 'folder'), await firstSequence(name))
    const own = readFileSync(join(parity, 'models', name, 'config.json'), 'utf8')
    expect(config).toBe(own.replace(/"dtype": "\w+"/, '"dtype": "float32"'))
  })

  it('from a GGUF file has every special token or none, and floats as floats', async () => {
    const written = asGguf(name).then(async (file) =>
      merged(file, join(root, name, 'gguf'), await firstSequence(name)),
    )
    const refused = REFUSED[name]
    if (refused !== undefined) {
      await expect(written).rejects.toThrow(refused)
      return
    }
    const config = await written
    for (const role of ['bos', 'eos', 'pad'])
      expect(config).toMatch(new RegExp(`"${role}_token_id": (\\d+|null)`))
    expect(config).toMatch(/"rope_theta": \d+\.\d/)
  })
})

/** The model as a GGUF file, without a pad token: for Phi-3, its default lies beyond the vocabulary. */
async function asGguf(name: string): Promise<string> {
  const folder = tinyModel(name)
  const path = join(folder, 'tokenizer_config.json')
  const tokenizer = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify({ ...tokenizer, pad_token: undefined }))
  const model = await loadModel(folder)
  try {
    const file = join(scratchFolder(), `${name}.gguf`)
    return (await model.export(file, { format: 'gguf', dtype: 'f32', check: false })).output
  } finally {
    await model.dispose()
  }
}
