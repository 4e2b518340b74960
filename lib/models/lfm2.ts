/**
 * LFM2 and LFM2.5, dense: most layers have a gated short convolution in place of attention. Queries and keys are
 * normalized per head, the MLP is as usual, and modules have their own names.
 */
import { GraphBuilder, type Value } from '../graph/builder.js'
import type { Graph } from '../graph/graph.js'
import { type Decoder, type DecoderTraits, readDecoder } from './decoder.js'
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

export function lfm2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const full = { ...DEFAULTS, ...config }
  const read = fieldReader(full)
  const own = {
    rms_norm_eps: read.number('norm_eps', 1e-5),
    intermediate_size: feedForwardWidth(full, read),
    tie_word_embeddings: read.flag('tie_embedding', read.flag('tie_word_embeddings', true)),
  }
  const c = readDecoder({ ...full, ...own }, traits, ropeFactors)
  const convolution = { bias: read.flag('conv_bias', false), taps: read.size('conv_L_cache', 3) }
  const g = new GraphBuilder()
  const counts = { conv: 0, full_attention: 0 }
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize) // [T, hidden]
  const attentions = read.numbers('full_attn_idxs')
  const usual = (layer: number) =>
    attentions === undefined || attentions.includes(layer) ? 'full_attention' : 'conv'
  layerTypes(read, c.layers, ['conv', 'full_attention'], usual).forEach((type, layer) => {
    const at = `model.layers.${layer}`
    const number = counts[type]++
    x = g.segment(layer, () => {
      const normed = g.rmsNorm(`${at}.operator_norm`, x, c.rmsNormEps)
      const middle =
        type === 'conv'
          ? shortConvolution(g, `${at}.conv`, normed, x, { ...convolution, layer: number })
          : attention(g, c, `${at}.self_attn`, normed, x, number)
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
  options: { bias: boolean; taps: number; layer: number },
): Value {
  const { bias } = options
  const hidden = residual.cols
  const parts = g.linear(`${at}.in_proj`, x, 3 * hidden, { bias })
  return g.linear(`${at}.out_proj`, g.shortConv(`${at}.conv`, parts, options), hidden, { bias, residual })
}

/** @param layer number among the layers with attention */
function attention(g: GraphBuilder, c: Decoder, at: string, x: Value, residual: Value, layer: number): Value {
  const { heads, kvHeads, headDim } = c
  const rotated = (name: 'q' | 'k', count: number) => {
    const projected = g.linear(`${at}.${name}_proj`, x, count * headDim)
    const normed = g.rmsNorm(`${at}.${name}_layernorm`, projected, c.rmsNormEps, { width: headDim })
    return g.rope(`${at}.${name}_rope`, normed, count, headDim)
  }
  const q = rotated('q', heads)
  const k = rotated('k', kvHeads)
  const v = g.linear(`${at}.v_proj`, x, kvHeads * headDim)
  const shape = { heads, kvHeads, headDim, scale: c.multipliers.attention, layer }
  return g.linear(`${at}.out_proj`, g.attention(at, q, k, v, shape), c.hiddenSize, { residual })
}

function feedForward(g: GraphBuilder, c: Decoder, at: string, x: Value): Value {
  const normed = g.rmsNorm(`${at}.ffn_norm`, x, c.rmsNormEps)
  const gate = g.linear(`${at}.feed_forward.w1`, normed, c.intermediateSize)
  const up = g.linear(`${at}.feed_forward.w3`, normed, c.intermediateSize)
  const unit = g.gatedUnit(c.gatedUnit, `${at}.feed_forward.act`, gate, up)
  return g.linear(`${at}.feed_forward.w2`, unit, c.hiddenSize, { residual: x })
}
