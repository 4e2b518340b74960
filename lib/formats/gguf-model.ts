/**
 * Translates a GGUF file to Hugging Face conventions: config.json keys, tensor names, and row-major shapes. Files of
 * the `llama` architecture store query and key rows in a different order (pairs of rotary dimensions adjacent); such
 * tensors are marked and reordered when loaded.
 */

import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { GgufHeader, GgufTensor } from './gguf.js'
import { GgufKeys } from './gguf-metadata.js'
import {
  CONVOLUTIONS,
  DELTA_RULES,
  FUSED,
  huggingFaceName,
  LONG_FACTORS,
  NORMS_AFTER,
  NORMS_AROUND,
  type OwnNames,
  permutedHeads,
  ROPE_FACTORS,
} from './gguf-names.js'
import { type DeltaRuleSizes, headOrder } from './head-order.js'
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

/** Differences between the supported architectures. */
interface Architecture {
  models: string
  /** `model_type` of the models stored with this architecture. */
  families: readonly string[]
  /** True if query and key rows are permuted. */
  permuted: boolean
  /** Known tensors that none of its models has. */
  lacks: RegExp
  /** Names of the norms and linear layers in a block. Default NORMS_BEFORE. */
  names?: OwnNames
  /** Value added to the weights of all norms in its files. Default 0. */
  normShift?: number
  /**
   * For models in which only some layers have a window: the default period, where the last layer of each period has
   * none.
   */
  windowPeriod?: number
  /** True if llama.cpp always derives the head size from the hidden size, whatever the file says. */
  plainHeads?: true
  /** True if its files may rotate only the first columns of each head. */
  partialRotary?: true
  /** True if layers without heads of keys and values have a convolution in place of attention. */
  convolutions?: true
  /** Keys of the config with the sizes of gated delta rules, which some layers have in place of attention. */
  deltaRules?: true
  /** True if a window is always written, 0 for none. */
  alwaysWindow?: true
  /**
   * The config of the same model with the layers that its files have; undefined if the model has them already.
   */
  unfused?(config: Record<string, unknown>): Record<string, unknown> | undefined
  /** Additional numeric keys in its files, from the config; entries without a number are omitted. */
  numbers?(config: Record<string, unknown>): [key: string, value: unknown][]
  /** Additional keys of config.json. */
  config(keys: GgufKeys, names: ReadonlyMap<string, GgufTensor>): Record<string, unknown>
}

const KV_HEADS = 'attention.head_count_kv'
const QUERY_KEY_NORMS = /\.[qk]_norm\./

const biasesOf = (names: ReadonlyMap<string, GgufTensor>) => ({
  attention_bias: names.has('blk.0.attn_q.bias'),
  mlp_bias: names.has('blk.0.ffn_gate.bias'),
})

const llama: Architecture = {
  models: 'Llama, Mistral, SmolLM2, TinyLlama',
  families: ['llama', 'mistral'],
  permuted: true,
  lacks: QUERY_KEY_NORMS,
  config(keys, names) {
    const biases = biasesOf(names)
    const window = windowOf(keys)
    if (window === undefined) return { architectures: ['LlamaForCausalLM'], model_type: 'llama', ...biases }
    // Mistral's files have this architecture, too; only a window distinguishes them.
    return {
      architectures: ['MistralForCausalLM'],
      model_type: 'mistral',
      ...biases,
      sliding_window: window,
    }
  },
}

