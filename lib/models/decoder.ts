/**
 * The decoder that most families share: pre-norm blocks of grouped-query attention with rotary embedding and a SwiGLU
 * MLP; the head may be tied to the embedding. A family's own file says where its config differs, and which layers see
 * a window.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { LARGEST_ATTENTION_WIDTH } from '../formats/model-limits.js'
import { GraphBuilder } from '../graph/builder.js'
import type { Graph, Rotary } from '../graph/graph.js'
import { type FieldReader, fieldReader } from './fields.js'
import { rotaryFrequencies } from './rope.js'

/** The numbers that shape the graph. */
export interface Decoder {
  family: string
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  rmsNormEps: number
  /** True if the linears have biases: query, key, and value; the output of attention; the MLP. */
  bias: { qkv: boolean; output: boolean; mlp: boolean }
  /** True if queries and keys are normalized per head before they are rotated. */
  queryKeyNorm: boolean
  tied: boolean
  ropes: Rotary[]
  /** Keys that a token of each layer sees, its own included; undefined for all before it. */
  windows: (number | undefined)[]
  /** For each layer the number of the rotation of its queries and keys; undefined for none. */
  rotations: (number | undefined)[]
  multipliers: Multipliers
}

/** Constants that multiply parts of the model. */
export interface Multipliers {
  /** Rows of the embedding. */
  embedding: number
  /** Outputs of attention and MLP before they join the residual stream. */
  residual: number
  /** Scores of attention. */
  attention: number
  logits: number
}

/** Properties of a family; the rest is read from the config. */
export interface DecoderTraits {
  /** Default of `max_position_embeddings`. */
  positions: number
  bias(read: FieldReader): Decoder['bias']
  queryKeyNorm?: true
  windows(read: FieldReader, layers: number): Decoder['windows']
  /** True for each layer that rotates queries and keys; all by default. */
  rotated?(read: FieldReader, layers: number): boolean[]
  /** All 1 by default, but that of the scores, which is 1 / sqrt(head_dim). */
  multipliers?(read: FieldReader): Multipliers
}

/** Biases where `attention_bias` and `mlp_bias` ask for them. */
export function biasesByFlag(read: FieldReader): Decoder['bias'] {
  const attention = read.flag('attention_bias', false)
  return { qkv: attention, output: attention, mlp: read.flag('mlp_bias', false) }
}

/**
 * Reads a Hugging Face config, in the older or the newer spelling of transformers.
 * @param ropeFactors divisors of the rotary frequencies, as GGUF files store them; they come on top of `rope_scaling`
 * @throws {UnsupportedError} for a variant whose maths is not here, such as another activation
 */
export function readDecoder(
  config: Record<string, unknown>,
  traits: DecoderTraits,
  ropeFactors?: ArrayLike<number>,
): Decoder {
  const read = fieldReader(config)
  const family = read.text('model_type', 'llama')
  const hiddenSize = read.size('hidden_size')
  const layers = read.size('num_hidden_layers')
  const heads = read.size('num_attention_heads')
  const kvHeads = read.size('num_key_value_heads', heads)
  const headDim = read.size('head_dim', hiddenSize / heads)
  if (heads % kvHeads !== 0)
    throw new ConfigError(
      `config.json: num_attention_heads is ${heads}, which is not a multiple of num_key_value_heads ${kvHeads}.`,
      { heads, kvHeads },
    )
  if (headDim % 2 !== 0)
    throw new ConfigError(`config.json: head_dim is ${headDim}; RoPE needs an even number.`, {
      headDim,
    })
  if (heads * headDim > LARGEST_ATTENTION_WIDTH)
    throw new ConfigError(
      `config.json: ${heads} heads (num_attention_heads) of ${headDim} (head_dim) give attention a width of ${heads * headDim}; at most ${LARGEST_ATTENTION_WIDTH} is supported.`,
      { heads, headDim },
    )
  const activation = read.text('hidden_act', 'silu')
  if (activation !== 'silu')
    throw new UnsupportedError(
      `config.json: hidden_act is ${quote(activation)}; models of type ${quote(family)} require 'silu'.`,
      { activation },
    )
  refuseDropout(config, 'attention_dropout')
  const rope = rotaryFrequencies(config, headDim, read.size('max_position_embeddings', traits.positions))
  if (ropeFactors) rope.invFreq = rope.invFreq.map((f, i) => f / (ropeFactors[i] ?? 1))
  const rotated = traits.rotated?.(read, layers)
  return {
    family,
    vocabSize: read.size('vocab_size'),
    hiddenSize,
    intermediateSize: read.size('intermediate_size'),
    layers,
    heads,
    kvHeads,
    headDim,
    rmsNormEps: read.number('rms_norm_eps', 1e-6),
    bias: traits.bias(read),
    queryKeyNorm: traits.queryKeyNorm ?? false,
    tied: read.flag('tie_word_embeddings', false),
    ropes: [rope],
    windows: traits.windows(read, layers),
    rotations: Array.from({ length: layers }, (_, layer) => (rotated?.[layer] === false ? undefined : 0)),
    multipliers: traits.multipliers?.(read) ?? {
      embedding: 1,
      residual: 1,
      attention: 1 / Math.sqrt(headDim),
      logits: 1,
    },
  }
}

