/**
 * Translates a GGUF file to Hugging Face conventions: config.json keys, tensor names, and row-major shapes. Files of
 * the `llama` architecture store query and key rows in a different order (pairs of rotary dimensions adjacent); such
 * tensors are marked and reordered when loaded.
 */

import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { GgufHeader, GgufTensor } from './gguf.js'
import type { GgufForm, GgufForms } from './gguf-form.js'
import { GgufKeys } from './gguf-metadata.js'
import { huggingFaceName, LONG_FACTORS, ROPE_FACTORS } from './gguf-names.js'
import { KV_HEADS, perLayer, ropeScaling } from './gguf-reading.js'
import { LARGEST_SIZES } from './model-limits.js'
import { GGUF_DTYPES, type SourceDtype, type TensorSource } from './tensor-source.js'

export interface GgufModel {
  config: Record<string, unknown>
  /** By Hugging Face name. */
  tensors: Map<string, TensorSource>
  /** Divisors of the rotary frequencies, `[head_dim / 2]`. */
  ropeFactors?: TensorSource
  /** LongRoPE divisors by their config key; the config lacks them. */
  longFactors: Map<string, TensorSource>
}

/** Written by old converters and ignored by all readers. */
const IGNORED = /^blk\.\d+\.attn_rot_embd(\.weight)?$/

/**
 * Translates a parsed header.
 * @throws UnsupportedError for another architecture, an adapter, a mixture of experts, or a tensor type that cannot be
 * loaded; FileFormatError when keys or tensors are missing or contradict each other.
 */
export function translateGguf(
  header: Pick<GgufHeader, 'path' | 'metadata' | 'tensors'>,
  forms: GgufForms,
): GgufModel {
  const { path } = header
  const general = new GgufKeys(path, header.metadata, 'general.')
  const type = general.text('type')
  if (type !== undefined && type !== 'model') {
    const advice = type === 'adapter' ? ': pass the base model, and load the adapter on top of it' : ''
    throw new UnsupportedError(`${path} holds a GGUF file of type ${quote(type)}, not a model${advice}`, {
      path,
      type,
    })
  }
  const name = general.required('architecture', general.text('architecture'))
  const form = forms.get(name)
  if (form === undefined) {
    const known = [...forms].map(([key, { models }]) => `"${key}" (${models})`).join(', ')
    throw new UnsupportedError(
      `${path} has the architecture ${quote(name)}, which is not supported. Supported architectures: ${known}`,
      { path, architecture: name, supported: [...forms.keys()] },
    )
  }
  const keys = new GgufKeys(path, header.metadata, `${name}.`)
  if ((keys.integer('expert_count') ?? 0) > 0) {
    throw new UnsupportedError(
      `${path} is a mixture of experts (${name}.expert_count), which is not supported`,
      { path },
    )
  }
  refuseUnknownTypes(path, header.tensors)
  const config = readConfig(keys, form, header.tensors)
  const model: GgufModel = { config, tensors: new Map(), longFactors: new Map() }
  const longFactors = new Map(Object.entries(LONG_FACTORS).map(([key, name]) => [name, key]))
  const layers = config.num_hidden_layers as number
  for (const tensor of header.tensors) {
    if (IGNORED.test(tensor.name)) continue
    if (form.skips && Number(/^blk\.(\d+)\./.exec(tensor.name)?.[1] ?? -1) >= layers) continue
    const factors = form.may?.rotatePart ? longFactors.get(tensor.name) : undefined
    if (tensor.name === ROPE_FACTORS) model.ropeFactors = ropeFactors(path, tensor, config)
    else if (factors !== undefined) model.longFactors.set(factors, ropeFactors(path, tensor, config))
    else addTensor(model, path, tensor, form)
  }
  return model
}

function refuseUnknownTypes(path: string, tensors: readonly GgufTensor[]): void {
  const refused = new Map<string, string>()
  for (const { name, type } of tensors) {
    if (!GGUF_DTYPES.has(type.name)) refused.set(type.name, refused.get(type.name) ?? name)
  }
  if (refused.size === 0) return
  const list = [...refused].map(([type, name]) => `${type} (${quote(name)})`).join(', ')
  throw new UnsupportedError(
    `${path} has tensors of the types ${list}; ${[...GGUF_DTYPES].join(', ')} are supported; use a file with one of these types`,
    { path, types: [...refused.keys()] },
  )
}