const qwen2: Architecture = {
  models: 'Qwen2, Qwen2.5',
  families: ['qwen2'],
  permuted: false,
  lacks: QUERY_KEY_NORMS,
  config(keys) {
    refuseWindow(keys)
    return { architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2', use_sliding_window: false }
  },
}

const qwen3: Architecture = {
  models: 'Qwen3',
  families: ['qwen3'],
  permuted: false,
  lacks: /\.bias$/,
  config(keys) {
    refuseWindow(keys)
    return { architectures: ['Qwen3ForCausalLM'], model_type: 'qwen3', use_sliding_window: false }
  },
}

const smollm3: Architecture = {
  models: 'SmolLM3',
  families: ['smollm3'],
  permuted: true,
  lacks: QUERY_KEY_NORMS,
  // Files do not say which layers use rotation: all but every fourth do.
  config(keys, names) {
    refuseWindow(keys)
    return {
      architectures: ['SmolLM3ForCausalLM'],
      model_type: 'smollm3',
      ...biasesOf(names),
    }
  },
}

const granite: Architecture = {
  models: 'Granite 3 and 4, dense',
  families: ['granite', 'granitemoehybrid'],
  permuted: true,
  lacks: QUERY_KEY_NORMS,
  plainHeads: true,
  unfused: ({ model_type, shared_intermediate_size: size, ...rest }) =>
    model_type === 'granite'
      ? undefined
      : { ...rest, model_type: 'granite', intermediate_size: size ?? 1024, mlp_bias: false },
  numbers: ({ attention_multiplier, embedding_multiplier, residual_multiplier, logits_scaling }) => [
    ['attention.scale', attention_multiplier ?? 1],
    ['embedding_scale', embedding_multiplier ?? 1],
    ['residual_scale', residual_multiplier ?? 1],
    ['logit_scale', logits_scaling ?? 1],
  ],
  config(keys, names) {
    refuseWindow(keys)
    if (keys.flag('rope.scaling.finetuned') === false)
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}rope.scaling.finetuned is false, so the model has no rotary embedding, which is not supported for this architecture`,
        { path: keys.path },
      )
    // Zero means none.
    const scale = (key: string) => keys.number(key) || undefined
    const heads = keys.required('attention.head_count', keys.integer('attention.head_count', 1))
    const headDim =
      keys.integer('attention.key_length', 1) ??
      keys.required('embedding_length', keys.integer('embedding_length', 1)) / heads
    return {
      architectures: ['GraniteForCausalLM'],
      model_type: 'granite',
      ...biasesOf(names),
      attention_multiplier: scale('attention.scale') ?? 1 / Math.sqrt(headDim),
      embedding_multiplier: scale('embedding_scale') ?? 1,
      residual_multiplier: scale('residual_scale') ?? 1,
      logits_scaling: keys.required('logit_scale', scale('logit_scale')),
    }
  },
}

const olmo2: Architecture = {
  models: 'OLMo 2 and 3',
  families: ['olmo2', 'olmo3'],
  permuted: false,
  names: NORMS_AFTER,
  windowPeriod: 4,
  plainHeads: true,
  lacks: /\.bias$/,
  config(keys, names) {
    if (!names.has('output.weight'))
      throw new UnsupportedError(
        `${keys.path} has no head of its own (output.weight), which models of this architecture require`,
        { path: keys.path },
      )
    const window = keys.integer('attention.sliding_window')
    if (!window) return { architectures: ['Olmo2ForCausalLM'], model_type: 'olmo2' }
    const theta = keys.number('rope.freq_base') ?? 10_000
    // Layers with a window use unscaled rotary frequencies.
    return {
      architectures: ['Olmo3ForCausalLM'],
      model_type: 'olmo3',
      sliding_window: window,
      layer_types: layerTypes(keys, 4),
      rope_parameters: {
        full_attention: { rope_type: 'default', ...ropeScaling(keys), rope_theta: theta },
        sliding_attention: { rope_type: 'default', rope_theta: theta },
      },
      rope_scaling: null,
    }
  },
}

const gemma3: Architecture = {
  models: 'Gemma 3, text',
  families: ['gemma3_text'],
  permuted: false,
  names: NORMS_AROUND,
  normShift: 1,
  windowPeriod: 6,
  lacks: /\.bias$/,
  numbers: (config) => [['rope.freq_base_swa', localTheta(config)]],
  config(keys) {
    const need = (key: string) => keys.required(key, keys.integer(key, 1))
    const heads = need('attention.head_count')
    const plain = need('embedding_length') / heads
    const cap = keys.number('final_logit_softcapping')
    return {
      architectures: ['Gemma3ForCausalLM'],
      model_type: 'gemma3_text',
      hidden_activation: 'gelu_pytorch_tanh',
      // As in llama.cpp: in the 62-layer model the attention scale is derived from the hidden size.
      query_pre_attn_scalar:
        need('block_count') === 62 ? plain : (keys.integer('attention.key_length', 1) ?? plain),
      sliding_window: need('attention.sliding_window'),
      layer_types: layerTypes(keys, 6),
      rope_local_base_freq: keys.number('rope.freq_base_swa') ?? 10_000,
      ...(cap ? { final_logit_softcapping: cap } : {}),
    }
  },
}

function localTheta({
  rope_parameters: byType,
  rope_local_base_freq: older,
}: Record<string, unknown>): unknown {
  const { sliding_attention: local } = (byType ?? {}) as Record<string, Record<string, unknown> | undefined>
  return local?.rope_theta ?? older ?? 10_000
}

/**
 * Layers with a window: from the file's period, its list (true means a window), or the architecture's default period.
 */
function layerTypes(keys: GgufKeys, period: number): string[] {
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

const ministral3: Architecture = {
  models: 'Ministral 3',
  families: ['ministral3'],
  permuted: true,
  lacks: /\.[qk]_norm\.|\.bias$/,
  numbers({ rope_parameters, rope_scaling }) {
    const rope = (rope_scaling ?? rope_parameters ?? {}) as Record<string, unknown>
    const { llama_4_scaling_beta: beta, mscale_all_dim: multiplier } = rope
    return [
      ['attention.temperature_scale', beta],
      ['rope.scaling.yarn_log_multiplier', multiplier],
    ]
  },
  config(keys) {
    refuseWindow(keys)
    // Zero means none.
    const multiplier = keys.number('rope.scaling.yarn_log_multiplier') || undefined
    return {
      architectures: ['Ministral3ForCausalLM'],
      model_type: 'ministral3',
      sliding_window: null,
      rope_theta: undefined,
      rope_scaling: undefined,
      rope_parameters: {
        rope_type: 'default',
        rope_theta: keys.number('rope.freq_base') ?? 10_000,
        original_max_position_embeddings: keys.integer('rope.scaling.original_context_length', 1),
        ...ropeScaling(keys),
        ...(multiplier === undefined ? {} : { mscale: 1, mscale_all_dim: multiplier }),
        llama_4_scaling_beta: keys.number('attention.temperature_scale') ?? 0,
      },
    }
  },
}

const phi3: Architecture = {
  models: 'Phi-3, Phi-4-mini',
  families: ['phi3'],
  permuted: false,
  names: FUSED,
  partialRotary: true,
  alwaysWindow: true,
  lacks: /\.[qk]_norm\.|\.bias$|\.[qkv]_proj\.|\.gate_proj\./,
  config(keys, names) {
    const long = names.has(LONG_FACTORS.long_factor)
    const headDim = headSize(keys)
    const columns = keys.integer('rope.dimension_count', 2) ?? headDim
    return {
      architectures: ['Phi3ForCausalLM'],
      model_type: 'phi3',
      sliding_window: windowOf(keys) ?? null,
      partial_rotary_factor: shareOf(columns, headDim),
      original_max_position_embeddings: keys.required(
        'context_length',
        keys.integer('rope.scaling.original_context_length', 1) ?? keys.integer('context_length', 1),
      ),
      rope_scaling: long
        ? { rope_type: 'longrope', attention_factor: keys.number('rope.scaling.attn_factor') ?? 1 }
        : ropeScaling(keys),
    }
  },
}

const lfm2: Architecture = {
  models: 'LFM2, LFM2.5, dense',
  families: ['lfm2'],
  permuted: false,
  names: CONVOLUTIONS,
  convolutions: true,
  lacks: /\.bias$/,
  config(keys) {
    const layers = keys.required('block_count', keys.integer('block_count', 1))
    const whole = typeof keys.metadata.get(keys.prefix + KV_HEADS) !== 'object'
    const heads = whole ? undefined : Array.from(keys.required(KV_HEADS, keys.numbers(KV_HEADS)))
    if (heads !== undefined && heads.length !== layers)
      throw new FileFormatError(
        `${keys.path}: ${keys.prefix}${KV_HEADS} must have ${layers} numbers, one for each layer`,
        { path: keys.path, key: keys.prefix + KV_HEADS },
      )
    const epsilon = 'attention.layer_norm_rms_epsilon'
    return {
      architectures: ['Lfm2ForCausalLM'],
      model_type: 'lfm2',
      norm_eps: keys.required(epsilon, keys.number(epsilon)),
      conv_L_cache: keys.required('shortconv.l_cache', keys.integer('shortconv.l_cache', 1)),
      conv_bias: false,
      block_auto_adjust_ff_dim: false,
      layer_types: Array.from({ length: layers }, (_, layer) =>
        heads?.[layer] === 0 ? 'conv' : 'full_attention',
      ),
    }
  },
}

const qwen35: Architecture = {
  models: 'Qwen3.5, dense, text',
  families: ['qwen3_5_text'],
  permuted: false,
  names: DELTA_RULES,
  normShift: 1,
  partialRotary: true,
  deltaRules: true,
  lacks: /\.bias$/,
  config(keys) {
    const need = (key: string) => keys.required(key, keys.integer(key, 1))
    const headDim = headSize(keys)
    const valueHeads = need('ssm.time_step_rank')
    const inner = need('ssm.inner_size')
    const state = need('ssm.state_size')
    if (inner !== valueHeads * state)
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}ssm.inner_size is ${inner}, but ${valueHeads} value heads (ssm.time_step_rank) of ${state} (ssm.state_size) give ${valueHeads * state}; value heads of another size than key heads are not supported in GGUF files`,
        { path: keys.path, inner, valueHeads, state },
      )
    const columns = keys.integer('rope.dimension_count', 2) ?? headDim
    const interval = keys.integer('full_attention_interval', 1) ?? 4
    return {
      architectures: ['Qwen3_5ForCausalLM'],
      model_type: 'qwen3_5_text',
      partial_rotary_factor: shareOf(columns, headDim),
      linear_num_key_heads: need('ssm.group_count'),
      linear_num_value_heads: valueHeads,
      linear_key_head_dim: state,
      linear_value_head_dim: state,
      linear_conv_kernel_dim: need('ssm.conv_kernel'),
      layer_types: Array.from({ length: need('block_count') - furtherBlocks(keys) }, (_, layer) =>
        (layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
      ),
    }
  },
}

