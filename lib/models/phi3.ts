/**
 * Phi-3 and Phi-4-mini: the plain decoder with one linear layer for queries, keys, and values and one for gate and up,
 * partially rotated heads, and separate frequencies for long texts (LongRoPE).
 */
import type { Graph } from '../graph/graph.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 4096,
  bias: () => ({ qkv: false, output: false, mlp: false }),
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window')),
  rope: { types: ['default', 'longrope'], partial: true },
  fusedAttention: true,
  mlp: { path: 'mlp', inputs: ['gate_up_proj'], output: 'down_proj' },
}

/** transformers' defaults for missing keys. */
const DEFAULTS = {
  vocab_size: 32064,
  hidden_size: 3072,
  intermediate_size: 8192,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  rms_norm_eps: 1e-5,
}

export function phi3Graph(config: Record<string, unknown>): Graph {
  const full = {
    ...DEFAULTS,
    ...config,
    rope_scaling: renamed(config.rope_scaling),
    rope_parameters: renamed(config.rope_parameters),
    // Takes precedence over the value in the scaling settings.
    original_max_position_embeddings: config.original_max_position_embeddings ?? 4096,
  }
  return decoderGraph(readDecoder(full, traits))
}

/** Older files call LongRoPE `su` or `yarn`. */
function renamed(settings: unknown): unknown {
  if (typeof settings !== 'object' || settings === null) return settings
  const { type, rope_type: newer, ...rest } = settings as Record<string, unknown>
  const name = newer ?? type
  return { ...rest, rope_type: name === 'su' || name === 'yarn' ? 'longrope' : name }
}
