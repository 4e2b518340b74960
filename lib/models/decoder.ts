/**
 * The decoder shared by most families: blocks of grouped-query attention with rotary embedding and a gated MLP, each
 * with a norm before it, after it, or both; the head may be tied to the embedding. A family's own file describes how
 * its config differs, and which layers have a window.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { LARGEST_ATTENTION_WIDTH } from '../formats/model-limits.js'
import { GraphBuilder, type Value } from '../graph/builder.js'
import type { Activation, Graph, Rotary } from '../graph/graph.js'
import { type FieldReader, fieldReader } from './fields.js'
import { type RopeVariant, ropeOfLayers, rotaryFrequencies } from './rope.js'

/** The parameters that determine the graph. */
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
  /** Flags of the linear layers with biases: query, key, and value; the attention output; the MLP. */
  bias: { qkv: boolean; output: boolean; mlp: boolean }
  /** What queries and keys are normalized over before rotation: each head, or the whole row; undefined for no norm. */
  queryKeyNorm: 'head' | 'row' | undefined
  /** Norms before attention and MLP, or after them, before they are added to the residual stream. */
  norms: 'before' | 'after' | 'both'
  /** Value added to the weights of all norms. */
  normOffset: 0 | 1
  activation: Activation
  tied: boolean
  ropes: Rotary[]
  /** Number of keys a token attends to in each layer, including its own; undefined for all preceding keys. */
  windows: (number | undefined)[]
  /** Index of the rotation of queries and keys in each layer; undefined for none. */
  rotations: (number | undefined)[]
  /** Index of the rotation of all queries, if different from the keys'. */
  queryRotation: number | undefined
  /** True if one linear layer computes queries, keys, and values. */
  fusedAttention: boolean
  mlp: MlpNames
  multipliers: Multipliers
}

/** Names of the MLP and its linear layers. */
export interface MlpNames {
  path: string
  /** The layers for gate and up, or one that computes both. */
  inputs: readonly [gate: string, up?: string]
  output: string
}

const SEPARATE: MlpNames = { path: 'mlp', inputs: ['gate_proj', 'up_proj'], output: 'down_proj' }

/** Constant multipliers in parts of the model. */
export interface Multipliers {
  /** For rows of the embedding. */
  embedding: number
  /** For outputs of attention and MLP before they are added to the residual stream. */
  residual: number
  /** For attention scores. */
  attention: number
  logits: number
}

/** Functions of gated units, by their names in transformers. */
const ACTIVATIONS = { silu: 'silu', gelu_pytorch_tanh: 'gelu', relu2: 'relu2' } as const

function isActivation(name: string): name is keyof typeof ACTIVATIONS {
  return Object.hasOwn(ACTIVATIONS, name)
}

/** Properties of a family; everything else is read from the config. */
export interface DecoderTraits {
  /** Default of `max_position_embeddings`. */
  positions: number
  bias(read: FieldReader): Decoder['bias']
  /** Norm of queries and keys, per head or per row; default none. */
  queryKeyNorm?: 'head' | 'row'
  /** Default `before`. */
  norms?: Decoder['norms']
  /** Default 0. */
  normOffset?: 1
  /** Config key of the activation, and its default: the only one that GGUF files have. Default `hidden_act` and `silu`. */
  activation?: { key: string; value: keyof typeof ACTIVATIONS }
  windows(read: FieldReader, layers: number): Decoder['windows']
  /** True for each layer that rotates queries and keys; default all. */
  rotated?(read: FieldReader, layers: number): boolean[]
  /** Bases of the rotary frequencies for layers without and with a window, if they differ. */
  thetas?(read: FieldReader): { full: number; windowed: number }
  /** Rotary embedding variant; default: that of most families. */
  rope?: RopeVariant
  /** Growth of queries with position, if any. */
  queryGrowth?(config: Record<string, unknown>): Rotary['growth']
  fusedAttention?: true
  /** Default: three linear layers. */
  mlp?: MlpNames
  /** Default: all 1, except that of the scores, which is 1 / sqrt(head_dim). */
  multipliers?(read: FieldReader): Multipliers
}

