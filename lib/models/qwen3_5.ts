/**
 * Qwen3.5, dense, text only: most layers have a gated delta rule behind a short convolution in place of attention. The
 * output of attention has a gate per column, a quarter of each head is rotated, and norms multiply by 1 + weight.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { fieldEntry } from '../formats/gguf-fields.js'
import type { StoredForm, StoredSizes } from '../formats/gguf-form.js'
import type { GgufKeys } from '../formats/gguf-metadata.js'
import type { TensorNames } from '../formats/gguf-names.js'
import { headSize, KV_HEADS, shareOf } from '../formats/gguf-reading.js'
import { shiftedNorms } from '../formats/gguf-stored.js'
import type { DeltaRuleSizes, HeadOrder } from '../formats/head-order.js'
import { GraphBuilder, type Value } from '../graph/builder.js'
import { deltaRuleOf, type Graph, nodesOf } from '../graph/graph.js'
import { attentionBiases, type Decoder, type DecoderTraits, readDecoder } from './decoder.js'
import type { Family, FamilyGguf, FieldsInPlace } from './family.js'
import { type FieldReader, fieldReader } from './fields.js'
import { layerTypes } from './layer-types.js'
import { ropeParameters } from './rope.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: attentionBiases,
  queryKeyNorm: 'head',
  normOffset: 1,
  windows: (_read, layers) => everyLayer(layers, undefined),
  rope: { types: ['default', 'linear', 'yarn'], partial: true },
}

/** transformers' defaults for missing keys; nested text configs rely on many of them. */
const DEFAULTS = {
  vocab_size: 248320,
  hidden_size: 4096,
  intermediate_size: 12288,
  num_hidden_layers: 32,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  head_dim: 256,
  partial_rotary_factor: 0.25,
}

