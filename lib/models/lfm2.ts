/**
 * LFM2 and LFM2.5, dense: most layers have a gated short convolution in place of attention. Queries and keys are
 * normalized per head, the MLP is as usual, and modules have their own names.
 */
import { FileFormatError } from '../core/errors.js'
import { fieldEntry } from '../formats/gguf-fields.js'
import type { TensorNames } from '../formats/gguf-names.js'
import { KV_HEADS } from '../formats/gguf-reading.js'
import { GraphBuilder, type Value } from '../graph/builder.js'
import { type Graph, nodesOf } from '../graph/graph.js'
import { callsOf, pythonCall, withThoughtInContent } from '../tokenizer/adapted-messages.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import { PYTHON_WORDS } from '../tokenizer/python-text.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { type Decoder, type DecoderTraits, readDecoder } from './decoder.js'
import type { Family, FamilyGguf, FieldsInPlace } from './family.js'
import { type FieldReader, fieldReader } from './fields.js'
import { layerTypes } from './layer-types.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 128000,
  bias: () => ({ qkv: false, output: false, mlp: false }),
  queryKeyNorm: 'head',
  windows: (_read, layers) => everyLayer(layers, undefined),
}

/** transformers' defaults for missing keys. */
const DEFAULTS = {
  vocab_size: 65536,
  hidden_size: 2560,
  intermediate_size: 12288,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  rope_theta: 1e6,
}

function lfm2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const full = { ...DEFAULTS, ...config }
  const read = fieldReader(full)
  const own = {
    rms_norm_eps: read.number('norm_eps', 1e-5),
    intermediate_size: feedForwardWidth(full, read),
    tie_word_embeddings: read.flag('tie_embedding', read.flag('tie_word_embeddings', true)),
    hidden_act: 'silu', // whatever its config says, as in transformers
  }
  const c = readDecoder({ ...full, ...own }, traits, ropeFactors)
  const convolution = { bias: read.flag('conv_bias', false), taps: read.size('conv_L_cache', 3) }
  const g = new GraphBuilder()
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize) // [T, hidden]
  const attentions = read.numbers('full_attn_idxs')
  const usual = (layer: number) =>
    attentions === undefined || attentions.includes(layer) ? 'full_attention' : 'conv'
  layerTypes(read, c.layers, ['conv', 'full_attention'], usual).forEach((type, layer) => {
    const at = `model.layers.${layer}`
    x = g.segment(layer, () => {
      const normed = g.rmsNorm(`${at}.operator_norm`, x, c.rmsNormEps)
      const middle =
        type === 'conv'
          ? shortConvolution(g, `${at}.conv`, normed, x, convolution)
          : attention(g, c, `${at}.self_attn`, normed, x)
      return feedForward(g, c, at, middle)
    })
  })
  const last = g.rmsNorm('model.embedding_norm', x, c.rmsNormEps)
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({ family: c.family, vocabSize: c.vocabSize, layers: c.layers, ropes: c.ropes })
}

/** `block_ff_dim` is the older key and wins. Unless told otherwise, two thirds of it are used, rounded up. */
function feedForwardWidth(config: Record<string, unknown>, read: FieldReader): number {
  const width = read.size(config.block_ff_dim == null ? 'intermediate_size' : 'block_ff_dim')
  if (!read.flag('block_auto_adjust_ff_dim', true)) return width
  const part = Math.floor((2 * width) / 3)
  if (config.block_ffn_dim_multiplier === null) return part
  const unit = read.size('block_multiple_of', 256)
  return unit * Math.ceil(Math.floor(read.number('block_ffn_dim_multiplier', 1) * part) / unit)
}

function shortConvolution(
  g: GraphBuilder,
  at: string,
  x: Value,
  residual: Value,
  { bias, taps }: { bias: boolean; taps: number },
): Value {
  const cols = residual.cols
  const parts = g.linear(`${at}.in_proj`, x, 3 * cols, { bias })
  const path = `${at}.conv`
  const weight = g.weight(`${path}.weight`, 1, cols * taps, 'vector', [cols, 1, taps])
  const own = bias ? { bias: g.weight(`${path}.bias`, 1, cols, 'vector') } : {}
  const convolved = g.add(cols, 'operand', { op: 'short_conv', path, x: parts.id, weight, ...own })
  return g.linear(`${at}.out_proj`, convolved, cols, { bias, residual })
}

function attention(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value): Value {
  const { heads, kvHeads, headDim } = c
  const rotated = (name: 'q' | 'k', count: number) => {
    const projected = g.linear(`${at}.${name}_proj`, x, count * headDim)
    const normed = g.rmsNorm(`${at}.${name}_layernorm`, projected, c.rmsNormEps, { width: headDim })
    return g.rope(`${at}.${name}_rope`, normed, count, headDim)
  }
  const q = rotated('q', heads)
  const k = rotated('k', kvHeads)
  const v = g.linear(`${at}.v_proj`, x, kvHeads * headDim)
  const shape = { heads, kvHeads, headDim, scale: c.multipliers.attention }
  return g.linear(`${at}.out_proj`, g.attention(at, q, k, v, shape), c.hiddenSize, { residual })
}

function feedForward(g: GraphBuilder, c: Decoder, at: string, x: Value): Value {
  const normed = g.rmsNorm(`${at}.ffn_norm`, x, c.rmsNormEps)
  const gate = g.linear(`${at}.feed_forward.w1`, normed, c.intermediateSize)
  const up = g.linear(`${at}.feed_forward.w3`, normed, c.intermediateSize)
  const unit = g.gatedUnit(c.activation, `${at}.feed_forward.act`, gate, up)
  return g.linear(`${at}.feed_forward.w2`, unit, c.hiddenSize, { residual: x })
}

