/** Mistral: the plain decoder with a window of `sliding_window` keys in every layer. */
import type { Graph } from '../graph/graph.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 131072,
  bias: biasesByFlag,
  // An absent key means 4096, as in transformers; null means no window.
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window', 4096)),
}

export function mistralGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}
