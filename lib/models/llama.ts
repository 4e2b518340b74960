/** Llama 2 and 3.x, SmolLM2, TinyLlama: the plain decoder, with biases if the config enables them. */
import type { Graph } from '../graph/graph.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 2048,
  bias: biasesByFlag,
  windows: (_read, layers) => everyLayer(layers, undefined),
}

export function llamaGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}
