/** Small model folders and GGUF files, correct unless a test changes them. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scratchFolder } from '../scratch.js'
import { type GgufSpec, type TensorSpec, type Value, value } from './gguf-bytes.js'
import { safetensorsBytes } from './safetensors-bytes.js'

/** A safetensors file with one vector per name; the names give the order of the data. */
export function vectors(names: readonly string[], dtype = 'F32', bytesEach = 16): Uint8Array {
  const width = { F32: 4, F16: 2, BF16: 2, F64: 8, I64: 8, I8: 1, U8: 1, F8_E4M3: 1, BOOL: 1 }[dtype] ?? 1
  const entries = names.map((name, i) => {
    return [name, { dtype, shape: [bytesEach / width], data_offsets: [i * bytesEach, (i + 1) * bytesEach] }]
  })
  const data = Uint8Array.from({ length: names.length * bytesEach }, (_, i) => i)
  return safetensorsBytes(JSON.stringify(Object.fromEntries(entries)), data)
}

/** A folder with these files; a name may contain folders. */
export function folderOf(files: Record<string, string | Uint8Array>): string {
  const folder = scratchFolder()
  for (const [name, contents] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), contents)
  }
  return folder
}

export const LLAMA_KEYS: Record<string, Value> = {
  'general.architecture': value.string('llama'),
  'general.type': value.string('model'),
  'llama.context_length': value.number('u32', 128),
  'llama.embedding_length': value.number('u32', 64),
  'llama.block_count': value.number('u32', 2),
  'llama.feed_forward_length': value.number('u32', 96),
  'llama.attention.head_count': value.number('u32', 4),
  'llama.attention.head_count_kv': value.number('u32', 2),
  'llama.attention.layer_norm_rms_epsilon': value.number('f32', 1e-5),
  'llama.rope.freq_base': value.number('f32', 100_000),
  'tokenizer.ggml.tokens': value.strings(['a', 'b', 'c']),
  'tokenizer.ggml.bos_token_id': value.number('u32', 1),
  'tokenizer.ggml.eos_token_id': value.number('u32', 2),
}

const LAYER: [name: string, columns: number, rows: number | undefined][] = [
  ['attn_norm.weight', 64, undefined],
  ['attn_q.weight', 64, 64],
  ['attn_k.weight', 64, 32],
  ['attn_v.weight', 64, 32],
  ['attn_output.weight', 64, 64],
  ['ffn_norm.weight', 64, undefined],
  ['ffn_gate.weight', 64, 96],
  ['ffn_up.weight', 64, 96],
  ['ffn_down.weight', 96, 64],
]

export function llamaTensors(layers = 2): TensorSpec[] {
  const tensors: TensorSpec[] = [
    { name: 'token_embd.weight', dims: [64, 5], type: 8 },
    { name: 'output_norm.weight', dims: [64] },
  ]
  for (let layer = 0; layer < layers; layer++) {
    for (const [name, columns, rows] of LAYER) {
      tensors.push({
        name: `blk.${layer}.${name}`,
        dims: rows === undefined ? [columns] : [columns, rows],
        type: rows === undefined ? 0 : 3,
      })
    }
  }
  return tensors
}

/** Keys and tensors of a two-layer Llama; a key changed to undefined is left out. */
export function llamaGguf(keys: Record<string, Value | undefined> = {}, tensors = llamaTensors()): GgufSpec {
  const entries = Object.entries({ ...LLAMA_KEYS, ...keys })
  return { keys: entries.filter((entry): entry is [string, Value] => entry[1] !== undefined), tensors }
}
