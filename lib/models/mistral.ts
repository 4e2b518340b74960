/** Mistral: the plain decoder, all of whose layers see a window of `sliding_window` keys. */
import type { Graph } from '../graph/graph.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 131072,
  bias: biasesByFlag,
  // Absent means 4096, as transformers has it; null means none.
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window', 4096)),
}

export function mistralGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}
