import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readGgufHeader } from '../../lib/formats/gguf.js'
import { openModelFiles } from '../../lib/models/index.js'
import { addon } from '../../lib/native/addon.js'
import { float32Bytes } from '../../lib/peft/floats.js'
import { ggufBytes, type TensorSpec, type Value, value } from '../lib/formats/gguf-bytes.js'
import { scratchFile } from '../lib/scratch.js'
import { drawnFactor } from './drawn.js'
import {
  backward,
  floats,
  goldenBatch,
  loadFrom,
  loraSpec,
  parity,
  readGolden,
  relativeError,
  trainPlan,
} from './engine.js'
import { measured } from './measured.js'

const NAMES: [ours: RegExp, theirs: string][] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^model\.embedding_norm/, 'token_embd_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\.(\d+)\.input_layernorm/, 'blk.$1.attn_norm'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm/, 'blk.$1.ffn_norm'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm/, 'blk.$1.post_ffw_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj/, 'blk.$1.attn_$2'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm/, 'blk.$1.attn_$2_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj/, 'blk.$1.attn_qkv'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj/, 'blk.$1.ffn_up'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj/, 'blk.$1.attn_output'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj/, 'blk.$1.ffn_$2'],
  [/^model\.layers\.(\d+)\.operator_norm/, 'blk.$1.attn_norm'],
  [/^model\.layers\.(\d+)\.ffn_norm/, 'blk.$1.ffn_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_layernorm/, 'blk.$1.attn_$2_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.out_proj/, 'blk.$1.attn_output'],
  [/^model\.layers\.(\d+)\.conv\.(in_proj|conv|out_proj)/, 'blk.$1.shortconv.$2'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_qkv/, 'blk.$1.attn_qkv'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_z/, 'blk.$1.attn_gate'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_b/, 'blk.$1.ssm_beta'],
  [/^model\.layers\.(\d+)\.linear_attn\.in_proj_a/, 'blk.$1.ssm_alpha'],
  [/^model\.layers\.(\d+)\.linear_attn\.A_log/, 'blk.$1.ssm_a'],
  [/^model\.layers\.(\d+)\.linear_attn\.dt_bias/, 'blk.$1.ssm_dt.bias'],
  [/^model\.layers\.(\d+)\.linear_attn\.out_proj/, 'blk.$1.ssm_out'],
  [/^model\.layers\.(\d+)\.linear_attn\.(conv1d|norm)/, 'blk.$1.ssm_$2'],
  [/^model\.layers\.(\d+)\.feed_forward\.w1/, 'blk.$1.ffn_gate'],
  [/^model\.layers\.(\d+)\.feed_forward\.w2/, 'blk.$1.ffn_down'],
  [/^model\.layers\.(\d+)\.feed_forward\.w3/, 'blk.$1.ffn_up'],
]

interface LoraCase {
  name: string
  model: string
  quantization: unknown
  peft: { r: number }
  scaling: Record<string, number>
}
const loraCases = JSON.parse(readFileSync(join(parity, 'lora/cases.json'), 'utf8')) as LoraCase[]

/** Architectures whose files have query and key rows in ggml's order. */
const PERMUTED = ['llama', 'smollm3', 'granite', 'mistral3']

/** Architectures with a norm after attention. */
const NORMED_AFTER = ['olmo2', 'gemma3', 'qwen35']

const nameInGguf = (name: string, architecture: string) => {
  const norm: (typeof NAMES)[number] = [
    /^model\.layers\.(\d+)\.post_attention_layernorm/,
    NORMED_AFTER.includes(architecture) ? 'blk.$1.post_attention_norm' : 'blk.$1.ffn_norm',
  ]
  return [norm, ...NAMES].reduce(
    (sofar, [ours, theirs]) => (ours.test(name) ? name.replace(ours, theirs) : sofar),
    name,
  )
}

