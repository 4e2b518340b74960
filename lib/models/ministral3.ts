/** Ministral 3: Mistral's decoder, with queries that grow with position beyond the original context. */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Graph, Rotary } from '../graph/graph.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { fieldReader } from './fields.js'
import { ropeParameters } from './rope.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 262144,
  bias: () => ({ qkv: false, output: false, mlp: false }),
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window')),
  queryGrowth,
}

/** Queries, but not keys, at position p are multiplied by 1 + beta ln(1 + floor(p / original)). */
function queryGrowth(config: Record<string, unknown>): Rotary['growth'] {
  const { scaling } = ropeParameters(config)
  const { llama_4_scaling_beta: beta } = scaling
  if (beta === 0) return undefined
  if (typeof beta !== 'number' || !Number.isFinite(beta) || beta < 0)
    throw new ConfigError(
      `config.json: llama_4_scaling_beta of rope_parameters is ${quote(beta ?? null)}; models of type "ministral3" require a number from 0.`,
      { beta },
    )
  const every = fieldReader(scaling, 'config.json rope_parameters').size('original_max_position_embeddings')
  return { rate: beta, every }
}

/** transformers' defaults for missing keys. */
const DEFAULTS = {
  vocab_size: 131072,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 34,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  rms_norm_eps: 1e-5,
}
const DEFAULT_ROPE = {
  rope_type: 'yarn',
  rope_theta: 1e6,
  factor: 16,
  original_max_position_embeddings: 16384,
  beta_fast: 32,
  beta_slow: 1,
  mscale: 1,
  mscale_all_dim: 1,
  llama_4_scaling_beta: 0.1,
}

export function ministral3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const silent = (config.rope_parameters ?? config.rope_scaling ?? null) === null
  const full = { ...DEFAULTS, ...config, ...(silent ? { rope_parameters: DEFAULT_ROPE } : {}) }
  return decoderGraph(readDecoder(full, traits, ropeFactors))
}