function readConfig(keys: GgufKeys, form: GgufForm, tensors: readonly GgufTensor[]): Record<string, unknown> {
  const names = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const need = (key: string) => keys.required(key, keys.integer(key, 1))
  const hidden = need('embedding_length')
  const layers = need('block_count') - (form.skips?.(keys) ?? 0)
  const heads = perLayer(keys, 'attention.head_count')
  const headDim =
    keys.integer('attention.key_length', 1) ?? hidden / keys.required('attention.head_count', heads)
  const epsilon = 'attention.layer_norm_rms_epsilon'
  checkHeadSizes(keys, headDim, form)
  const config: Record<string, unknown> = {
    vocab_size: vocabularySize(keys, names.get('token_embd.weight')),
    hidden_size: hidden,
    intermediate_size: keys.required('feed_forward_length', perLayer(keys, 'feed_forward_length')),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: perLayer(keys, KV_HEADS, form.may?.lackHeads) ?? heads,
    head_dim: headDim,
    hidden_act: 'silu',
    rms_norm_eps: keys.required(epsilon, keys.number(epsilon)),
    max_position_embeddings: need('context_length'),
    rope_theta: keys.number('rope.freq_base') ?? 10_000,
    rope_scaling: ropeScaling(keys),
    tie_word_embeddings: !names.has('output.weight'),
    ...form.config(keys, names),
  }
  const tokenizer = new GgufKeys(keys.path, keys.metadata, 'tokenizer.ggml.')
  const optional: [string, number | undefined][] = [
    ['bos_token_id', tokenizer.integer('bos_token_id')],
    ['eos_token_id', tokenizer.integer('eos_token_id')],
    ['pad_token_id', tokenizer.integer('padding_token_id')],
  ]
  for (const [key, value] of optional) if (value !== undefined) config[key] = value
  refuseLargeSizes(keys.path, config)
  return config
}

function refuseLargeSizes(path: string, config: Record<string, unknown>): void {
  for (const [key, most] of Object.entries(LARGEST_SIZES)) {
    const value = config[key] as number | undefined
    if (value === undefined || value <= most) continue
    throw new FileFormatError(
      `${path}: its metadata gives a ${key} of ${value}; at most ${most} is supported`,
      { path, key, value },
    )
  }
}

function checkHeadSizes(keys: GgufKeys, headDim: number, { may }: GgufForm): void {
  if (!Number.isSafeInteger(headDim) || headDim % 2 !== 0) {
    throw new FileFormatError(`${keys.path}: the head size is ${headDim}; expected an even integer`, {
      path: keys.path,
      headDim,
    })
  }
  for (const key of ['attention.value_length', ...(may?.rotatePart ? [] : ['rope.dimension_count'])]) {
    const value = keys.integer(key) ?? headDim
    if (value !== headDim) {
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}${key} is ${value}, which differs from the head size ${headDim}`,
        { path: keys.path, key: keys.prefix + key },
      )
    }
  }
}

/** Number of embedding rows (the key may be absent), which must cover all token ids of the tokenizer. */
function vocabularySize(keys: GgufKeys, embedding: GgufTensor | undefined): number {
  const { path } = keys
  if (!embedding) throw new FileFormatError(`${path} lacks the tensor token_embd.weight`, { path })
  const rows = embedding.dims[1] ?? 1
  const tokens = new GgufKeys(path, keys.metadata).stringCount('tokenizer.ggml.tokens') ?? 0
  if (tokens > rows) {
    throw new FileFormatError(`${path} has ${tokens} tokens, but its embedding has ${rows} rows`, {
      path,
      tokens,
      rows,
    })
  }
  return rows
}

function ropeFactors(path: string, tensor: GgufTensor, config: Record<string, unknown>): TensorSource {
  const { head_dim: headDim, partial_rotary_factor: part = 1 } = config as Record<string, number>
  const expected = Math.round((headDim as number) * part) / 2
  if (tensor.type.name !== 'F32' || tensor.dims.length !== 1 || tensor.dims[0] !== expected) {
    throw new FileFormatError(
      `${path}: ${tensor.name} is ${tensor.type.name} [${tensor.dims}], expected F32 [${expected}]`,
      { path },
    )
  }
  return source(path, tensor, tensor.name, tensor.dims)
}

function addTensor(model: GgufModel, path: string, tensor: GgufTensor, form: GgufForm): void {
  const { config, tensors } = model
  const { names } = form
  const name = huggingFaceName(tensor.name, config.num_hidden_layers as number, names)
  if (name === undefined || form.lacks.test(name)) {
    throw new UnsupportedError(
      `${path} has the tensor ${quote(tensor.name)}, which no model of its architecture (${form.models}) has`,
      {
        path,
        tensor: tensor.name,
      },
    )
  }
  const vector =
    /(\.bias|norm\.weight)$/.test(name) || names.vectors?.some(([, ending]) => name.endsWith(ending))
  // Writers drop trailing dimensions of 1, so a one-row matrix is stored as a vector.
  const dims = !vector && tensor.dims.length === 1 ? [...tensor.dims, 1] : tensor.dims
  const shape = [...dims].reverse()
  if (names.filters?.some((filter) => name.endsWith(`.${filter}.weight`))) shape.splice(1, 0, 1)
  const entry = source(path, tensor, name, shape)
  const sizes = { heads: config.num_attention_heads as number, kvHeads: config.num_key_value_heads as number }
  Object.assign(entry, form.stored?.(name, { ...sizes, ...form.sizes?.(config) }))
  const heads = entry.permutedHeads
  if (heads !== undefined && entry.shape[0] !== heads * (config.head_dim as number)) {
    throw new FileFormatError(
      `${path}: ${quote(tensor.name)} has ${entry.shape[0]} rows, but ${heads} heads of ${config.head_dim} need ${heads * (config.head_dim as number)}`,
      { path, tensor: tensor.name },
    )
  }
  tensors.set(name, entry)
}

function source(path: string, tensor: GgufTensor, name: string, shape: number[]): TensorSource {
  const { offset, bytes, type } = tensor
  return { name, file: path, offset, bytes, dtype: type.name as SourceDtype, shape }
}