/** Biases controlled by `attention_bias` and `mlp_bias`. */
export function biasesByFlag(read: FieldReader): Decoder['bias'] {
  return { ...attentionBiases(read), mlp: read.flag('mlp_bias', false) }
}

/** Attention biases controlled by `attention_bias`. */
export function attentionBiases(read: FieldReader): Decoder['bias'] {
  const attention = read.flag('attention_bias', false)
  return { qkv: attention, output: attention, mlp: false }
}

/**
 * Reads a Hugging Face config, in the older or the newer spelling of transformers.
 * @param ropeFactors divisors of the rotary frequencies from a GGUF file, applied in addition to `rope_scaling`
 * @throws {UnsupportedError} for an unsupported variant, such as an unknown activation
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
  const { key, value } = traits.activation ?? { key: 'hidden_act', value: 'silu' }
  const activation = read.text(key, value)
  if (!isActivation(activation))
    throw new UnsupportedError(
      `config.json: ${key} is ${quote(activation)}; supported: ${Object.keys(ACTIVATIONS).map(quote).join(', ')}.`,
      { activation },
    )
  const windows = traits.windows(read, layers)
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
    queryKeyNorm: traits.queryKeyNorm,
    norms: traits.norms ?? 'before',
    normOffset: traits.normOffset ?? 0,
    activation: ACTIVATIONS[activation],
    tied: read.flag('tie_word_embeddings', false),
    windows,
    ...rotary(config, headDim, windows, traits, ropeFactors),
    fusedAttention: traits.fusedAttention ?? false,
    mlp: traits.mlp ?? SEPARATE,
    multipliers: traits.multipliers?.(read) ?? {
      embedding: 1,
      residual: 1,
      attention: 1 / Math.sqrt(headDim),
      logits: 1,
    },
  }
}

/** The rotations of a model, and the index used by each layer. */
function rotary(
  config: Record<string, unknown>,
  headDim: number,
  windows: Decoder['windows'],
  traits: DecoderTraits,
  ropeFactors: ArrayLike<number> | undefined,
): Pick<Decoder, 'ropes' | 'rotations' | 'queryRotation'> {
  const read = fieldReader(config)
  const positions = read.size('max_position_embeddings', traits.positions)
  const thetas = traits.thetas?.(read)
  const full = thetas ? ropeOfLayers(config, 'full_attention', thetas.full) : config
  const rope = rotaryFrequencies(full, headDim, positions, traits.rope)
  if (ropeFactors) rope.invFreq = rope.invFreq.map((f, i) => f / (ropeFactors[i] ?? 1))
  const rotated = traits.rotated?.(read, windows.length)
  const windowed = thetas && ropeOfLayers(config, 'sliding_attention', thetas.windowed)
  const growth = traits.queryGrowth?.(config)
  const second = windowed ? rotaryFrequencies(windowed, headDim, positions) : growth && { ...rope, growth }
  return {
    ropes: second ? [rope, second] : [rope],
    queryRotation: growth && 1,
    rotations: windows.map((window, layer) => {
      if (rotated?.[layer] === false) return undefined
      return windowed && window !== undefined ? 1 : 0
    }),
  }
}

/** Uses one fused linear layer or three. */
function queriesKeysValues(
  g: GraphBuilder,
  c: Decoder,
  at: string,
  x: Value,
): [q: Value, k: Value, v: Value] {
  const options = { bias: c.bias.qkv }
  const widths = { q: c.heads * c.headDim, k: c.kvHeads * c.headDim, v: c.kvHeads * c.headDim }
  if (!c.fusedAttention) {
    const project = (name: keyof typeof widths) =>
      g.linear(`${at}.self_attn.${name}_proj`, x, widths[name], options)
    return [project('q'), project('k'), project('v')]
  }
  const whole = g.linear(`${at}.self_attn.qkv_proj`, x, widths.q + widths.k + widths.v, options)
  return g.split(`${at}.self_attn`, whole, widths) as [Value, Value, Value]
}

