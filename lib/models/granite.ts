/**
 * Granite, dense: the plain decoder with multipliers for embedding, residual stream, attention, and logits. Granite 4
 * (`granitemoehybrid`) computes gate and up in one linear layer and may have no rotary embedding.
 */
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
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

export function graniteGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}

/** @throws {UnsupportedError} for a mixture of experts, and for Mamba layers */
export function granite4Graph(config: Record<string, unknown>): Graph {
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
