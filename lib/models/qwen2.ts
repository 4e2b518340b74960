/**
 * Qwen2 and Qwen2.5: the plain decoder with biases on query, key, and value. Windows are off unless the config enables
 * them; then they apply to layers from `max_window_layers` on, or to those listed in `layer_types`.
 */
import type { Graph } from '../graph/graph.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { windowsByFlag } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: () => ({ qkv: true, output: false, mlp: false }),
  windows: windowsByFlag,
}

export function qwen2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}
