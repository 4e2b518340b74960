/**
 * Gemma 3, text (and FunctionGemma): norms with gain 1 + weight before and after attention and MLP, a gated unit with
 * GELU, an embedding scaled by the square root of its width, and a window in five of six layers, which use a separate
 * rotary base.
 */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { NORMS_AROUND } from '../formats/gguf-names.js'
import { layerTypes } from '../formats/gguf-reading.js'
import { shiftedNorms } from '../formats/gguf-stored.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { windowsByPeriod } from './windows.js'

const traits: DecoderTraits = {
  positions: 131072,
  queryKeyNorm: 'head',
  norms: 'both',
  normOffset: 1,
  activation: { key: 'hidden_activation', value: 'gelu_pytorch_tanh' },
  bias: attentionBiases,
  windows: (read, layers) =>
    windowsByPeriod(
      read,
      layers,
      read.optionalSize('sliding_window', 4096),
      read.size('sliding_window_pattern', 6),
    ),
  thetas: (read) => ({ full: 1e6, windowed: read.number('rope_local_base_freq', 1e4) }),
  multipliers: (read) => ({
    embedding: Math.sqrt(read.size('hidden_size')),
    residual: 1,
    attention: 1 / Math.sqrt(read.number('query_pre_attn_scalar', 256)),
    logits: 1,
  }),
}

/** transformers' defaults for missing keys; nested text configs rely on many of them. */
const DEFAULTS = {
  vocab_size: 262208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  tie_word_embeddings: true,
}

function gemma3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  for (const key of ['attn_logit_softcapping', 'final_logit_softcapping', 'use_bidirectional_attention'])
    if (config[key] !== undefined && config[key] !== null && config[key] !== false)
      throw new UnsupportedError(`config.json: ${key} is ${quote(config[key])}, which is not supported.`, {
        key,
      })
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}

function localTheta({
  rope_parameters: byType,
  rope_local_base_freq: older,
}: Record<string, unknown>): unknown {
  const { sliding_attention: local } = (byType ?? {}) as Record<string, Record<string, unknown> | undefined>
  return local?.rope_theta ?? older ?? 10_000
}

const gguf: FamilyGguf = {
  architecture: 'gemma3',
  models: 'Gemma 3, text',
  names: { inner: NORMS_AROUND },
  lacks: /\.bias$/,
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
  written: {
    windowPeriod: 6,
    numbers: (config) => [['rope.freq_base_swa', localTheta(config)]],
  },
  stored: shiftedNorms,
}

export const gemma3: Family = {
  types: {
    gemma3_text: {
      graph: gemma3Graph,
      architecture: 'Gemma3ForCausalLM',
      models: 'Gemma 3 and FunctionGemma, also the text model of a `gemma3` folder',
      notes:
        'norms before and after attention and MLP; a window and a rotary base of their own in five of six layers',
      shapes: {
        'Gemma-3-270M': [640, 2048, 18, 4, 1, 262144, { tied: true, head_dim: 256 }],
        'Gemma-3-1B': [1152, 6912, 26, 4, 1, 262144, { tied: true, head_dim: 256 }],
        'Gemma-3-4B': [2560, 10240, 34, 8, 4, 262208, { tied: true, head_dim: 256 }],
        'Gemma-3-12B': [3840, 15360, 48, 16, 8, 262208, { tied: true, head_dim: 256 }],
        'Gemma-3-27B': [5376, 21504, 62, 32, 16, 262208, { tied: true, head_dim: 128 }],
      },
    },
  },
  wholes: { gemma3: { texts: ['gemma3_text'], tied: true } },
  gguf,
}
