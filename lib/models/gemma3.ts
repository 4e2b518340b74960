/**
 * Gemma 3, text (and FunctionGemma): norms with gain 1 + weight before and after attention and MLP, a gated unit with
 * GELU, an embedding scaled by the square root of its width, and a window in five of six layers, which use a separate
 * rotary base.
 */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
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

export function gemma3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  for (const key of ['attn_logit_softcapping', 'final_logit_softcapping', 'use_bidirectional_attention'])
    if (config[key] !== undefined && config[key] !== null && config[key] !== false)
      throw new UnsupportedError(`config.json: ${key} is ${quote(config[key])}, which is not supported.`, {
        key,
      })
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}
