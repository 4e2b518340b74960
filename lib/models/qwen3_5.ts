/**
 * Qwen3.5, dense, text only: most layers have a gated delta rule behind a short convolution in place of attention. The
 * output of attention has a gate per column, a quarter of each head is rotated, and norms multiply by 1 + weight.
 */
import { ConfigError } from '../core/errors.js'
import { GraphBuilder, type Value } from '../graph/builder.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type Decoder, type DecoderTraits, readDecoder } from './decoder.js'
import { type FieldReader, fieldReader } from './fields.js'
import { layerTypes } from './layer-types.js'
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

/** Sizes of the gated delta rule. */
interface DeltaRule {
  keyHeads: number
  valueHeads: number
  keyDim: number
  valueDim: number
  /** Taps of the convolution. */
  taps: number
}

export function qwen35Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const full = { ...DEFAULTS, ...config }
  const read = fieldReader(full)
  const c = readDecoder(full, traits, ropeFactors)
  const rule = deltaRule(read)
  const g = new GraphBuilder()
  const counts = { linear_attention: 0, full_attention: 0 }
  const norm = (path: string, x: Value) => g.rmsNorm(path, x, c.rmsNormEps, { offset: c.normOffset })
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize) // [T, hidden]
  const interval = read.size('full_attention_interval', 4)
  const usual = (layer: number) => ((layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention')
  layerTypes(read, c.layers, ['linear_attention', 'full_attention'], usual).forEach((type, layer) => {
    const at = `model.layers.${layer}`
    const number = counts[type]++
    x = g.segment(layer, () => {
      const normed = norm(`${at}.input_layernorm`, x)
      const middle =
        type === 'linear_attention'
          ? linearAttention(g, c, rule, `${at}.linear_attn`, normed, x, number)
          : attention(g, c, `${at}.self_attn`, normed, x, number)
      return mlp(g, c, `${at}.mlp`, norm(`${at}.post_attention_layernorm`, middle), middle)
    })
  })
  const last = norm('model.norm', x)
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({ family: c.family, vocabSize: c.vocabSize, layers: c.layers, ropes: c.ropes })
}

function deltaRule(read: FieldReader): DeltaRule {
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

/** @param layer number among the layers with a gated delta rule */
function linearAttention(
  g: GraphBuilder,
  c: Decoder,
  { keyHeads, valueHeads, keyDim, valueDim, taps }: DeltaRule,
  at: string,
  x: Value,
  residual: Value,
  layer: number,
): Value {
  const width = valueHeads * valueDim
  const parts = g.linear(`${at}.in_proj_qkv`, x, 2 * keyHeads * keyDim + width)
  const gate = g.linear(`${at}.in_proj_z`, x, width)
  const beta = g.linear(`${at}.in_proj_b`, x, valueHeads)
  const alpha = g.linear(`${at}.in_proj_a`, x, valueHeads)
  const convolved = g.siluConv(`${at}.conv1d`, parts, { taps, bias: false, layer })
  const shape = { heads: valueHeads, keyHeads, keyDim, layer }
  const read = g.gatedDeltaRule(at, convolved, beta, alpha, shape)
  const normed = g.rmsNorm(`${at}.norm`, read, c.rmsNormEps, { width: valueDim })
  return g.linear(`${at}.out_proj`, g.gatedUnit('swiglu', `${at}.gate`, gate, normed), c.hiddenSize, {
    residual,
  })
}

/** @param layer number among the layers with attention */
function attention(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value, layer: number): Value {
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
  const shape = { heads, kvHeads, headDim, scale: c.multipliers.attention, layer }
  const gated = g.gatedUnit('glu', `${at}.gate_act`, gate, g.attention(at, q, k, v, shape))
  return g.linear(`${at}.o_proj`, gated, c.hiddenSize, { bias: c.bias.output, residual })
}

function mlp(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value): Value {
  const gate = g.linear(`${at}.gate_proj`, x, c.intermediateSize)
  const up = g.linear(`${at}.up_proj`, x, c.intermediateSize)
  const unit = g.gatedUnit(c.gatedUnit, `${at}.act`, gate, up)
  return g.linear(`${at}.down_proj`, unit, c.hiddenSize, { residual })
}