/** Rows in the order of ggml's rotary embedding: the two dimensions of a pair side by side. */
function interleaved(bytes: Uint8Array, rows: number, heads: number): Uint8Array {
  const size = bytes.length / rows
  const dim = rows / heads
  const out = new Uint8Array(bytes.length)
  for (let row = 0; row < rows; row++) {
    const [head, at] = [Math.floor(row / dim), row % dim]
    const from = head * dim + (at % 2) * (dim / 2) + Math.floor(at / 2)
    out.set(bytes.subarray(from * size, (from + 1) * size), row * size)
  }
  return out
}

/** Value heads of Qwen3.5 in the order of files: the first of each key head, then the second of each. */
function tiled(name: string, bytes: Uint8Array, config: Record<string, unknown>): Uint8Array {
  const [, part = ''] = /\.linear_attn\.(\w+)/.exec(name) ?? []
  const number = (key: string) => config[`linear_${key}`] as number
  const [keys, values] = [number('num_key_heads'), number('num_value_heads')]
  const channels = 2 * keys * number('key_head_dim') + values * number('value_head_dim')
  // Heads per row, and bytes in front of them: rows of queries and keys.
  const rows = part === 'out_proj' ? (config.hidden_size as number) : 1
  const isMixed = ['in_proj_qkv', 'conv1d'].includes(part)
  const before = isMixed ? (bytes.length / channels) * 2 * keys * number('key_head_dim') : 0
  const size = (bytes.length / rows - before) / values
  if (part === '' || part === 'norm') return bytes
  const out = Uint8Array.from(bytes)
  for (let row = 0; row < rows; row++)
    for (let key = 0; key < keys; key++)
      for (let value = 0; value < values / keys; value++) {
        const start = (row * bytes.length) / rows + before
        const from = start + ((key * values) / keys + value) * size
        out.set(bytes.subarray(from, from + size), start + (value * keys + key) * size)
      }
  return out
}

/** How elements of vectors are written in fp32; undefined for those that stay as they are. */
function changed(name: string, architecture: string): ((value: number) => number) | undefined {
  if (name.endsWith('.A_log')) return (value) => -Math.exp(value)
  const gains = ['gemma', 'gemma3', 'qwen35'].includes(architecture) && name.endsWith('norm.weight')
  return gains && !name.endsWith('linear_attn.norm.weight') ? (value) => 1 + value : undefined
}

/** Divisors of LongRoPE by the names of their tensors. */
function longFactors({ rope_parameters: rope }: Record<string, unknown>): Map<string, Float32Array> {
  const { rope_type: type, ...lists } = rope as Record<string, number[]> & { rope_type: string }
  if (type !== 'longrope') return new Map()
  const kinds = ['short', 'long'] as const
  return new Map(
    kinds.map((kind) => [`rope_factors_${kind}.weight`, Float32Array.from(lists[`${kind}_factor`] ?? [])]),
  )
}

