/**
 * Granite, dense: the plain decoder with multipliers for embedding, residual stream, attention, and logits. Granite 4
 * (`granitemoehybrid`) computes gate and up in one linear layer and may have no rotary embedding.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { NORMS_BEFORE, type TensorNames } from '../formats/gguf-names.js'
import { biasesOf, QUERY_KEY_NORMS, refuseWindow } from '../formats/gguf-reading.js'
import { rotaryPairs } from '../formats/gguf-stored.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { type FieldReader, fieldReader } from './fields.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 2048,
  bias: biasesByFlag,
  windows: (_read, layers) => everyLayer(layers, undefined),
  // The attention multiplier replaces 1 / sqrt(head_dim).
  multipliers: (read) => ({
    embedding: read.number('embedding_multiplier', 1),
    residual: read.number('residual_multiplier', 1),
    attention: read.number('attention_multiplier', 1),
    logits: 1 / read.number('logits_scaling', 1),
  }),
}

const granite4: DecoderTraits = {
  ...traits,
  bias: attentionBiases,
  rotated: (read, layers) => Array.from({ length: layers }, () => isRotated(read)),
  mlp: { path: 'shared_mlp', inputs: ['input_linear'], output: 'output_linear' },
}

function graniteGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}

/** @throws {UnsupportedError} for a mixture of experts, and for Mamba layers */
function granite4Graph(config: Record<string, unknown>): Graph {
  const read = fieldReader(config)
  refuseExperts(read)
  refuseMamba(read)
  // `intermediate_size` is the size of experts.
  const dense = { ...config, intermediate_size: read.size('shared_intermediate_size', 1024) }
  return decoderGraph(readDecoder(dense, granite4))
}

/** The absence of `position_embedding_type` means no rotary embedding, as does `nope`. */
function isRotated(read: FieldReader): boolean {
  const type = read.text('position_embedding_type', 'nope')
  if (type === 'rope' || type === 'nope') return type === 'rope'
  throw new UnsupportedError(
    `config.json: position_embedding_type is ${quote(type)}; supported: 'rope', and 'nope' or null for no rotary embedding.`,
    { type },
  )
}

function refuseExperts(read: FieldReader): void {
  const experts = read.count('num_local_experts', 8)
  if (experts === 0) return
  throw new UnsupportedError(
    `config.json: num_local_experts is ${experts} (8 if absent), but mixtures of experts are not supported; only dense models, with 0, are.`,
    { experts },
  )
}

function refuseMamba(read: FieldReader): void {
  const layers = read.size('num_hidden_layers')
  const types = read.texts('layer_types') ?? read.texts('layers_block_type')
  if (types !== undefined && types.length !== layers)
    throw new ConfigError(
      `config.json: layer_types has ${types.length} entries, but num_hidden_layers is ${layers}.`,
      { layerTypes: types.length, layers },
    )
  const other = types?.findIndex((type) => type !== 'attention' && type !== 'full_attention') ?? 0
  if (other < 0) return
  throw new UnsupportedError(
    types === undefined
      ? 'config.json has no layer_types, so all layers are Mamba layers, which are not supported; only attention is.'
      : `config.json: layer_types[${other}] is ${quote(types[other])}; Mamba layers are not supported, only 'attention'.`,
    { layer: other, type: types?.[other] ?? null },
  )
}

/** The fused layer of Granite 4 is two in files, which have the names of Granite 3. */
const NAMES: TensorNames = {
  inner: NORMS_BEFORE,
  parts: {
    'shared_mlp.input_linear': ['mlp.gate_proj', 'mlp.up_proj'],
    'shared_mlp.output_linear': ['mlp.down_proj'],
  },
}

const gguf: FamilyGguf = {
  architecture: 'granite',
  models: 'Granite 3 and 4, dense',
  names: NAMES,
  lacks: QUERY_KEY_NORMS,
  config(keys, names) {
    refuseWindow(keys)
    if (keys.flag('rope.scaling.finetuned') === false)
      throw new UnsupportedError(
        `${keys.path}: ${keys.prefix}rope.scaling.finetuned is false, so the model has no rotary embedding, which is not supported for this architecture`,
        { path: keys.path },
      )
    // Zero means none.
    const scale = (key: string) => keys.number(key) || undefined
    const heads = keys.required('attention.head_count', keys.integer('attention.head_count', 1))
    const headDim =
      keys.integer('attention.key_length', 1) ??
      keys.required('embedding_length', keys.integer('embedding_length', 1)) / heads
    return {
      architectures: ['GraniteForCausalLM'],
      model_type: 'granite',
      ...biasesOf(names),
      attention_multiplier: scale('attention.scale') ?? 1 / Math.sqrt(headDim),
      embedding_multiplier: scale('embedding_scale') ?? 1,
      residual_multiplier: scale('residual_scale') ?? 1,
      logits_scaling: keys.required('logit_scale', scale('logit_scale')),
    }
  },
  written: {
    plainHeads: true,
    numbers: ({ attention_multiplier, embedding_multiplier, residual_multiplier, logits_scaling }) => [
      ['attention.scale', attention_multiplier ?? 1],
      ['embedding_scale', embedding_multiplier ?? 1],
      ['residual_scale', residual_multiplier ?? 1],
      ['logit_scale', logits_scaling ?? 1],
    ],
    unfused: ({ model_type, shared_intermediate_size: size, ...rest }) =>
      model_type === 'granite'
        ? undefined
        : { ...rest, model_type: 'granite', intermediate_size: size ?? 1024, mlp_bias: false },
  },
  stored: rotaryPairs,
}

/** The keys of dense Granite 4 models. */
const dense = (intermediate: number, layers: number) => ({
  shared_intermediate_size: intermediate,
  num_local_experts: 0,
  layer_types: Array.from({ length: layers }, () => 'attention'),
  position_embedding_type: 'rope',
})

export const granite: Family = {
  types: {
    granite: {
      graph: graniteGraph,
      architecture: 'GraniteForCausalLM',
      models: 'Granite 3, dense',
      notes: 'multipliers of the embedding, the residual stream, attention, and logits',
      shapes: {
        'Granite-3.3-2B': [2048, 8192, 40, 32, 8, 49159, { tied: true }],
        'Granite-3.3-8B': [4096, 12800, 40, 32, 8, 49159, { tied: true }],
      },
    },
    granitemoehybrid: {
      graph: granite4Graph,
      architecture: 'GraniteMoeHybridForCausalLM',
      models: 'Granite 4, dense (350M, 1B, Micro)',
      notes:
        'as Granite 3, with one linear for gate and up, and with rotary embedding or none; mixtures of experts and Mamba layers (the H models) are not supported',
      shapes: {
        'Granite-4.0-350M': [1024, 2048, 28, 16, 4, 100352, { tied: true, ...dense(2048, 28) }],
        'Granite-4.0-1B': [2048, 4096, 40, 16, 4, 100352, { tied: true, ...dense(4096, 40) }],
        'Granite-4.0-Micro': [2560, 8192, 40, 40, 8, 100352, { tied: true, ...dense(8192, 40) }],
      },
    },
  },
  gguf,
}
