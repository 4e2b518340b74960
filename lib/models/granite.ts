/** Granite 3, dense: the plain decoder with multipliers for embedding, residual stream, attention, and logits. */
import type { Graph } from '../graph/graph.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 2048,
  bias: biasesByFlag,
  windows: (_read, layers) => everyLayer(layers, undefined),
  // The attention multiplier replaces 1 / sqrt(head_dim).
  multipliers: (read) => ({
    embedding: read.number('embedding_multiplier', 1),
    residual: read.number('residual_multiplier', 1),
    attention: read.number('attention_multiplier', 1),
    logits: 1 / read.number('logits_scaling', 1),
  }),
}

export function graniteGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}