/** The tiny model as a GGUF file of bf16 tensors, as the converter of llama.cpp lays it out. */
async function asGguf(model: string, architecture: string, more: Record<string, Value>): Promise<string> {
  const folder = await openModelFiles(join(parity, 'models', model))
  const number = (key: string) => folder.config[key] as number
  const own = {
    context_length: value.number('u32', number('max_position_embeddings')),
    embedding_length: value.number('u32', number('hidden_size')),
    block_count: value.number('u32', number('num_hidden_layers')),
    feed_forward_length: value.number('u32', number('intermediate_size')),
    'attention.head_count': value.number('u32', number('num_attention_heads')),
    'attention.head_count_kv': value.number('u32', number('num_key_value_heads')),
    'attention.layer_norm_rms_epsilon': value.number('f32', number('rms_norm_eps') ?? number('norm_eps')),
    ...more,
  }
  const keys: [string, Value][] = [
    ['general.architecture', value.string(architecture)],
    ...Object.entries(own).map(([key, of]): [string, Value] => [`${architecture}.${key}`, of]),
  ]
  const tensors: TensorSpec[] = [...folder.tensors.values()].map(({ name, shape }) => {
    const type = changed(name, architecture) ? 0 : 30
    const dims = [...shape].reverse()
    // A filter's one input channel has no dimension.
    if (dims.length === 3) dims.splice(1, 1)
    return { name: nameInGguf(name, architecture), dims, type }
  })
  const factors = longFactors(folder.config)
  for (const [name, { length }] of factors) tensors.push({ name, dims: [length], type: 0 })
  const path = scratchFile('model.gguf', ggufBytes({ keys, tensors }))
  const file = readFileSync(path)
  for (const { name, offset } of (await readGgufHeader(path)).tensors)
    file.set(float32Bytes(factors.get(name) ?? new Float32Array()), offset)
  for (const { name, offset } of (await openModelFiles(path)).tensors.values()) {
    const source = folder.tensors.get(name)
    if (source?.dtype !== 'BF16') throw new Error(`${name} of ${model} is not there as BF16`)
    const stored = readFileSync(source.file).subarray(source.offset, source.offset + source.bytes)
    const bytes = architecture === 'qwen35' ? tiled(name, stored, folder.config) : Uint8Array.from(stored)
    const change = changed(name, architecture)
    if (change !== undefined) {
      const words = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
      const bits = Uint32Array.from(words, (word) => word << 16)
      file.set(new Uint8Array(new Float32Array(bits.buffer).map(change).buffer), offset)
      continue
    }
    const heads = name.includes('.q_proj.') ? number('num_attention_heads') : number('num_key_value_heads')
    const turned = PERMUTED.includes(architecture) && /\.[qk]_proj\./.test(name)
    file.set(turned ? interleaved(bytes, source.shape[0] as number, heads) : bytes, offset)
  }
  writeFileSync(path, file)
  return path
}

const scaling = (type: string, factor: number) => ({
  'rope.scaling.type': value.string(type),
  'rope.scaling.factor': value.number('f32', factor),
})
const theta = (base: number) => ({ 'rope.freq_base': value.number('f32', base) })

