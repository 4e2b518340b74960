/** Readers of GGUF keys that several families share. */
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import type { GgufTensor } from './gguf.js'
import type { GgufKeys } from './gguf-metadata.js'

export const KV_HEADS = 'attention.head_count_kv'
export const QUERY_KEY_NORMS = /\.[qk]_norm\./

/** The config's flags for biases, from the tensors of the first block. */
export const biasesOf = (names: ReadonlyMap<string, GgufTensor>) => ({
  attention_bias: names.has('blk.0.attn_q.bias'),
  mlp_bias: names.has('blk.0.ffn_gate.bias'),
})

/**
 * Layers with a window: from the file's period, its list (true means a window), or the architecture's default period.
 */
export function layerTypes(keys: GgufKeys, period: number): string[] {
  const layers = keys.required('block_count', keys.integer('block_count', 1))
  const key = 'attention.sliding_window_pattern'
  const list = keys.metadata.get(keys.prefix + key)
  const windowed = (layer: number): boolean => {
    if (Array.isArray(list)) return list[layer] === true
    return (layer + 1) % (keys.integer(key, 1) ?? period) !== 0
  }
  if (Array.isArray(list) && (list.length !== layers || list.some((entry) => typeof entry !== 'boolean')))
    throw new FileFormatError(
      `${keys.path}: ${keys.prefix}${key} must be a number or ${layers} times true or false, one for each layer`,
      { path: keys.path },
    )
  return Array.from({ length: layers }, (_, layer) =>
    windowed(layer) ? 'sliding_attention' : 'full_attention',
  )
}

/** The factor that, multiplied by `size` and rounded down, gives `columns`. */
export function shareOf(columns: number, size: number): number {
  const share = columns / size
  return Math.floor(size * share) === columns ? share : (columns + 2 ** -8) / size
}

/** The head size: from its key, else hidden size divided by the number of heads. */
export function headSize(keys: GgufKeys): number {
  const need = (key: string) => keys.required(key, keys.integer(key, 1))
  return keys.integer('attention.key_length', 1) ?? need('embedding_length') / need('attention.head_count')
}

/** The window size; undefined if there is none (zero) or it covers the whole context. */
export function windowOf(keys: GgufKeys): number | undefined {
  const window = keys.integer('attention.sliding_window') ?? 0
  const length = keys.integer('context_length', 1) ?? Number.POSITIVE_INFINITY
  return window === 0 || window >= length ? undefined : window
}

/** @throws {UnsupportedError} for a window that may apply only to some layers */
export function refuseWindow(keys: GgufKeys): void {
  const window = windowOf(keys)
  if (window === undefined) return
  throw new UnsupportedError(
    `${keys.path}: ${keys.prefix}attention.sliding_window is ${window}, but the file does not say which layers have the window; use the Hugging Face folder`,
    { path: keys.path, window },
  )
}

/**
 * A value given once or per layer; a config cannot express differences between layers.
 * @param skipsZeros true if layers may lack what is counted
 */
export function perLayer(keys: GgufKeys, key: string, skipsZeros = false): number | undefined {
  if (typeof keys.metadata.get(keys.prefix + key) !== 'object') return keys.integer(key, 1)
  const all = Array.from(keys.required(key, keys.numbers(key)))
  const values = skipsZeros ? all.filter((value) => value !== 0) : all
  const first = values[0]
  if (first === undefined || !Number.isSafeInteger(first) || first < 1) {
    throw new FileFormatError(`${keys.path}: ${keys.prefix}${key} must hold positive integers`, {
      path: keys.path,
      key: keys.prefix + key,
    })
  }
  if (values.some((value) => value !== first)) {
    throw new UnsupportedError(
      `${keys.path}: ${keys.prefix}${key} differs between layers, which is not supported`,
      { path: keys.path, key: keys.prefix + key },
    )
  }
  return first
}

export function ropeScaling(keys: GgufKeys): Record<string, unknown> | null {
  const type = keys.text('rope.scaling.type') ?? (keys.has('rope.scale_linear') ? 'linear' : 'none')
  if (type === 'none') return null
  const factor = keys.number('rope.scaling.factor') ?? keys.number('rope.scale_linear')
  // llama.cpp multiplies the attention factor that YaRN infers by these; config.json only has a key for the product.
  // Converters write the inferred value as `yarn_attn_factor`, which llama.cpp ignores.
  const inferred = 1 + 0.1 * Math.log(factor ?? 1)
  for (const name of ['attn_factor', 'yarn_attn_factor', 'yarn_ext_factor']) {
    const key = `rope.scaling.${name}`
    const value = keys.number(key) ?? 1
    if (name === 'yarn_attn_factor' && type === 'yarn' && Math.abs(value - inferred) < 1e-6) continue
    if (value !== 1)
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}${key} is ${value}; RoPE scaling is supported only if it is 1 or absent`,
        { path: keys.path, key: keys.prefix + key, value },
      )
  }
  const entries: [string, number | undefined][] = [
    ['factor', factor],
    ['original_max_position_embeddings', keys.integer('rope.scaling.original_context_length', 1)],
    ['beta_fast', keys.number('rope.scaling.yarn_beta_fast')],
    ['beta_slow', keys.number('rope.scaling.yarn_beta_slow')],
  ]
  return { rope_type: type, ...Object.fromEntries(entries.filter(([, value]) => value !== undefined)) }
}