/** Number of blocks at the end that predict further tokens, which are not loaded. */
const furtherBlocks = (keys: GgufKeys): number => keys.integer('nextn_predict_layers', 0) ?? 0

/** Sizes of gated delta rules in a config. */
function deltaRuleSizes(config: Record<string, unknown>): DeltaRuleSizes {
  const size = (key: string) => config[`linear_${key}`] as number
  return {
    keyHeads: size('num_key_heads'),
    valueHeads: size('num_value_heads'),
    keyDim: size('key_head_dim'),
    valueDim: size('value_head_dim'),
    taps: size('conv_kernel_dim'),
  }
}

/** The factor that, multiplied by `size` and rounded down, gives `columns`. */
function shareOf(columns: number, size: number): number {
  const share = columns / size
  return Math.floor(size * share) === columns ? share : (columns + 2 ** -8) / size
}

/** The head size: from its key, else hidden size divided by the number of heads. */
function headSize(keys: GgufKeys): number {
  const need = (key: string) => keys.required(key, keys.integer(key, 1))
  return keys.integer('attention.key_length', 1) ?? need('embedding_length') / need('attention.head_count')
}

/** @throws {UnsupportedError} for a window that may apply only to some layers */
function refuseWindow(keys: GgufKeys): void {
  const window = windowOf(keys)
  if (window === undefined) return
  throw new UnsupportedError(
    `${keys.path}: ${keys.prefix}attention.sliding_window is ${window}, but the file does not say which layers have the window; use the Hugging Face folder`,
    { path: keys.path, window },
  )
}

