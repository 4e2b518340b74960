/**
 * Translates a GGUF file of the `llama` architecture (Llama, Mistral, SmolLM2, TinyLlama) into the form of a Hugging
 * Face folder: config.json keys, tensor names and row-major shapes. Query and key rows are stored in another order
 * there (pairs of rotary dimensions side by side); such tensors say so and are put right when they are loaded.
 */

import { FileFormatError, UnsupportedError } from '../errors.js'
import type { GgufHeader, GgufTensor } from './gguf.js'
import { GgufKeys } from './gguf-metadata.js'
import { quote } from './input.js'
import { SOURCE_DTYPES, type SourceDtype, type TensorSource } from './tensor-source.js'

export interface GgufModel {
  config: Record<string, unknown>
  /** By Hugging Face name. */
  tensors: Map<string, TensorSource>
  /** Divisors of the rotary frequencies, `[head_dim / 2]`. */
  ropeFactors?: TensorSource
}

const OUTER_NAMES = new Map([
  ['token_embd.weight', 'model.embed_tokens.weight'],
  ['output_norm.weight', 'model.norm.weight'],
  ['output.weight', 'lm_head.weight'],
])

const LAYER_NAMES = new Map([
  ['attn_norm', 'input_layernorm'],
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_norm', 'post_attention_layernorm'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
])

const ROPE_FACTORS = 'rope_freqs.weight'

/** Written by old converters and ignored by every reader. */
const IGNORED = /^blk\.\d+\.attn_rot_embd(\.weight)?$/

/**
 * @throws UnsupportedError for another architecture, an adapter, a mixture of experts, an attention window or a tensor type that
 * cannot be loaded; FileFormatError when keys or tensors are missing or contradict one another.
 */
export function translateGguf(header: GgufHeader): GgufModel {
  const { path } = header
  const keys = new GgufKeys(path, header.metadata)
  const type = keys.text('general.type')
  if (type !== undefined && type !== 'model') {
    const advice =
      type === 'adapter' ? ': name the base model and attach the adapter from its PEFT folder' : ''
    throw new UnsupportedError(`${path} holds a GGUF file of type ${quote(type)}, not a model${advice}`, {
      path,
      type,
    })
  }
  const architecture = keys.required('general.architecture', keys.text('general.architecture'))
  if (architecture !== 'llama') {
    throw new UnsupportedError(
      `${path} has the architecture ${quote(architecture)}; GGUF files of "llama" (Llama, Mistral, SmolLM2, TinyLlama) can be read`,
      { path, architecture },
    )
  }
  if ((keys.integer('llama.expert_count') ?? 0) > 0) {
    throw new UnsupportedError(
      `${path} is a mixture of experts (llama.expert_count), which cannot be loaded`,
      { path },
    )
  }
  refuseUnknownTypes(path, header.tensors)
  const config = readConfig(keys, header.tensors)
  const model: GgufModel = { config, tensors: new Map() }
  for (const tensor of header.tensors) {
    if (IGNORED.test(tensor.name)) continue
    if (tensor.name === ROPE_FACTORS) model.ropeFactors = ropeFactors(path, tensor, config)
    else addTensor(model, path, tensor)
  }
  return model
}

function refuseUnknownTypes(path: string, tensors: readonly GgufTensor[]): void {
  const refused = new Map<string, string>()
  for (const { name, type } of tensors) {
    if (!SOURCE_DTYPES.has(type.name)) refused.set(type.name, refused.get(type.name) ?? name)
  }
  if (refused.size === 0) return
  const list = [...refused].map(([type, name]) => `${type} (${quote(name)})`).join(', ')
  throw new UnsupportedError(
    `${path} has tensors of the types ${list}; ${[...SOURCE_DTYPES].join(', ')} can be loaded: take a file of the model in one of these`,
    { path, types: [...refused.keys()] },
  )
}

