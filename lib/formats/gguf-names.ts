/**
 * Maps tensor names between GGUF files and Hugging Face folders, and identifies permuted rows: files of the `llama`
 * architecture store the two rotary dimensions of a pair in adjacent query and key rows.
 */

/** Divisors of the rotary frequencies, F32 `[head_dim / 2]`; Hugging Face stores parameters in the config instead. */
export const ROPE_FACTORS = 'rope_freqs.weight'

/** LongRoPE divisors in the same shape, for texts up to the original context and for longer ones. */
export const LONG_FACTORS = {
  short_factor: 'rope_factors_short.weight',
  long_factor: 'rope_factors_long.weight',
}

/** Pairs of GGUF name and Hugging Face name. */
const OUTER: readonly (readonly [string, string])[] = [
  ['token_embd.weight', 'model.embed_tokens.weight'],
  ['output_norm.weight', 'model.norm.weight'],
  ['output.weight', 'lm_head.weight'],
]

/** The same within `blk.N.` and `model.layers.N.`. */
const INNER: readonly (readonly [string, string])[] = [
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_q_norm', 'self_attn.q_norm'],
  ['attn_k_norm', 'self_attn.k_norm'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
]

/**
 * Names that differ between architectures: norms, which have different positions, and linear layers. Those outside
 * blocks are given in full.
 */
export type OwnNames = readonly (readonly [string, string])[]

/** Norms before attention and before the MLP. */
export const NORMS_BEFORE: OwnNames = [
  ['attn_norm', 'input_layernorm'],
  ['ffn_norm', 'post_attention_layernorm'],
]

/** Norms after attention and after the MLP. */
export const NORMS_AFTER: OwnNames = [
  ['post_attention_norm', 'post_attention_layernorm'],
  ['post_ffw_norm', 'post_feedforward_layernorm'],
]

export const NORMS_AROUND: OwnNames = [
  ...NORMS_AFTER,
  ['attn_norm', 'input_layernorm'],
  ['ffn_norm', 'pre_feedforward_layernorm'],
]

/** Names for fused layers: one for queries, keys, and values, and one for gate and up. */
export const FUSED: OwnNames = [
  ...NORMS_BEFORE,
  ['attn_qkv', 'self_attn.qkv_proj'],
  ['ffn_up', 'mlp.gate_up_proj'],
]

/** Names in LFM2, where most layers have a convolution, and the last norm has another name. */
export const CONVOLUTIONS: OwnNames = [
  ['token_embd_norm.weight', 'model.embedding_norm.weight'],
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
]

/** Names in Qwen3.5, where most layers have a gated delta rule. */
export const DELTA_RULES: OwnNames = [
  ['attn_norm', 'input_layernorm'],
  ['post_attention_norm', 'post_attention_layernorm'],
  ['attn_qkv', 'linear_attn.in_proj_qkv'],
  ['attn_gate', 'linear_attn.in_proj_z'],
  ['ssm_beta', 'linear_attn.in_proj_b'],
  ['ssm_alpha', 'linear_attn.in_proj_a'],
  ['ssm_conv1d', 'linear_attn.conv1d'],
  ['ssm_norm', 'linear_attn.norm'],
  ['ssm_out', 'linear_attn.out_proj'],
]

/** Vectors of gated delta rules, whose names have other endings. */
const RATES: OwnNames = [
  ['ssm_a', 'linear_attn.A_log'],
  ['ssm_dt.bias', 'linear_attn.dt_bias'],
]

const swapped = ([a, b]: readonly [string, string]): [string, string] => [b, a]
const OUTER_TO_HF = new Map(OUTER)
const INNER_TO_HF = new Map(INNER)
const OUTER_TO_GGUF = new Map(OUTER.map(swapped))
const INNER_TO_GGUF = new Map(INNER.map(swapped))

/** The Hugging Face name of a tensor in a model with `layers` layers; undefined if it has none. */
export function huggingFaceName(
  name: string,
  layers: number,
  own: OwnNames = NORMS_BEFORE,
): string | undefined {
  const outer = OUTER_TO_HF.get(name) ?? own.find(([gguf]) => gguf === name)?.[1]
  if (outer) return outer
  const [, block, vector] = /^blk\.(0|[1-9]\d{0,5})\.([a-z0-9_.]+)$/.exec(name) ?? []
  const rate = own === DELTA_RULES ? RATES.find(([gguf]) => gguf === vector)?.[1] : undefined
  if (rate !== undefined) return Number(block) < layers ? `model.layers.${block}.${rate}` : undefined
  const [, layer, module, kind] = /^blk\.(0|[1-9]\d{0,5})\.([a-z0-9_.]+)\.(weight|bias)$/.exec(name) ?? []
  const inner =
    module === undefined ? undefined : (own.find(([gguf]) => gguf === module)?.[1] ?? INNER_TO_HF.get(module))
  if (inner === undefined || Number(layer) >= layers || (kind === 'bias' && module?.endsWith('norm')))
    return undefined
  return `model.layers.${layer}.${inner}.${kind}`
}

/** The GGUF name of a tensor, given its Hugging Face name; undefined if it has none. */
export function ggufName(name: string, own: OwnNames = NORMS_BEFORE): string | undefined {
  const outer = OUTER_TO_GGUF.get(name) ?? own.find(([, ours]) => ours === name)?.[0]
  if (outer) return outer
  const [, block, vector] = /^model\.layers\.(\d+)\.([\w.]+)$/.exec(name) ?? []
  const rate = own === DELTA_RULES ? RATES.find(([, ours]) => ours === vector)?.[0] : undefined
  if (rate !== undefined) return `blk.${block}.${rate}`
  const [, layer, module, kind] = /^model\.layers\.(\d+)\.([a-z0-9_.]+)\.(weight|bias)$/.exec(name) ?? []
  const inner =
    module === undefined
      ? undefined
      : (own.find(([, ours]) => ours === module)?.[0] ?? INNER_TO_GGUF.get(module))
  return inner === undefined ? undefined : `blk.${layer}.${inner}.${kind}`
}

/** Rows of a weight that are one tensor in GGUF files, with the Hugging Face name that belongs to that tensor. */
export interface WeightPart {
  name: string
  first: number
  rows: number
}

/**
 * The tensors of a weight in GGUF files: almost always one. Granite 4's fused MLP layer has two, which are called like
 * the layers of Granite 3.
 */
export function partsInGguf(name: string, rows: number): WeightPart[] {
  const separate = name.replace('.shared_mlp.output_linear.', '.mlp.down_proj.')
  if (!name.includes('.shared_mlp.input_linear.')) return [{ name: separate, first: 0, rows }]
  return ['gate_proj', 'up_proj'].map((layer, index) => ({
    name: name.replace('.shared_mlp.input_linear.', `.mlp.${layer}.`),
    first: (index * rows) / 2,
    rows: rows / 2,
  }))
}

/**
 * Number of heads whose rows are permuted in files of the `llama` architecture; undefined if the tensor is not
 * permuted.
 * @param name Hugging Face name of the weight or the bias
 */
export function permutedHeads(name: string, heads: number, kvHeads: number): number | undefined {
  if (name.includes('.q_proj.')) return heads
  if (name.includes('.k_proj.')) return kvHeads
  return undefined
}
