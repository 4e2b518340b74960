/**
 * Qwen3, dense: the plain decoder with queries and keys normalized by head, whose size is not tied to the hidden size.
 * Windows are off unless the config turns them on, as in Qwen2.
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

/** Defaults of transformers for keys that the config lacks. */
const DEFAULTS = { head_dim: 128, num_key_value_heads: 32 }

export function qwen3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}