function readConfig(keys: GgufKeys, tensors: readonly GgufTensor[]): Record<string, unknown> {
  const names = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const need = (key: string) => keys.required(key, keys.integer(key, 1))
  const hidden = need('llama.embedding_length')
  const layers = need('llama.block_count')
  const heads = perLayer(keys, 'llama.attention.head_count')
  const headDim =
    keys.integer('llama.attention.key_length', 1) ??
    hidden / keys.required('llama.attention.head_count', heads)
  const epsilon = 'llama.attention.layer_norm_rms_epsilon'
  checkHeadSizes(keys, headDim)
  const contextLength = need('llama.context_length')
  refuseWindow(keys, contextLength)
  const config: Record<string, unknown> = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabularySize(keys, names.get('token_embd.weight')),
    hidden_size: hidden,
    intermediate_size: keys.required(
      'llama.feed_forward_length',
      perLayer(keys, 'llama.feed_forward_length'),
    ),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: perLayer(keys, 'llama.attention.head_count_kv') ?? heads,
    head_dim: headDim,
    hidden_act: 'silu',
    rms_norm_eps: keys.required(epsilon, keys.number(epsilon)),
    max_position_embeddings: contextLength,
    rope_theta: keys.number('llama.rope.freq_base') ?? 10_000,
    rope_scaling: ropeScaling(keys),
    attention_bias: names.has('blk.0.attn_q.bias'),
    mlp_bias: names.has('blk.0.ffn_gate.bias'),
    tie_word_embeddings: !names.has('output.weight'),
  }
  const optional: [string, number | undefined][] = [
    ['bos_token_id', keys.integer('tokenizer.ggml.bos_token_id')],
    ['eos_token_id', keys.integer('tokenizer.ggml.eos_token_id')],
    ['pad_token_id', keys.integer('tokenizer.ggml.padding_token_id')],
  ]
  for (const [key, value] of optional) if (value !== undefined) config[key] = value
  return config
}

/** Mistral's files have this architecture too. Zero means none, and a window that no text can outgrow hides nothing. */
function refuseWindow(keys: GgufKeys, contextLength: number): void {
  const key = 'llama.attention.sliding_window'
  const window = keys.integer(key) ?? 0
  if (window === 0 || window >= contextLength) return
  throw new UnsupportedError(
    `${keys.path}: ${key} is ${window}, less than the context length of ${contextLength}; attention windows are not supported: take a model without one, or the Hugging Face folder with sliding_window set to null (right for texts of up to ${window} tokens)`,
    { path: keys.path, key, window, contextLength },
  )
}

/** A value that may be given once or per layer; layers that differ cannot be expressed in a Llama config. */
function perLayer(keys: GgufKeys, key: string): number | undefined {
  if (typeof keys.metadata.get(key) !== 'object') return keys.integer(key, 1)
  const values = Array.from(keys.required(key, keys.numbers(key)))
  const first = values[0]
  if (first === undefined || !Number.isSafeInteger(first) || first < 1) {
    throw new FileFormatError(`${keys.path}: ${key} must hold positive integers`, { path: keys.path, key })
  }
  if (values.some((value) => value !== first)) {
    throw new UnsupportedError(`${keys.path}: ${key} differs between layers, which cannot be loaded`, {
      path: keys.path,
      key,
    })
  }
  return first
}

function checkHeadSizes(keys: GgufKeys, headDim: number): void {
  if (!Number.isSafeInteger(headDim) || headDim % 2 !== 0) {
    throw new FileFormatError(
      `${keys.path}: the head size comes out as ${headDim}; an even integer is expected`,
      {
        path: keys.path,
        headDim,
      },
    )
  }
  for (const key of ['llama.attention.value_length', 'llama.rope.dimension_count']) {
    const value = keys.integer(key) ?? headDim
    if (value !== headDim) {
      throw new UnsupportedError(
        `${keys.path}: ${key} is ${value}, which differs from the head size ${headDim}`,
        {
          path: keys.path,
          key,
        },
      )
    }
  }
}

