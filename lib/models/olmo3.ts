/** OLMo 3: OLMo 2 with a window in three of four layers, whose rotary embedding is never scaled. */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Graph } from '../graph/graph.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import { OLMO_DEFAULTS, olmoTraits } from './olmo2.js'
import { windowsByPeriod } from './windows.js'

const THETA = 5e5

const traits: DecoderTraits = {
  ...olmoTraits,
  windows: (read, layers) => windowsByPeriod(read, layers, read.optionalSize('sliding_window', 4096), 4),
  thetas: () => ({ full: THETA, windowed: THETA }),
}

export function olmo3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const { rope_theta: theta = THETA, rope_parameters: byType = null } = config
  if (byType === null && theta !== THETA)
    throw new UnsupportedError(
      `config.json: rope_theta is ${quote(theta)}, which transformers gives to layers without a window only; set rope_parameters for full_attention and sliding_attention.`,
      { theta },
    )
  return decoderGraph(readDecoder({ ...OLMO_DEFAULTS, ...config }, traits, ropeFactors))
}