describe.each<[model: string, architecture: string, keys: Record<string, Value>]>([
  ['linear', 'llama', { ...scaling('linear', 4), ...theta(1e4) }],
  ['mistral_window', 'llama', { 'attention.sliding_window': value.number('u32', 20), ...theta(1e4) }],
  ['qwen2', 'qwen2', theta(1e6)],
  ['qwen3', 'qwen3', { 'attention.key_length': value.number('u32', 32), ...theta(1e6) }],
  ['smollm3', 'smollm3', theta(5e6)],
  [
    'granite',
    'granite',
    {
      'attention.scale': value.number('f32', 0.3),
      embedding_scale: value.number('f32', 12),
      residual_scale: value.number('f32', 0.22),
      logit_scale: value.number('f32', 3),
      ...theta(1e4),
    },
  ],
  ['olmo2', 'olmo2', theta(5e5)],
  [
    'olmo3',
    'olmo2',
    {
      'attention.sliding_window': value.number('u32', 10),
      ...scaling('yarn', 4),
      'rope.scaling.original_context_length': value.number('u32', 32),
      'rope.scaling.yarn_attn_factor': value.number('f32', 1 + 0.1 * Math.log(4)),
      ...theta(5e5),
    },
  ],
  ['gemma', 'gemma', { 'attention.key_length': value.number('u32', 32), ...theta(1e4) }],
  [
    'gemma3',
    'gemma3',
    {
      'attention.key_length': value.number('u32', 32),
      'attention.sliding_window': value.number('u32', 10),
      'attention.sliding_window_pattern': value.number('u32', 3),
      ...theta(1e6),
    },
  ],
  [
    'ministral3',
    'mistral3',
    {
      'attention.key_length': value.number('u32', 32),
      'attention.temperature_scale': value.number('f32', 0.1),
      ...scaling('yarn', 16),
      'rope.scaling.original_context_length': value.number('u32', 8),
      'rope.scaling.yarn_beta_fast': value.number('f32', 32),
      'rope.scaling.yarn_beta_slow': value.number('f32', 1),
      'rope.scaling.yarn_log_multiplier': value.number('f32', 1),
      ...theta(1e6),
    },
  ],
  [
    'phi3',
    'phi3',
    {
      'attention.sliding_window': value.number('u32', 0),
      'rope.dimension_count': value.number('u32', 12),
      'rope.scaling.original_context_length': value.number('u32', 16),
      'rope.scaling.attn_factor': value.number('f32', Math.sqrt(1 + Math.log(8) / Math.log(16))),
      ...theta(1e4),
    },
  ],
  [
    'lfm2',
    'lfm2',
    {
      'attention.head_count_kv': value.numbers('i32', [0, 2, 0]),
      'shortconv.l_cache': value.number('u32', 3),
      ...theta(1e6),
    },
  ],
  [
    'qwen3_5',
    'qwen35',
    {
      'attention.key_length': value.number('u32', 32),
      'rope.dimension_count': value.number('u32', 8),
      'ssm.conv_kernel': value.number('u32', 4),
      'ssm.state_size': value.number('u32', 16),
      'ssm.group_count': value.number('u32', 2),
      'ssm.time_step_rank': value.number('u32', 4),
      'ssm.inner_size': value.number('u32', 64),
      full_attention_interval: value.number('u32', 3),
      ...theta(1e7),
    },
  ],
])('%s as a GGUF file of the architecture %s', (name, architecture, keys) => {
  it('gives the logits of transformers', async () => {
    const { graph, model } = await loadFrom(await asGguf(name, architecture, keys))
    const golden = await readGolden(`golden/${name}.safetensors`)
    const { tokens, cuSeqlens } = goldenBatch(golden)
    const logits = floats(golden, 'logits')
    const session = await addon().createSession(model, [], {
      forward: {
        mode: 'forward',
        tokens: 256,
        sequences: 1,
        headRows: 256,
        kvCapacity: 256,
        precision: 'f32',
      },
    }).promise
    for (let s = 0; s + 1 < cuSeqlens.length; s++) {
      const [begin, end] = [cuSeqlens[s] as number, cuSeqlens[s + 1] as number]
      // The last token alone, as generation does.
      for (const [from, to] of [
        [begin, end - 1],
        [end - 1, end],
      ] as const) {
        if (from === to) continue
        const result = await session.forward('forward', {
          tokens: tokens.slice(from, to),
          past: from - begin,
          reach: end - begin,
          rows: Int32Array.from({ length: to - from }, (_, i) => i),
          wantLogits: true,
        }).promise
        const expected = logits.subarray(from * graph.vocabSize, to * graph.vocabSize)
        const value = relativeError(result.logits as Float32Array, expected)
        measured({ model: name, source: 'gguf', what: from === begin ? 'logits' : 'generation', value })
        expect(value).toBeLessThan(1e-4)
      }
    }
    await session.dispose()
    await model.dispose()
  })

  it('gives the gradients of PEFT', async () => {
    const { name: file, scaling } = loraCases.find(
      (c) => c.model === name && c.quantization === null && c.peft.r === 4,
    ) as LoraCase
    const golden = await readGolden(`lora/${file}.safetensors`)
    const { graph, model } = await loadFrom(await asGguf(name, architecture, keys))
    const entries = Object.entries(scaling).map(([path, scale]) => {
      const weight = graph.weights.find((each) => each.name === `${path}.weight`)
      if (weight === undefined) throw new Error(`${path} has no weight`)
      return { path, rank: 4, scale, inputs: weight.cols, outputs: weight.rows }
    })
    const spec = loraSpec(entries)
    const adapter = addon().createAdapter(spec, { trainable: true })
    for (const { name, rows, cols } of spec.parameters)
      adapter.write(name, 'value', drawnFactor(file, name, rows, cols))
    const session = await addon().createSession(model, [adapter], { train: trainPlan }).promise
    await backward(session, goldenBatch(await readGolden(`golden/${name}.safetensors`)))
    for (const parameter of spec.parameters) {
      const found = adapter.read(parameter.name, 'gradient')
      const value = relativeError(found, floats(golden, `grad.${parameter.name}`))
      measured({ model: name, source: 'gguf', what: 'gradients', value })
      expect(value, parameter.name).toBeLessThan(1e-5)
    }
    await session.dispose()
    await adapter.dispose()
    await model.dispose()
  })
})