/** The rows of the embedding (the key may be absent); the tokenizer's ids must all be among them. */
function vocabularySize(keys: GgufKeys, embedding: GgufTensor | undefined): number {
  const { path } = keys
  if (!embedding) throw new FileFormatError(`${path} lacks the tensor token_embd.weight`, { path })
  const rows = embedding.dims[1] ?? 1
  const tokens = keys.strings('tokenizer.ggml.tokens')?.length ?? 0
  if (tokens > rows) {
    throw new FileFormatError(`${path} has ${tokens} tokens, but its embedding has ${rows} rows`, {
      path,
      tokens,
      rows,
    })
  }
  return rows
}

function ropeScaling(keys: GgufKeys): Record<string, unknown> | null {
  const prefix = 'llama.rope.scaling.'
  const type = keys.text(`${prefix}type`) ?? (keys.has('llama.rope.scale_linear') ? 'linear' : 'none')
  if (type === 'none') return null
  const entries: [string, number | undefined][] = [
    ['factor', keys.number(`${prefix}factor`) ?? keys.number('llama.rope.scale_linear')],
    ['original_max_position_embeddings', keys.integer(`${prefix}original_context_length`, 1)],
    ['attention_factor', keys.number(`${prefix}attn_factor`)],
    ['beta_fast', keys.number(`${prefix}yarn_beta_fast`)],
    ['beta_slow', keys.number(`${prefix}yarn_beta_slow`)],
  ]
  return { rope_type: type, ...Object.fromEntries(entries.filter(([, value]) => value !== undefined)) }
}

function ropeFactors(path: string, tensor: GgufTensor, config: Record<string, unknown>): TensorSource {
  const expected = (config.head_dim as number) / 2
  if (tensor.type.name !== 'F32' || tensor.dims.length !== 1 || tensor.dims[0] !== expected) {
    throw new FileFormatError(
      `${path}: ${ROPE_FACTORS} is ${tensor.type.name} [${tensor.dims}], expected F32 [${expected}]`,
      { path },
    )
  }
  return source(path, tensor, ROPE_FACTORS, tensor.dims)
}

function addTensor(model: GgufModel, path: string, tensor: GgufTensor): void {
  const { config, tensors } = model
  const name = huggingFaceName(tensor.name, config.num_hidden_layers as number)
  if (name === undefined) {
    throw new UnsupportedError(`${path} has the tensor ${quote(tensor.name)}, which no Llama model has`, {
      path,
      tensor: tensor.name,
    })
  }
  const vector = name.endsWith('.bias') || name.endsWith('norm.weight')
  // Writers drop trailing dimensions of 1, so a matrix of one row arrives as a vector.
  const dims = !vector && tensor.dims.length === 1 ? [...tensor.dims, 1] : tensor.dims
  const entry = source(path, tensor, name, [...dims].reverse())
  const heads = permutedHeads(name, config)
  if (heads !== undefined) {
    const rows = heads * (config.head_dim as number)
    if (entry.shape[0] !== rows) {
      throw new FileFormatError(
        `${path}: ${quote(tensor.name)} has ${entry.shape[0]} rows, but ${heads} heads of ${config.head_dim} need ${rows}`,
        { path, tensor: tensor.name },
      )
    }
    entry.permutedHeads = heads
  }
  tensors.set(name, entry)
}

function huggingFaceName(name: string, layers: number): string | undefined {
  const outer = OUTER_NAMES.get(name)
  if (outer) return outer
  const [, layer, module, kind] = /^blk\.(0|[1-9]\d{0,5})\.([a-z_]+)\.(weight|bias)$/.exec(name) ?? []
  const inner = module === undefined ? undefined : LAYER_NAMES.get(module)
  if (inner === undefined || Number(layer) >= layers || (kind === 'bias' && module?.endsWith('norm')))
    return undefined
  return `model.layers.${layer}.${inner}.${kind}`
}

function permutedHeads(name: string, config: Record<string, unknown>): number | undefined {
  if (name.includes('.q_proj.')) return config.num_attention_heads as number
  if (name.includes('.k_proj.')) return config.num_key_value_heads as number
  return undefined
}

function source(path: string, tensor: GgufTensor, name: string, shape: number[]): TensorSource {
  const { offset, bytes, type } = tensor
  return { name, file: path, offset, bytes, dtype: type.name as SourceDtype, shape }
}
