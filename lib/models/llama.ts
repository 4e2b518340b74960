/**
 * The Llama family: Llama 2 and 3.x, SmolLM2, TinyLlama, and Mistral without its window. Pre-norm blocks of grouped-query
 * attention with rotary embedding and a SwiGLU MLP; the head may be tied to the embedding.
 */
import { ConfigError, UnsupportedError } from '../errors.js'
import { GraphBuilder } from '../graph/builder.js'
import type { Graph } from '../graph/graph.js'
import { fieldReader } from './fields.js'
import { rotaryFrequencies } from './rope.js'

/** The numbers of a Llama-family config.json that shape the graph. */
export interface LlamaConfig {
  modelType: string
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  rmsNormEps: number
  attentionBias: boolean
  mlpBias: boolean
  tied: boolean
  maxPositions: number
  invFreq: number[]
  attentionFactor: number
}

/**
 * Reads a Hugging Face config (both the older and the `rope_parameters` spelling).
 * @param ropeFactors divisors of the rotary frequencies, as GGUF files store them; they replace `rope_scaling`
 * @throws {UnsupportedError} for a variant whose maths is not here (sliding window, other activations or scalings)
 */
export function describeLlama(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): LlamaConfig {
  const read = fieldReader(config)
  const modelType = read.text('model_type', 'llama')
  const hiddenSize = read.size('hidden_size')
  const heads = read.size('num_attention_heads')
  const kvHeads = read.size('num_key_value_heads', heads)
  const headDim = read.size('head_dim', hiddenSize / heads)
  const maxPositions = read.size('max_position_embeddings', 2048)
  if (heads % kvHeads !== 0)
    throw new ConfigError(
      `config.json: num_attention_heads is ${heads}, which is no multiple of num_key_value_heads ${kvHeads}.`,
      { heads, kvHeads },
    )
  if (headDim % 2 !== 0)
    throw new ConfigError(`config.json: head_dim is ${headDim}; rotary embedding needs an even number.`, {
      headDim,
    })
  const activation = read.text('hidden_act', 'silu')
  if (activation !== 'silu')
    throw new UnsupportedError(
      `config.json: hidden_act is '${activation}'; the Llama family here has 'silu'.`,
      {
        activation,
      },
    )
  const window = config.sliding_window
  if (modelType === 'mistral' && typeof window === 'number' && window < maxPositions)
    throw new UnsupportedError(
      `config.json: sliding_window is ${window}; attention windows are not supported. Set it to null to attend to everything (right for texts of up to ${window} tokens).`,
      { slidingWindow: window },
    )
  const rope = rotaryFrequencies(config, headDim, maxPositions)
  return {
    modelType,
    vocabSize: read.size('vocab_size'),
    hiddenSize,
    intermediateSize: read.size('intermediate_size'),
    layers: read.size('num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    rmsNormEps: read.number('rms_norm_eps', 1e-6),
    attentionBias: read.flag('attention_bias', false),
    mlpBias: read.flag('mlp_bias', false),
    tied: read.flag('tie_word_embeddings', false),
    maxPositions,
    invFreq: ropeFactors ? rope.plain.map((f, i) => f / (ropeFactors[i] ?? 1)) : rope.invFreq,
    attentionFactor: rope.attentionFactor,
  }
}

/** The graph of one forward pass. */
export function llamaGraph(c: LlamaConfig): Graph {
  const g = new GraphBuilder()
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize) // [T, hidden]
  for (let layer = 0; layer < c.layers; layer++) {
    x = g.segment(layer, () => {
      const at = `model.layers.${layer}`
      const bias = c.attentionBias
      const normed = g.rmsNorm(`${at}.input_layernorm`, x, c.rmsNormEps)
      let q = g.linear(`${at}.self_attn.q_proj`, normed, c.heads * c.headDim, { bias })
      let k = g.linear(`${at}.self_attn.k_proj`, normed, c.kvHeads * c.headDim, { bias })
      const v = g.linear(`${at}.self_attn.v_proj`, normed, c.kvHeads * c.headDim, { bias })
      q = g.rope(`${at}.self_attn.q_rope`, q, c.heads, c.headDim)
      k = g.rope(`${at}.self_attn.k_rope`, k, c.kvHeads, c.headDim)
      const { heads, kvHeads, headDim } = c
      const scale = 1 / Math.sqrt(headDim)
      const attended = g.attention(`${at}.self_attn`, q, k, v, { heads, kvHeads, headDim, scale, layer })
      const middle = g.linear(`${at}.self_attn.o_proj`, attended, c.hiddenSize, { bias, residual: x })
      const again = g.rmsNorm(`${at}.post_attention_layernorm`, middle, c.rmsNormEps)
      const gate = g.linear(`${at}.mlp.gate_proj`, again, c.intermediateSize, { bias: c.mlpBias })
      const up = g.linear(`${at}.mlp.up_proj`, again, c.intermediateSize, { bias: c.mlpBias })
      const unit = g.swiglu(`${at}.mlp.act`, gate, up)
      return g.linear(`${at}.mlp.down_proj`, unit, c.hiddenSize, { bias: c.mlpBias, residual: middle })
    })
  }
  const last = g.rmsNorm('model.norm', x, c.rmsNormEps)
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({
    family: 'llama',
    vocabSize: c.vocabSize,
    layers: c.layers,
    rope: { invFreq: c.invFreq, attentionFactor: c.attentionFactor },
  })
}