/** Uses one fused linear layer or two. */
function gatedUnit(g: GraphBuilder, c: Decoder, at: string, x: Value): Value {
  const mlp = `${at}.${c.mlp.path}`
  const [first, second] = c.mlp.inputs
  const project = (name: string, columns: number) =>
    g.linear(`${mlp}.${name}`, x, columns, { bias: c.bias.mlp })
  if (second === undefined)
    return g.gatedHalves(c.activation, `${mlp}.act`, project(first, 2 * c.intermediateSize))
  const gate = project(first, c.intermediateSize)
  return g.gatedUnit(c.activation, `${mlp}.act`, gate, project(second, c.intermediateSize))
}

/**
 * The graph of one forward pass. Instead of multiplying everything added to the residual stream, the whole stream is
 * divided by the residual multiplier; norms give the same result if their epsilon is divided, too.
 */
export function decoderGraph(c: Decoder): Graph {
  const g = new GraphBuilder()
  const { multipliers } = c
  const unit = multipliers.residual
  const eps = c.rmsNormEps / unit ** 2
  const norm = (path: string, x: Value) => g.rmsNorm(path, x, eps, { offset: c.normOffset })
  /** The input of attention or MLP, from the residual stream. */
  const enter = (at: string, part: string, normPath: string, x: Value) =>
    c.norms === 'after' ? g.cast(`${at}.${part}_input`, x) : norm(`${at}.${normPath}`, x)
  /** The last linear layer of attention or MLP, added to the residual stream. */
  const leave = (at: string, part: string, normPath: string, linear: string, x: Value, residual: Value) => {
    const bias = part === 'mlp' ? c.bias.mlp : c.bias.output
    if (c.norms === 'before') return g.linear(`${at}.${linear}`, x, c.hiddenSize, { bias, residual })
    const out = g.linear(`${at}.${linear}`, x, c.hiddenSize, { bias })
    return g.residualAdd(`${at}.${part}_output`, norm(`${at}.${normPath}`, out), residual)
  }
  const mlpNorm = c.norms === 'both' ? 'pre_feedforward_layernorm' : 'post_attention_layernorm'
  let x = g.embedding('model.embed_tokens', c.vocabSize, c.hiddenSize, multipliers.embedding / unit) // [T, hidden]
  for (let layer = 0; layer < c.layers; layer++) {
    x = g.segment(layer, () => {
      const at = `model.layers.${layer}`
      const { heads, kvHeads, headDim } = c
      const normed = enter(at, 'attention', 'input_layernorm', x)
      const projected = queriesKeysValues(g, c, at, normed)
      let [q, k] = projected
      const [, , v] = projected
      if (c.queryKeyNorm !== undefined) {
        const options = { offset: c.normOffset, ...(c.queryKeyNorm === 'head' ? { width: headDim } : {}) }
        q = g.rmsNorm(`${at}.self_attn.q_norm`, q, c.rmsNormEps, options)
        k = g.rmsNorm(`${at}.self_attn.k_norm`, k, c.rmsNormEps, options)
      }
      const rotation = c.rotations[layer]
      if (rotation !== undefined) {
        q = g.rope(`${at}.self_attn.q_rope`, q, heads, headDim, c.queryRotation ?? rotation)
        k = g.rope(`${at}.self_attn.k_rope`, k, kvHeads, headDim, rotation)
      }
      const window = c.windows[layer]
      const attended = g.attention(`${at}.self_attn`, q, k, v, {
        heads,
        kvHeads,
        headDim,
        scale: multipliers.attention,
        ...(window === undefined ? {} : { window }),
      })
      const middle = leave(at, 'attention', 'post_attention_layernorm', 'self_attn.o_proj', attended, x)
      const again = enter(at, 'mlp', mlpNorm, middle)
      const unit = gatedUnit(g, c, at, again)
      const down = `${c.mlp.path}.${c.mlp.output}`
      return leave(at, 'mlp', 'post_feedforward_layernorm', down, unit, middle)
    })
  }
  const last = g.rmsNorm('model.norm', x, eps, { scale: multipliers.logits, offset: c.normOffset })
  g.lmHead('lm_head', last, c.vocabSize, c.tied ? 'model.embed_tokens.weight' : undefined)
  return g.finish({
    family: c.family,
    vocabSize: c.vocabSize,
    layers: c.layers,
    ropes: c.ropes,
  })
}
