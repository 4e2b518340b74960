/**
 * Qwen2 and Qwen2.5: the plain decoder with biases on query, key, and value. Windows are off unless the config enables
 * them; then they apply to layers from `max_window_layers` on, or to those listed in `layer_types`.
 */
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { QUERY_KEY_NORMS, refuseWindow } from '../formats/gguf-reading.js'
import type { Graph } from '../graph/graph.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { windowsByFlag } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: () => ({ qkv: true, output: false, mlp: false }),
  windows: windowsByFlag,
}

function qwen2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'qwen2',
  models: 'Qwen2, Qwen2.5',
  names: USUAL_NAMES,
  lacks: QUERY_KEY_NORMS,
  config(keys) {
    refuseWindow(keys)
    return { architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2', use_sliding_window: false }
  },
}

export const qwen2: Family = {
  types: {
    qwen2: {
      graph: qwen2Graph,
      architecture: 'Qwen2ForCausalLM',
      models: 'Qwen2, Qwen2.5',
      notes: 'windows if the config enables them',
      shapes: {
        'Qwen2.5-0.5B': [896, 4864, 24, 14, 2, 151936, { tied: true }],
        'Qwen2.5-1.5B': [1536, 8960, 28, 12, 2, 151936, { tied: true }],
        'Qwen2.5-3B': [2048, 11008, 36, 16, 2, 151936, { tied: true }],
        'Qwen2.5-7B': [3584, 18944, 28, 28, 4, 152064],
        'Qwen2.5-14B': [5120, 13824, 48, 40, 8, 152064],
        'Qwen2.5-32B': [5120, 27648, 64, 40, 8, 152064],
        'Qwen2.5-72B': [8192, 29568, 80, 64, 8, 152064],
      },
    },
  },
  gguf,
}
