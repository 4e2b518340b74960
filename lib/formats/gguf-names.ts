/** Maps tensor names between GGUF files and Hugging Face folders, in both directions. */

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

/** Pairs of a name in GGUF files and the Hugging Face name. */
export type NamePairs = readonly (readonly [gguf: string, huggingFace: string])[]

/** Names of a family, where they differ from those above. */
export interface TensorNames {
  /** Norms and linear layers within blocks, without the ending. */
  readonly inner: NamePairs
  /** Tensors outside of blocks, in full. */
  readonly outer?: NamePairs
  /** Vectors within blocks whose names have other endings than weight and bias, in full. */
  readonly vectors?: NamePairs
  /** Filters of convolutions, by the end of the Hugging Face name; files have no dimension for their one input channel. */
  readonly filters?: readonly string[]
  /** Linear layers within blocks whose equal parts are layers of their own in files, with the names of those. */
  readonly parts?: Readonly<Record<string, readonly string[]>>
}

/** Norms before attention and before the MLP. */
export const NORMS_BEFORE: NamePairs = [
  ['attn_norm', 'input_layernorm'],
  ['ffn_norm', 'post_attention_layernorm'],
]

/** Norms after attention and after the MLP. */
export const NORMS_AFTER: NamePairs = [
  ['post_attention_norm', 'post_attention_layernorm'],
  ['post_ffw_norm', 'post_feedforward_layernorm'],
]

export const NORMS_AROUND: NamePairs = [
  ...NORMS_AFTER,
  ['attn_norm', 'input_layernorm'],
  ['ffn_norm', 'pre_feedforward_layernorm'],
]

/** Names of most families. */
export const USUAL_NAMES: TensorNames = { inner: NORMS_BEFORE }

const swapped = ([a, b]: readonly [string, string]): [string, string] => [b, a]
const OUTER_TO_HF = new Map(OUTER)
const INNER_TO_HF = new Map(INNER)
const OUTER_TO_GGUF = new Map(OUTER.map(swapped))
const INNER_TO_GGUF = new Map(INNER.map(swapped))

/** The Hugging Face name of a tensor in a model with `layers` layers; undefined if it has none. */
export function huggingFaceName(
  name: string,
  layers: number,
  { inner, outer = [], vectors = [] }: TensorNames = USUAL_NAMES,
): string | undefined {
  const whole = OUTER_TO_HF.get(name) ?? outer.find(([gguf]) => gguf === name)?.[1]
  if (whole) return whole
  const [, block, part] = /^blk\.(0|[1-9]\d{0,5})\.([a-z0-9_.]+)$/.exec(name) ?? []
  if (part === undefined || Number(block) >= layers) return undefined
  const vector = vectors.find(([gguf]) => gguf === part)?.[1]
  if (vector !== undefined) return `model.layers.${block}.${vector}`
  const [, module, kind] = /^(.+)\.(weight|bias)$/.exec(part) ?? []
  const found = inner.find(([gguf]) => gguf === module)?.[1] ?? INNER_TO_HF.get(module ?? '')
  if (found === undefined || (kind === 'bias' && module?.endsWith('norm'))) return undefined
  return `model.layers.${block}.${found}.${kind}`
}

/** The GGUF name of a tensor, given its Hugging Face name; undefined if it has none. */
export function ggufName(
  name: string,
  { inner, outer = [], vectors = [] }: TensorNames = USUAL_NAMES,
): string | undefined {
  const whole = OUTER_TO_GGUF.get(name) ?? outer.find(([, ours]) => ours === name)?.[0]
  if (whole) return whole
  const [, block, part] = /^model\.layers\.(\d+)\.([\w.]+)$/.exec(name) ?? []
  if (part === undefined) return undefined
  const vector = vectors.find(([, ours]) => ours === part)?.[0]
  if (vector !== undefined) return `blk.${block}.${vector}`
  const [, module, kind] = /^([a-z0-9_.]+)\.(weight|bias)$/.exec(part) ?? []
  const found = inner.find(([, ours]) => ours === module)?.[0] ?? INNER_TO_GGUF.get(module ?? '')
  return found === undefined ? undefined : `blk.${block}.${found}.${kind}`
}

/** Rows of a weight that are one tensor in GGUF files, with the Hugging Face name that belongs to that tensor. */
export interface WeightPart {
  name: string
  first: number
  rows: number
}

/** The tensors of a weight in GGUF files: almost always one. */
export function partsInGguf(name: string, rows: number, { parts = {} }: TensorNames): WeightPart[] {
  const [whole, layers] = Object.entries(parts).find(([layer]) => name.includes(`.${layer}.`)) ?? []
  if (whole === undefined || layers === undefined) return [{ name, first: 0, rows }]
  const share = rows / layers.length
  return layers.map((layer, index) => ({
    name: name.replace(`.${whole}.`, `.${layer}.`),
    first: index * share,
    rows: share,
  }))
}
