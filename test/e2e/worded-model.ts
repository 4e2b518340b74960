/** Tiny models with the small real tokenizers of the parity tests, so that other programs can load what is made of them. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readSafetensorsHeader, readTensor, writeSafetensors } from '../../lib/formats/safetensors.js'
import { openModelFiles } from '../../lib/models/index.js'
import { float32Bytes, toFloat32 } from '../../lib/peft/floats.js'
import { scratchFolder } from '../lib/scratch.js'

const parity = fileURLToPath(new URL('../parity/', import.meta.url))

interface Golden {
  tokenizer: { model: { vocab: Record<string, number> }; added_tokens: { id: number; content: string }[] }
  config: Record<string, string | null>
}

const tokenizers = JSON.parse(readFileSync(join(parity, 'tokenizer_small.json'), 'utf8'))
  .tokenizers as Record<string, Golden>

/** Texts that tokenizers are prone to get wrong. */
export const awkwardTexts = JSON.parse(
  readFileSync(join(parity, 'tokenizer_strings.json'), 'utf8'),
) as string[]

/** Normal numbers, the same ones every time. */
function normals(count: number, deviation: number): Float32Array {
  let state = 12345
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Float32Array.from(
    { length: count },
    () => deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  )
}

/** A folder with the blocks of a parity model, and an embedding and a head for the vocabulary of a tokenizer. */
export async function wordedModel(
  model: string,
  tokenizer: string,
  more: Record<string, unknown> = {},
): Promise<string> {
  const { tokenizer: json, config: roles } = tokenizers[tokenizer] as Golden
  const ids = [...Object.values(json.model.vocab), ...json.added_tokens.map(({ id }) => id)]
  const idOf = (token: string | null | undefined) =>
    json.added_tokens.find(({ content }) => content === token)?.id ?? null
  // Embeddings have more rows than there are tokens, in many models.
  const rows = Math.max(...ids) + 8
  const source = join(parity, 'models', model)
  const folder = join(scratchFolder(), `${model}-${tokenizer}`)
  mkdirSync(folder)
  const { config } = await openModelFiles(source)
  const settings = {
    ...config,
    vocab_size: rows,
    max_position_embeddings: 512,
    bos_token_id: idOf(roles.bos_token),
    eos_token_id: idOf(roles.eos_token),
    ...more,
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(settings))
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json))
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(roles))
  const header = await readSafetensorsHeader(join(source, 'model.safetensors'))
  const tensors = [...header.tensors.values()].map(({ name, dtype, shape }) => {
    const wide = /embed_tokens|lm_head/.test(name)
    const data = async () => {
      if (wide) return float32Bytes(normals(rows * (shape[1] as number), 0.3))
      return float32Bytes(toFloat32(dtype, await readTensor(header, name), name))
    }
    return { name, dtype: 'F32' as const, shape: wide ? [rows, shape[1] as number] : shape, data }
  })
  await writeSafetensors(join(folder, 'model.safetensors'), tensors)
  return folder
}