function qwen35Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const full = { ...DEFAULTS, ...config }
  const read = fieldReader(full)
  const c = readDecoder(full, traits, ropeFactors)
  // Its delta rules have this function, too, where only silu is built.
  if (c.activation !== 'silu')
    throw new UnsupportedError(
      `config.json: hidden_act is ${quote(config.hidden_act)}; models of type qwen3_5_text require "silu".`,
      { activation: c.activation },
    )
  const rule = deltaRule(read)
  const g = new GraphBuilder()
  const norm = (path: string, x: Value) => g.rmsNorm(path, x, c.rmsNormEps, { offset: c.normOffset })
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize) // [T, hidden]
  const interval = read.size('full_attention_interval', 4)
  const usual = (layer: number) => ((layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention')
  layerTypes(read, c.layers, ['linear_attention', 'full_attention'], usual).forEach((type, layer) => {
    const at = `model.layers.${layer}`
    x = g.segment(layer, () => {
      const normed = norm(`${at}.input_layernorm`, x)
      const middle =
        type === 'linear_attention'
          ? linearAttention(g, c, rule, `${at}.linear_attn`, normed, x)
          : attention(g, c, `${at}.self_attn`, normed, x)
      return mlp(g, c, `${at}.mlp`, norm(`${at}.post_attention_layernorm`, middle), middle)
    })
  })
  const last = norm('model.norm', x)
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({ family: c.family, vocabSize: c.vocabSize, layers: c.layers, ropes: c.ropes })
}

function deltaRule(read: FieldReader): DeltaRuleSizes {
  const keyHeads = read.size('linear_num_key_heads', 16)
  const valueHeads = read.size('linear_num_value_heads', 32)
  if (valueHeads % keyHeads !== 0)
    throw new ConfigError(
      `config.json: linear_num_value_heads is ${valueHeads}, which is not a multiple of linear_num_key_heads ${keyHeads}.`,
      { valueHeads, keyHeads },
    )
  return {
    keyHeads,
    valueHeads,
    keyDim: read.size('linear_key_head_dim', 128),
    valueDim: read.size('linear_value_head_dim', 128),
    taps: read.size('linear_conv_kernel_dim', 4),
  }
}

function linearAttention(
  g: GraphBuilder,
  c: Decoder,
  { keyHeads, valueHeads, keyDim, valueDim, taps }: DeltaRuleSizes,
  at: string,
  x: Value,
  residual: Value,
): Value {
  const width = valueHeads * valueDim
  const parts = g.linear(`${at}.in_proj_qkv`, x, 2 * keyHeads * keyDim + width)
  const gate = g.linear(`${at}.in_proj_z`, x, width)
  const beta = g.linear(`${at}.in_proj_b`, x, valueHeads)
  const alpha = g.linear(`${at}.in_proj_a`, x, valueHeads)
  const { cols } = parts
  const path = `${at}.conv1d`
  const filter = g.weight(`${path}.weight`, 1, cols * taps, 'vector', [cols, 1, taps])
  const convolved = g.add(cols, 'operand', { op: 'silu_conv', path, x: parts.id, weight: filter })
  const read = g.add(width, 'operand', {
    op: 'gated_delta_rule',
    path: at,
    x: convolved.id,
    beta: beta.id,
    alpha: alpha.id,
    weight: g.weight(`${at}.A_log`, 1, valueHeads, 'vector'),
    bias: g.weight(`${at}.dt_bias`, 1, valueHeads, 'vector'),
    heads: valueHeads,
    keyHeads,
    keyDim,
  })
  const normed = g.rmsNorm(`${at}.norm`, read, c.rmsNormEps, { width: valueDim })
  return g.linear(`${at}.out_proj`, g.gatedUnit('silu', `${at}.gate`, gate, normed), c.hiddenSize, {
    residual,
  })
}

function attention(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value): Value {
  const { heads, kvHeads, headDim } = c
  const { qkv: bias } = c.bias
  const both = g.linear(`${at}.q_proj`, x, 2 * heads * headDim, { bias })
  const [query, gate] = g.splitHeads(at, both, heads, { q: headDim, gate: headDim }) as [Value, Value]
  const rotated = (name: 'q' | 'k', projected: Value, count: number) => {
    const options = { width: headDim, offset: c.normOffset }
    const normed = g.rmsNorm(`${at}.${name}_norm`, projected, c.rmsNormEps, options)
    return g.rope(`${at}.${name}_rope`, normed, count, headDim)
  }
  const q = rotated('q', query, heads)
  const k = rotated('k', g.linear(`${at}.k_proj`, x, kvHeads * headDim, { bias }), kvHeads)
  const v = g.linear(`${at}.v_proj`, x, kvHeads * headDim, { bias })
  const shape = { heads, kvHeads, headDim, scale: c.multipliers.attention }
  const gated = g.gatedUnit('sigmoid', `${at}.gate_act`, gate, g.attention(at, q, k, v, shape))
  return g.linear(`${at}.o_proj`, gated, c.hiddenSize, { bias: c.bias.output, residual })
}

function mlp(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value): Value {
  const gate = g.linear(`${at}.gate_proj`, x, c.intermediateSize)
  const up = g.linear(`${at}.up_proj`, x, c.intermediateSize)
  const unit = g.gatedUnit(c.activation, `${at}.act`, gate, up)
  return g.linear(`${at}.down_proj`, unit, c.hiddenSize, { residual })
}

const NAMES: TensorNames = {
  inner: [
    ['attn_norm', 'input_layernorm'],
    ['post_attention_norm', 'post_attention_layernorm'],
    ['attn_qkv', 'linear_attn.in_proj_qkv'],
    ['attn_gate', 'linear_attn.in_proj_z'],
    ['ssm_beta', 'linear_attn.in_proj_b'],
    ['ssm_alpha', 'linear_attn.in_proj_a'],
    ['ssm_conv1d', 'linear_attn.conv1d'],
    ['ssm_norm', 'linear_attn.norm'],
    ['ssm_out', 'linear_attn.out_proj'],
  ],
  vectors: [
    ['ssm_a', 'linear_attn.A_log'],
    ['ssm_dt.bias', 'linear_attn.dt_bias'],
  ],
  filters: ['linear_attn.conv1d'],
}

/** Number of blocks at the end that predict further tokens, which are not loaded. */
const furtherBlocks = (keys: GgufKeys): number => keys.integer('nextn_predict_layers', 0) ?? 0

/** Sizes of gated delta rules in a config. */
function deltaRuleSizes(config: Record<string, unknown>): DeltaRuleSizes {
  const size = (key: string) => config[`linear_${key}`] as number
  return {
    keyHeads: size('num_key_heads'),
    valueHeads: size('num_value_heads'),
    keyDim: size('key_head_dim'),
    valueDim: size('value_head_dim'),
    taps: size('conv_kernel_dim'),
  }
}

/** The order of a tensor by its Hugging Face name; undefined if files have it as models do. */
function headOrder(name: string, sizes: DeltaRuleSizes): HeadOrder | undefined {
  const { keyHeads, valueHeads: heads, keyDim, valueDim, taps } = sizes
  const [, part] = /\.linear_attn\.(\w+)(\.weight)?$/.exec(name) ?? []
  if (part === undefined || heads === keyHeads) return undefined
  const before = 2 * keyHeads * keyDim
  const places: Readonly<Record<string, Omit<HeadOrder, 'heads' | 'keyHeads'>>> = {
    in_proj_qkv: { size: valueDim, first: before },
    conv1d: { size: valueDim * taps, first: before * taps },
    in_proj_z: { size: valueDim },
    in_proj_b: { size: 1 },
    in_proj_a: { size: 1 },
    A_log: { size: 1 },
    dt_bias: { size: 1 },
    out_proj: { size: valueDim, columns: true },
  }
  const place = places[part]
  return place && { heads, keyHeads, ...place }
}

/** Norms are stored with their 1, except that of the delta rule; value heads have another order. */
function stored(name: string, { rule }: StoredSizes): StoredForm {
  const order = rule && headOrder(name, rule)
  return {
    ...(name.endsWith('.linear_attn.norm.weight') ? {} : shiftedNorms(name)),
    ...(name.endsWith('.linear_attn.A_log') ? { negatedExp: true as const } : {}),
    ...(order && { headOrder: order }),
  }
}

const gguf: FamilyGguf = {
  architecture: 'qwen35',
  models: 'Qwen3.5, dense, text',
  names: NAMES,
  may: { rotatePart: true },
  skips: furtherBlocks,
  lacks: /\.bias$/,
  config(keys) {
    const need = (key: string) => keys.required(key, keys.integer(key, 1))
    const headDim = headSize(keys)
    const valueHeads = need('ssm.time_step_rank')
    const inner = need('ssm.inner_size')
    const state = need('ssm.state_size')
    if (inner !== valueHeads * state)
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}ssm.inner_size is ${inner}, but ${valueHeads} value heads (ssm.time_step_rank) of ${state} (ssm.state_size) give ${valueHeads * state}; value heads of another size than key heads are not supported in GGUF files`,
        { path: keys.path, inner, valueHeads, state },
      )
    const columns = keys.integer('rope.dimension_count', 2) ?? headDim
    const interval = keys.integer('full_attention_interval', 1) ?? 4
    return {
      architectures: ['Qwen3_5ForCausalLM'],
      model_type: 'qwen3_5_text',
      partial_rotary_factor: shareOf(columns, headDim),
      linear_num_key_heads: need('ssm.group_count'),
      linear_num_value_heads: valueHeads,
      linear_key_head_dim: state,
      linear_value_head_dim: state,
      linear_conv_kernel_dim: need('ssm.conv_kernel'),
      layer_types: Array.from({ length: need('block_count') - furtherBlocks(keys) }, (_, layer) =>
        (layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
      ),
    }
  },
  stored,
  sizes: (config) => ({ rule: deltaRuleSizes(config) }),
  written: { fields: writtenFields },
}

function writtenFields(graph: Graph, config: Readonly<Record<string, unknown>>): FieldsInPlace {
  const rule = deltaRuleOf(graph)
  if (rule === undefined) return {}
  const { keyHeads, valueHeads, keyDim, valueDim, taps } = rule
  const [rope] = graph.ropes
  const sections = sectionsOf(ropeParameters(config).scaling.mrope_section, rope?.invFreq.length ?? 0)
  const { u32, i32s } = fieldEntry
  return {
    [KV_HEADS]: (common) => [
      common,
      u32('ssm.conv_kernel', taps),
      u32('ssm.state_size', keyDim),
      u32('ssm.group_count', keyHeads),
      u32('ssm.time_step_rank', valueHeads),
      u32('ssm.inner_size', valueHeads * valueDim),
      u32('full_attention_interval', 1 + (nodesOf(graph, 'attention')[0]?.segment ?? 0)),
    ],
    'rope.dimension_count': (common) => [common, i32s('rope.dimension_sections', sections)],
  }
}

/** Rotated pairs with positions in time, height, and width, which are the same for text. */
function sectionsOf(given: unknown, pairs: number): Int32Array {
  if (Array.isArray(given) && given.length === 3 && given.every(Number.isInteger))
    return Int32Array.of(...given, 0)
  // Pairs take turns.
  return Int32Array.of(...[2, 1, 0].map((more) => Math.floor((pairs + more) / 3)), 0)
}

/**
 * For training, of Qwen3.5 and 3.6: ChatML with tools as JSON, calls as XML, and reasoning in `<think>`. The model's own
 * template renders the reasoning of the turns after the last question only; here every turn of the assistant has its
 * block, empty where there is none. The prompt opens the block, so answers are marked behind `<think>`.
 */
const TEMPLATE = String.raw`
{%- macro text_of(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content or [] %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set system = text_of(messages[0].content) | trim if messages[0].role == 'system' else '' %}
{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n' }}
    {{- '<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n' }}
    {{- '<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n' }}
    {{- '</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n' }}
    {{- '- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested ' }}
    {{- 'within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n' }}
    {{- '- You may provide optional reasoning for your function call in natural language BEFORE the function call, ' }}
    {{- 'but NOT after\n- If there is no function call available, answer the question like normal with your current ' }}
    {{- 'knowledge and do not tell the user about function calls\n</IMPORTANT>' }}
    {{- '\n\n' + system if system }}
    {{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + system + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = text_of(message.content) | trim %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n<think>\n' }}
        {%- generation %}
            {{- (message.reasoning_content or '') | trim + '\n</think>\n\n' + content }}
            {%- for call in message.tool_calls or [] %}
                {{- '\n' if not loop.first else '\n\n' if content }}
                {{- '<tool_call>\n<function=' + call.function.name + '>\n' }}
                {%- for key, value in call.function.arguments | items %}
                    {%- set nested = value is mapping or (value is sequence and value is not string) %}
                    {{- '<parameter=' + key + '>\n' + (value | tojson if nested else value | string) + '\n</parameter>\n' }}
                {%- endfor %}
                {{- '</function>\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {{- '<|im_end|>\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}
    {%- elif message.role == 'user' %}
        {{- '<|im_start|>user\n' + content + '<|im_end|>\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- raise_exception('a message of the role ' + message.role + ' cannot stand here') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n<think>\n' }}
{%- endif %}
`.trim()

const TEMPLATE_NEEDS = ['<|im_start|>', '<think>', 'reasoning_content', '<function=', '<parameter=']

const deltaRuleHeads = (valueHeads: number) => ({
  linear_num_key_heads: 16,
  linear_num_value_heads: valueHeads,
})

export const qwen35: Family = {
  types: {
    qwen3_5_text: {
      graph: qwen35Graph,
      architecture: 'Qwen3_5ForCausalLM',
      models: 'Qwen3.5, dense, also the text model of a `qwen3_5` folder',
      notes:
        'gated delta rules behind short convolutions in place of attention in three of four layers; a gate on the output of attention; a quarter of each head rotated; images and the prediction of further tokens (`mtp`) are not supported',
      shapes: {
        'Qwen3.5-0.8B': [1024, 3584, 24, 8, 2, 248320, { tied: true, ...deltaRuleHeads(16) }],
        'Qwen3.5-2B': [2048, 6144, 24, 8, 2, 248320, { tied: true, ...deltaRuleHeads(16) }],
        'Qwen3.5-4B': [2560, 9216, 32, 16, 4, 248320, { tied: true, ...deltaRuleHeads(32) }],
        'Qwen3.5-9B': [4096, 12288, 32, 16, 4, 248320, deltaRuleHeads(32)],
        'Qwen3.5-27B': [5120, 17408, 64, 24, 4, 248320, deltaRuleHeads(48)],
      },
    },
  },
  wholes: { qwen3_5: { texts: ['qwen3_5_text'], tied: false, loadsText: true } },
  gguf,
  templates: [
    { family: 'Qwen3.5', source: TEMPLATE, needs: TEMPLATE_NEEDS },
    {
      family: 'Qwen3.6',
      // Scalars in calls are JSON, where Qwen3.5 has Python's `True` and `None`.
      source: TEMPLATE.replace('nested else value | string', 'value is not string else value'),
      needs: TEMPLATE_NEEDS,
    },
  ],
}