const ARCHITECTURES = new Map<string, Architecture>([
  ['llama', llama],
  ['qwen2', qwen2],
  ['qwen3', qwen3],
  ['smollm3', smollm3],
  ['granite', granite],
  ['olmo2', olmo2],
  ['gemma3', gemma3],
  ['mistral3', ministral3],
  ['phi3', phi3],
  ['lfm2', lfm2],
  ['qwen35', qwen35],
])

/**
 * The GGUF architecture for a model family, and whether query and key rows are permuted in it.
 * @throws {UnsupportedError} when there is none
 */
export function ggufArchitecture(
  family: string,
): { name: string } & Omit<Architecture, 'models' | 'families' | 'config'> {
  for (const [name, architecture] of ARCHITECTURES)
    if (architecture.families.includes(family)) return { name, ...architecture }
  const known = [...ARCHITECTURES.values()].flatMap(({ families }) => families)
  throw new UnsupportedError(
    `models of the type ${quote(family)} cannot be written as GGUF files; those of ${known.join(', ')} can. Write a safetensors folder instead.`,
    { family, supported: known },
  )
}

/** Written by old converters and ignored by all readers. */
const IGNORED = /^blk\.\d+\.attn_rot_embd(\.weight)?$/

/**
 * Translates a parsed header.
 * @throws UnsupportedError for another architecture, an adapter, a mixture of experts, or a tensor type that cannot be
 * loaded; FileFormatError when keys or tensors are missing or contradict each other.
 */