const NAMES: TensorNames = {
  outer: [['token_embd_norm.weight', 'model.embedding_norm.weight']],
  inner: [
    ['attn_norm', 'operator_norm'],
    ['attn_q_norm', 'self_attn.q_layernorm'],
    ['attn_k_norm', 'self_attn.k_layernorm'],
    ['attn_output', 'self_attn.out_proj'],
    ['shortconv.in_proj', 'conv.in_proj'],
    ['shortconv.conv', 'conv.conv'],
    ['shortconv.out_proj', 'conv.out_proj'],
    ['ffn_norm', 'ffn_norm'],
    ['ffn_gate', 'feed_forward.w1'],
    ['ffn_up', 'feed_forward.w3'],
    ['ffn_down', 'feed_forward.w2'],
  ],
  filters: ['conv.conv'],
}

const gguf: FamilyGguf = {
  architecture: 'lfm2',
  models: 'LFM2, LFM2.5, dense',
  names: NAMES,
  may: { lackHeads: true },
  lacks: /\.bias$/,
  config(keys) {
    const layers = keys.required('block_count', keys.integer('block_count', 1))
    const whole = typeof keys.metadata.get(keys.prefix + KV_HEADS) !== 'object'
    const heads = whole ? undefined : Array.from(keys.required(KV_HEADS, keys.numbers(KV_HEADS)))
    if (heads !== undefined && heads.length !== layers)
      throw new FileFormatError(
        `${keys.path}: ${keys.prefix}${KV_HEADS} must have ${layers} numbers, one for each layer`,
        { path: keys.path, key: keys.prefix + KV_HEADS },
      )
    const epsilon = 'attention.layer_norm_rms_epsilon'
    return {
      architectures: ['Lfm2ForCausalLM'],
      model_type: 'lfm2',
      norm_eps: keys.required(epsilon, keys.number(epsilon)),
      conv_L_cache: keys.required('shortconv.l_cache', keys.integer('shortconv.l_cache', 1)),
      conv_bias: false,
      block_auto_adjust_ff_dim: false,
      layer_types: Array.from({ length: layers }, (_, layer) =>
        heads?.[layer] === 0 ? 'conv' : 'full_attention',
      ),
    }
  },
  written: { fields: writtenFields },
}

/** Layers with a convolution have no heads of keys and values. */
function writtenFields(graph: Graph): FieldsInPlace {
  const heads = new Int32Array(graph.layers)
  for (const { segment, kvHeads } of nodesOf(graph, 'attention')) heads[segment] = kvHeads
  const [convolution] = nodesOf(graph, 'short_conv')
  if (convolution === undefined) return {}
  const kernel = graph.weights.find(({ name }) => name === convolution.weight)
  return {
    [KV_HEADS]: () => [
      fieldEntry.i32s(KV_HEADS, heads),
      fieldEntry.u32('shortconv.l_cache', kernel?.shape?.[2] ?? 0),
    ],
  }
}

/** Calls are text before the content, in Python. */
const callsBefore: TemplateConvention = {
  family: 'LFM2',
  needs: ['<|tool_list_start|>', '<|im_start|>'],
  adapt: ({ messages, options }) => ({ messages: messages.map(withPythonCalls), options }),
}

function withPythonCalls(message: TemplateMessage): TemplateMessage {
  const { tool_calls: _, ...rest } = message
  const calls = callsOf(message).map((call) => pythonCall(call, PYTHON_WORDS))
  if (calls.length === 0) return message
  const content = `<|tool_call_start|>[${calls.join(', ')}]<|tool_call_end|>${message.content ?? ''}`
  return { ...rest, content }
}

const KEEPS_THINKING = { keep_past_thinking: true, preserve_thinking: true }

/** Reasoning has another key. */
const thinkingKey: TemplateConvention = {
  family: 'LFM2.5',
  needs: ['<|tool_call_start|>', '<|im_start|>', 'message.thinking'],
  history: KEEPS_THINKING,
  adapt: ({ messages, options }) => ({ messages: messages.map(withThinkingKey), options }),
}

function withThinkingKey(message: TemplateMessage): TemplateMessage {
  const { reasoning_content: thinking, ...rest } = message
  return message.role === 'assistant' && typeof thinking === 'string' ? { ...rest, thinking } : message
}

/** The first revision: reasoning and calls are parts of the content. */
const inContent: TemplateConvention = {
  family: 'LFM2.5',
  needs: ['keep_past_thinking', '<|im_start|>', '</think>'],
  history: KEEPS_THINKING,
  adapt: ({ messages, options }) => ({
    messages: messages.map((message) => withThoughtInContent(withPythonCalls(message))),
    options,
  }),
}

const attentions = (...layers: number[]) =>
  ({ tied: true, full_attn_idxs: layers, block_auto_adjust_ff_dim: false }) as const

export const lfm2: Family = {
  types: {
    lfm2: {
      graph: lfm2Graph,
      architecture: 'Lfm2ForCausalLM',
      models: 'LFM2 and LFM2.5, dense',
      notes:
        'gated short convolutions in place of attention in most layers; queries and keys normalized per head',
      shapes: {
        'LFM2-350M': [1024, 4608, 16, 16, 8, 65536, attentions(2, 5, 8, 10, 12, 14)],
        'LFM2-700M': [1536, 6912, 16, 24, 8, 65536, attentions(2, 5, 8, 10, 12, 14)],
        'LFM2-1.2B': [2048, 8192, 16, 32, 8, 65536, attentions(2, 5, 8, 10, 12, 14)],
        'LFM2-2.6B': [2048, 10752, 30, 32, 8, 65536, attentions(2, 5, 9, 13, 17, 21, 24, 27)],
      },
    },
  },
  gguf,
  templates: [callsBefore, thinkingKey, inContent],
}
