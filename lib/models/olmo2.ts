/**
 * OLMo 2: attention and MLP read the residual stream without a norm, and their outputs are normalized before being
 * added to it.
 */
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { everyLayer } from './windows.js'

/** Traits shared by OLMo 2 and 3. */
export const olmoTraits = {
  positions: 2048,
  queryKeyNorm: 'row',
  norms: 'after',
  bias: attentionBiases,
} as const

const traits: DecoderTraits = { ...olmoTraits, windows: (_read, layers) => everyLayer(layers, undefined) }

/** transformers' defaults for missing keys. */
export const OLMO_DEFAULTS = { rms_norm_eps: 1e-5 }

export function olmo2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...OLMO_DEFAULTS, ...config }, traits, ropeFactors))
}
