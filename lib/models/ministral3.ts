/** Ministral 3: Mistral's decoder, with queries that grow with position beyond the original context. */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { refuseWindow, ropeScaling } from '../formats/gguf-reading.js'
import { rotaryPairs } from '../formats/gguf-stored.js'
import type { Graph, Rotary } from '../graph/graph.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { fieldReader } from './fields.js'
import { ropeParameters } from './rope.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 262144,
  bias: () => ({ qkv: false, output: false, mlp: false }),
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window')),
  queryGrowth,
}

/** Queries, but not keys, at position p are multiplied by 1 + beta ln(1 + floor(p / original)). */
function queryGrowth(config: Record<string, unknown>): Rotary['growth'] {
  const { scaling } = ropeParameters(config)
  const { llama_4_scaling_beta: beta } = scaling
  if (beta === 0) return undefined
  if (typeof beta !== 'number' || !Number.isFinite(beta) || beta < 0)
    throw new ConfigError(
      `config.json: llama_4_scaling_beta of rope_parameters is ${quote(beta ?? null)}; models of type "ministral3" require a number from 0.`,
      { beta },
    )
  const every = fieldReader(scaling, 'config.json rope_parameters').size('original_max_position_embeddings')
  return { rate: beta, every }
}

/** transformers' defaults for missing keys. */
const DEFAULTS = {
  vocab_size: 131072,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 34,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  rms_norm_eps: 1e-5,
}
const DEFAULT_ROPE = {
  rope_type: 'yarn',
  rope_theta: 1e6,
  factor: 16,
  original_max_position_embeddings: 16384,
  beta_fast: 32,
  beta_slow: 1,
  mscale: 1,
  mscale_all_dim: 1,
  llama_4_scaling_beta: 0.1,
}

function ministral3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const silent = (config.rope_parameters ?? config.rope_scaling ?? null) === null
  const full = { ...DEFAULTS, ...config, ...(silent ? { rope_parameters: DEFAULT_ROPE } : {}) }
  return decoderGraph(readDecoder(full, traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'mistral3',
  models: 'Ministral 3',
  names: USUAL_NAMES,
  lacks: /\.[qk]_norm\.|\.bias$/,
  config(keys) {
    refuseWindow(keys)
    // Zero means none.
    const multiplier = keys.number('rope.scaling.yarn_log_multiplier') || undefined
    return {
      architectures: ['Ministral3ForCausalLM'],
      model_type: 'ministral3',
      sliding_window: null,
      rope_theta: undefined,
      rope_scaling: undefined,
      rope_parameters: {
        rope_type: 'default',
        rope_theta: keys.number('rope.freq_base') ?? 10_000,
        original_max_position_embeddings: keys.integer('rope.scaling.original_context_length', 1),
        ...ropeScaling(keys),
        ...(multiplier === undefined ? {} : { mscale: 1, mscale_all_dim: multiplier }),
        llama_4_scaling_beta: keys.number('attention.temperature_scale') ?? 0,
      },
    }
  },
  written: {
    numbers({ rope_parameters, rope_scaling }) {
      const rope = (rope_scaling ?? rope_parameters ?? {}) as Record<string, unknown>
      const { llama_4_scaling_beta: beta, mscale_all_dim: multiplier } = rope
      return [
        ['attention.temperature_scale', beta],
        ['rope.scaling.yarn_log_multiplier', multiplier],
      ]
    },
  },
  stored: rotaryPairs,
}

/** Reasoning is a part of the content. */
const thinkingParts: TemplateConvention = {
  family: 'Ministral 3',
  needs: ['[THINK]', '[/THINK]', '[INST]'],
  adapt: ({ messages, options }) => ({ messages: messages.map(withThinkingPart), options }),
}

function withThinkingPart(message: TemplateMessage): TemplateMessage {
  const { reasoning_content: thinking, ...rest } = message
  if (message.role !== 'assistant' || typeof thinking !== 'string' || thinking === '') return message
  const { content } = message
  const answer = content ? [{ type: 'text', text: content }] : []
  return { ...rest, content: [{ type: 'thinking', thinking }, ...answer] }
}

export const ministral3: Family = {
  types: {
    ministral3: {
      graph: ministral3Graph,
      architecture: 'Ministral3ForCausalLM',
      models: 'Ministral 3, also the text model of a `mistral3` folder',
      notes: 'queries that grow with their position beyond the original context',
      shapes: {
        'Ministral-3-3B': [3072, 9216, 26, 32, 8, 131072, { tied: true, head_dim: 128 }],
        'Ministral-3-8B': [4096, 14336, 34, 32, 8, 131072, { head_dim: 128 }],
        'Ministral-3-14B': [5120, 16384, 40, 32, 8, 131072, { head_dim: 128 }],
      },
    },
  },
  wholes: { mistral3: { texts: ['ministral3', 'mistral'], tied: true } },
  gguf,
  templates: [thinkingParts],
}
