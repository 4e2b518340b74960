/**
 * Phi-3 and Phi-4-mini: the plain decoder with one linear layer for queries, keys, and values and one for gate and up,
 * partially rotated heads, and separate frequencies for long texts (LongRoPE).
 */
import { LONG_FACTORS, NORMS_BEFORE, type TensorNames } from '../formats/gguf-names.js'
import { headSize, ropeScaling, shareOf, windowOf } from '../formats/gguf-reading.js'
import type { Graph } from '../graph/graph.js'
import { withCallsInContent } from '../tokenizer/adapted-messages.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import { pythonJson } from '../tokenizer/python-text.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 4096,
  bias: () => ({ qkv: false, output: false, mlp: false }),
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window')),
  rope: { types: ['default', 'longrope'], partial: true },
  fusedAttention: true,
  mlp: { path: 'mlp', inputs: ['gate_up_proj'], output: 'down_proj' },
}

/** transformers' defaults for missing keys. */
const DEFAULTS = {
  vocab_size: 32064,
  hidden_size: 3072,
  intermediate_size: 8192,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  rms_norm_eps: 1e-5,
}

function phi3Graph(config: Record<string, unknown>): Graph {
  const full = {
    ...DEFAULTS,
    ...config,
    rope_scaling: renamed(config.rope_scaling),
    rope_parameters: renamed(config.rope_parameters),
    // Takes precedence over the value in the scaling settings.
    original_max_position_embeddings: config.original_max_position_embeddings ?? 4096,
  }
  return decoderGraph(readDecoder(full, traits))
}

/** Older files call LongRoPE `su` or `yarn`. */
function renamed(settings: unknown): unknown {
  if (typeof settings !== 'object' || settings === null) return settings
  const { type, rope_type: newer, ...rest } = settings as Record<string, unknown>
  const name = newer ?? type
  return { ...rest, rope_type: name === 'su' || name === 'yarn' ? 'longrope' : name }
}

const NAMES: TensorNames = {
  inner: [...NORMS_BEFORE, ['attn_qkv', 'self_attn.qkv_proj'], ['ffn_up', 'mlp.gate_up_proj']],
}

const gguf: FamilyGguf = {
  architecture: 'phi3',
  models: 'Phi-3, Phi-4-mini',
  names: NAMES,
  may: { rotatePart: true },
  lacks: /\.[qk]_norm\.|\.bias$|\.[qkv]_proj\.|\.gate_proj\./,
  config(keys, names) {
    const long = names.has(LONG_FACTORS.long_factor)
    const headDim = headSize(keys)
    const columns = keys.integer('rope.dimension_count', 2) ?? headDim
    return {
      architectures: ['Phi3ForCausalLM'],
      model_type: 'phi3',
      sliding_window: windowOf(keys) ?? null,
      partial_rotary_factor: shareOf(columns, headDim),
      original_max_position_embeddings: keys.required(
        'context_length',
        keys.integer('rope.scaling.original_context_length', 1) ?? keys.integer('context_length', 1),
      ),
      rope_scaling: long
        ? { rope_type: 'longrope', attention_factor: keys.number('rope.scaling.attn_factor') ?? 1 }
        : ropeScaling(keys),
    }
  },
  written: {
    alwaysWindow: true,
  },
}

/** Tools belong to the system message, and calls are text. */
const toolsInSystem: TemplateConvention = {
  family: 'Phi-4-mini',
  needs: ['<|tool|>', '<|/tool|>', "message['tools']", 'eos_token'],
  closing: 'eos_token',
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: withTools(messages, tools).map((message) =>
      withCallsInContent(message, (calls) => `<|tool_call|>${pythonJson(calls)}<|/tool_call|>`),
    ),
    options,
  }),
}

function withTools(
  messages: readonly TemplateMessage[],
  tools: readonly unknown[] | undefined,
): TemplateMessage[] {
  if (!tools) return [...messages]
  const [first, ...rest] = messages
  const told = first?.role === 'system' ? first : { role: 'system', content: '' }
  const list = pythonJson(tools.map((tool) => (tool as { function?: unknown }).function ?? tool))
  return [{ ...told, tools: list }, ...(told === first ? rest : messages)]
}

export const phi3: Family = {
  types: {
    phi3: {
      graph: phi3Graph,
      architecture: 'Phi3ForCausalLM',
      models: 'Phi-3, Phi-4-mini',
      notes:
        'one linear for queries, keys, and values and one for gate and up; part of each head rotated; LongRoPE',
      shapes: {
        'Phi-4-mini': [3072, 8192, 32, 24, 8, 200064, { tied: true }],
      },
    },
  },
  gguf,
  templates: [toolsInSystem],
}