/** @throws {UnsupportedError} for a dropout of the model itself, which no kernel has */
function refuseDropout(config: Record<string, unknown>, key: string): void {
  if ((config[key] ?? 0) === 0) return
  throw new UnsupportedError(`config.json: ${key} is ${quote(config[key])}; only 0 is supported.`, {
    key,
    value: config[key],
  })
}

/**
 * The graph of one forward pass. The residual stream is divided by the multiplier of what joins it, so that nothing needs
 * to be multiplied on the way: norms give the same where their epsilon is divided too.
 */
export function decoderGraph(c: Decoder): Graph {
  const g = new GraphBuilder()
  const { multipliers } = c
  const unit = multipliers.residual
  const eps = c.rmsNormEps / unit ** 2
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize, multipliers.embedding / unit) // [T, hidden]
  for (let layer = 0; layer < c.layers; layer++) {
    x = g.segment(layer, () => {
      const at = `model.layers.${layer}`
      const { heads, kvHeads, headDim } = c
      const normed = g.rmsNorm(`${at}.input_layernorm`, x, eps)
      let q = g.linear(`${at}.self_attn.q_proj`, normed, heads * headDim, { bias: c.bias.qkv })
      let k = g.linear(`${at}.self_attn.k_proj`, normed, kvHeads * headDim, { bias: c.bias.qkv })
      const v = g.linear(`${at}.self_attn.v_proj`, normed, kvHeads * headDim, { bias: c.bias.qkv })
      if (c.queryKeyNorm) {
        q = g.rmsNorm(`${at}.self_attn.q_norm`, q, c.rmsNormEps, { width: headDim })
        k = g.rmsNorm(`${at}.self_attn.k_norm`, k, c.rmsNormEps, { width: headDim })
      }
      const rotation = c.rotations[layer]
      if (rotation !== undefined) {
        q = g.rope(`${at}.self_attn.q_rope`, q, heads, headDim, rotation)
        k = g.rope(`${at}.self_attn.k_rope`, k, kvHeads, headDim, rotation)
      }
      const window = c.windows[layer]
      const attended = g.attention(`${at}.self_attn`, q, k, v, {
        heads,
        kvHeads,
        headDim,
        scale: multipliers.attention,
        layer,
        ...(window === undefined ? {} : { window }),
      })
      const middle = g.linear(`${at}.self_attn.o_proj`, attended, c.hiddenSize, {
        bias: c.bias.output,
        residual: x,
      })
      const again = g.rmsNorm(`${at}.post_attention_layernorm`, middle, eps)
      const gate = g.linear(`${at}.mlp.gate_proj`, again, c.intermediateSize, { bias: c.bias.mlp })
      const up = g.linear(`${at}.mlp.up_proj`, again, c.intermediateSize, { bias: c.bias.mlp })
      const unit = g.swiglu(`${at}.mlp.act`, gate, up)
      return g.linear(`${at}.mlp.down_proj`, unit, c.hiddenSize, { bias: c.bias.mlp, residual: middle })
    })
  }
  const last = g.rmsNorm('model.norm', x, eps, { scale: multipliers.logits })
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({
    family: c.family,
    vocabSize: c.vocabSize,
    layers: c.layers,
    ropes: c.ropes,
  })
}
