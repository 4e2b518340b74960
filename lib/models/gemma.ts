/**
 * Gemma, the first generation (and CodeGemma): the plain decoder with norms of gain 1 + weight, a gated unit with GELU, and
 * an embedding scaled by the square root of its width.
 */
import { UnsupportedError } from '../core/errors.js'
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { shiftedNorms } from '../formats/gguf-stored.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 8192,
  normOffset: 1,
  activation: { key: 'hidden_act', value: 'gelu_pytorch_tanh' },
  bias: attentionBiases,
  windows: (_read, layers) => everyLayer(layers, undefined),
  multipliers: (read) => ({
    embedding: Math.sqrt(read.size('hidden_size')),
    residual: 1,
    attention: 1 / Math.sqrt(read.size('head_dim')),
    logits: 1,
  }),
}

/** transformers' defaults for missing keys. */
const DEFAULTS = { num_key_value_heads: 16, head_dim: 256, tie_word_embeddings: true }

function gemmaGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  if (config.use_bidirectional_attention === true)
    throw new UnsupportedError('config.json: use_bidirectional_attention is true, which is not supported.')
  // The first published configs say gelu and mean its approximation, as transformers knows.
  const activation = config.hidden_act === 'gelu' ? { hidden_act: 'gelu_pytorch_tanh' } : {}
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config, ...activation }, traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'gemma',
  models: 'Gemma',
  names: USUAL_NAMES,
  lacks: /^lm_head\.|\.[qk]_norm\.|\.bias$/,
  config: () => ({
    architectures: ['GemmaForCausalLM'],
    model_type: 'gemma',
    hidden_act: 'gelu_pytorch_tanh',
  }),
  stored: shiftedNorms,
}

export const gemma: Family = {
  types: {
    gemma: {
      graph: gemmaGraph,
      architecture: 'GemmaForCausalLM',
      models: 'Gemma, the first generation, and CodeGemma',
      notes: 'norms with gain 1 + weight, GELU, and a scaled embedding',
      shapes: {
        'Gemma-2B': [2048, 16384, 18, 8, 1, 256000, { tied: true, head_dim: 256 }],
        'Gemma-7B': [3072, 24576, 28, 16, 16, 256000, { tied: true, head_dim: 256 }],
      },
    },
  },
  gguf,
}
