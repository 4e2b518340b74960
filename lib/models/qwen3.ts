/**
 * Qwen3, dense: the plain decoder with per-head norms of queries and keys, and a head size independent of the hidden
 * size. Windows are off unless the config enables them, as in Qwen2.
 */
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { windowsByFlag } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: attentionBiases,
  queryKeyNorm: 'head',
  windows: windowsByFlag,
}

/** transformers' defaults for missing keys. */
const DEFAULTS = { head_dim: 128, num_key_value_heads: 32 }

export function qwen3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}