export function translateGguf(header: Pick<GgufHeader, 'path' | 'metadata' | 'tensors'>): GgufModel {
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
  const architecture = ARCHITECTURES.get(name)
  if (architecture === undefined) {
    const known = [...ARCHITECTURES].map(([key, { models }]) => `"${key}" (${models})`).join(', ')
    throw new UnsupportedError(
      `${path} has the architecture ${quote(name)}, which is not supported. Supported architectures: ${known}`,
      { path, architecture: name, supported: [...ARCHITECTURES.keys()] },
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
  const config = readConfig(keys, architecture, header.tensors)
  const model: GgufModel = { config, tensors: new Map(), longFactors: new Map() }
  const longFactors = new Map(Object.entries(LONG_FACTORS).map(([key, name]) => [name, key]))
  const layers = config.num_hidden_layers as number
  for (const tensor of header.tensors) {
    if (IGNORED.test(tensor.name)) continue
    if (architecture.deltaRules && Number(/^blk\.(\d+)\./.exec(tensor.name)?.[1] ?? -1) >= layers) continue
    const factors = architecture.partialRotary ? longFactors.get(tensor.name) : undefined
    if (tensor.name === ROPE_FACTORS) model.ropeFactors = ropeFactors(path, tensor, config)
    else if (factors !== undefined) model.longFactors.set(factors, ropeFactors(path, tensor, config))
    else addTensor(model, path, tensor, architecture)
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

function readConfig(
  keys: GgufKeys,
  architecture: Architecture,
  tensors: readonly GgufTensor[],
): Record<string, unknown> {
  const names = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const need = (key: string) => keys.required(key, keys.integer(key, 1))
  const hidden = need('embedding_length')
  const layers = need('block_count') - (architecture.deltaRules ? furtherBlocks(keys) : 0)
  const heads = perLayer(keys, 'attention.head_count')
  const headDim =
    keys.integer('attention.key_length', 1) ?? hidden / keys.required('attention.head_count', heads)
  const epsilon = 'attention.layer_norm_rms_epsilon'
  checkHeadSizes(keys, headDim, architecture)
  const config: Record<string, unknown> = {
    vocab_size: vocabularySize(keys, names.get('token_embd.weight')),
    hidden_size: hidden,
    intermediate_size: keys.required('feed_forward_length', perLayer(keys, 'feed_forward_length')),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: perLayer(keys, KV_HEADS, architecture.convolutions) ?? heads,
    head_dim: headDim,
    hidden_act: 'silu',
    rms_norm_eps: keys.required(epsilon, keys.number(epsilon)),
    max_position_embeddings: need('context_length'),
    rope_theta: keys.number('rope.freq_base') ?? 10_000,
    rope_scaling: ropeScaling(keys),
    tie_word_embeddings: !names.has('output.weight'),
    ...architecture.config(keys, names),
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

/** The window size; undefined if there is none (zero) or it covers the whole context. */
function windowOf(keys: GgufKeys): number | undefined {
  const window = keys.integer('attention.sliding_window') ?? 0
  const length = keys.integer('context_length', 1) ?? Number.POSITIVE_INFINITY
  return window === 0 || window >= length ? undefined : window
}

/**
 * A value given once or per layer; a config cannot express differences between layers.
 * @param skipsZeros true if layers may lack what is counted
 */
function perLayer(keys: GgufKeys, key: string, skipsZeros = false): number | undefined {
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

function checkHeadSizes(keys: GgufKeys, headDim: number, { partialRotary }: Architecture): void {
  if (!Number.isSafeInteger(headDim) || headDim % 2 !== 0) {
    throw new FileFormatError(`${keys.path}: the head size is ${headDim}; expected an even integer`, {
      path: keys.path,
      headDim,
    })
  }
  for (const key of ['attention.value_length', ...(partialRotary ? [] : ['rope.dimension_count'])]) {
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

function ropeScaling(keys: GgufKeys): Record<string, unknown> | null {
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

function addTensor(
  model: GgufModel,
  path: string,
  tensor: GgufTensor,
  { models, permuted, lacks, names, normShift, deltaRules }: Architecture,
): void {
  const { config, tensors } = model
  const name = huggingFaceName(tensor.name, config.num_hidden_layers as number, names)
  if (name === undefined || lacks.test(name)) {
    throw new UnsupportedError(
      `${path} has the tensor ${quote(tensor.name)}, which no model of its architecture (${models}) has`,
      {
        path,
        tensor: tensor.name,
      },
    )
  }
  const vector = /(\.bias|norm\.weight|\.A_log|\.dt_bias)$/.test(name)
  // Writers drop trailing dimensions of 1, so a one-row matrix is stored as a vector.
  const dims = !vector && tensor.dims.length === 1 ? [...tensor.dims, 1] : tensor.dims
  const shape = [...dims].reverse()
  // GGUF files have no dimension for the one input channel of each filter.
  if (/\.(conv\.conv|conv1d)\.weight$/.test(name)) shape.splice(1, 0, 1)
  const entry = source(path, tensor, name, shape)
  const heads = permuted
    ? permutedHeads(name, config.num_attention_heads as number, config.num_key_value_heads as number)
    : undefined
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
  Object.assign(entry, vectorForm(name, normShift))
  const order = deltaRules ? headOrder(name, deltaRuleSizes(config)) : undefined
  if (order !== undefined) entry.headOrder = order
  tensors.set(name, entry)
}

/** How the elements of a vector differ in files, given its Hugging Face name. */
export function vectorForm(
  name: string,
  normShift: number | undefined,
): Pick<TensorSource, 'shift' | 'negatedExp'> {
  if (name.endsWith('.linear_attn.A_log')) return { negatedExp: true }
  const shifted = name.endsWith('norm.weight') && !name.endsWith('.linear_attn.norm.weight')
  return normShift !== undefined && shifted ? { shift: normShift } : {}
}

function source(path: string, tensor: GgufTensor, name: string, shape: number[]): TensorSource {
  const { offset, bytes, type } = tensor
  return { name, file: path, offset, bytes, dtype: type.name as SourceDtype, shape }
}
