import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FileFormatError, type LowrankError, UnsupportedError } from '../../../lib/core/errors.js'
import { openModelFiles } from '../../../lib/models/index.js'
import { scratchFile } from '../scratch.js'
import { type GgufSpec, ggufBytes, type TensorSpec, type Value, value } from './gguf-bytes.js'
import { llamaGguf, llamaTensors } from './model-fixtures.js'

const open = (spec: GgufSpec) => openModelFiles(scratchFile('model.gguf', ggufBytes(spec)))

async function problem(spec: GgufSpec, kind: new (message: string) => LowrankError): Promise<string> {
  const path = scratchFile('model.gguf', ggufBytes(spec))
  const error = await openModelFiles(path).catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(kind)
  return (error as Error).message.replaceAll(path, 'FILE')
}

/** The fixture's tensors, with one changed or added. */
function withTensor(name: string, change: Partial<TensorSpec>): TensorSpec[] {
  const tensors = llamaTensors()
  const at = tensors.findIndex((tensor) => tensor.name === name)
  if (at < 0) return [...tensors, { name, dims: [64], ...change }]
  return tensors.map((tensor, i) => (i === at ? { ...tensor, ...change } : tensor))
}

const withoutTensor = (name: string) => llamaTensors().filter((tensor) => tensor.name !== name)

describe('a llama GGUF file', () => {
  it('gives the config of a Hugging Face folder', async () => {
    const model = await open(llamaGguf())
    expect(model.kind).toBe('gguf')
    expect(model.config).toEqual({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      vocab_size: 5,
      hidden_size: 64,
      intermediate_size: 96,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
      hidden_act: 'silu',
      rms_norm_eps: 1e-5,
      max_position_embeddings: 128,
      rope_theta: 100_000,
      rope_scaling: null,
      attention_bias: false,
      mlp_bias: false,
      tie_word_embeddings: true,
      bos_token_id: 1,
      eos_token_id: 2,
    })
  })

  it('refuses sizes beyond those of any model, naming the file', async () => {
    const huge = open(llamaGguf({ 'llama.block_count': value.number('u32', 1e9) }))
    await expect(huge).rejects.toThrow(
      /model\.gguf: its metadata gives a num_hidden_layers of 1000000000; at most 1024 is supported$/,
    )
  })

  it('gives tensors their Hugging Face names and row-major shapes', async () => {
    const { tensors } = await open(llamaGguf({}, withTensor('output.weight', { dims: [64, 5], type: 30 })))
    const listed = [...tensors.values()].map(({ name, dtype, shape, permutedHeads }) => [
      name,
      dtype,
      shape,
      permutedHeads,
    ])
    const layer = (i: number) => [
      [`model.layers.${i}.input_layernorm.weight`, 'F32', [64], undefined],
      [`model.layers.${i}.self_attn.q_proj.weight`, 'Q4_1', [64, 64], 4],
      [`model.layers.${i}.self_attn.k_proj.weight`, 'Q4_1', [32, 64], 2],
      [`model.layers.${i}.self_attn.v_proj.weight`, 'Q4_1', [32, 64], undefined],
      [`model.layers.${i}.self_attn.o_proj.weight`, 'Q4_1', [64, 64], undefined],
      [`model.layers.${i}.post_attention_layernorm.weight`, 'F32', [64], undefined],
      [`model.layers.${i}.mlp.gate_proj.weight`, 'Q4_1', [96, 64], undefined],
      [`model.layers.${i}.mlp.up_proj.weight`, 'Q4_1', [96, 64], undefined],
      [`model.layers.${i}.mlp.down_proj.weight`, 'Q4_1', [64, 96], undefined],
    ]
    expect(listed).toEqual([
      ['model.embed_tokens.weight', 'Q8_0', [5, 64], undefined],
      ['model.norm.weight', 'F32', [64], undefined],
      ...layer(0),
      ...layer(1),
      ['lm_head.weight', 'BF16', [5, 64], undefined],
    ])
  })

  it('points at the bytes of each tensor', async () => {
    const { tensors } = await open(llamaGguf())
    const norm = tensors.get('model.norm.weight')
    // The embedding before it takes 5 rows of two 34-byte blocks, padded to 352 bytes.
    const first = readFileSync(norm?.file ?? '').subarray(norm?.offset, (norm?.offset ?? 0) + 3)
    expect([...first]).toEqual([352 % 251, 353 % 251, 354 % 251])
    expect(norm?.bytes).toBe(256)
  })

  it('unties the head when there is one', async () => {
    const { config } = await open(llamaGguf({}, withTensor('output.weight', { dims: [64, 5] })))
    expect(config.tie_word_embeddings).toBe(false)
  })

  it('applies the defaults of absent keys', async () => {
    const tensors = llamaTensors().map((tensor) =>
      /attn_[kv]/.test(String(tensor.name)) ? { ...tensor, dims: [64, 64] } : tensor,
    )
    const keys = { 'llama.attention.head_count_kv': undefined, 'llama.rope.freq_base': undefined }
    const { config } = await open(llamaGguf(keys, tensors))
    expect(config).toMatchObject({ num_key_value_heads: 4, rope_theta: 10_000, head_dim: 16 })
  })

  it('takes integers of any width, and one value per layer where all are equal', async () => {
    const { config } = await open(
      llamaGguf({
        'llama.context_length': value.number('u64', 4096),
        'llama.block_count': value.number('u8', 2),
        'llama.attention.head_count_kv': value.numbers('i32', [2, 2]),
        'llama.feed_forward_length': value.numbers('u16', [96, 96]),
      }),
    )
    expect(config).toMatchObject({
      max_position_embeddings: 4096,
      num_key_value_heads: 2,
      intermediate_size: 96,
    })
  })

  it('reads a head size that is not hidden size over heads', async () => {
    const tensors = withTensor('blk.0.attn_q.weight', { dims: [64, 128] }).map((tensor) => {
      if (/blk.1.attn_q.weight/.test(String(tensor.name))) return { ...tensor, dims: [64, 128] }
      return /attn_[kv].weight/.test(String(tensor.name)) ? { ...tensor, dims: [64, 64] } : tensor
    })
    const keys = {
      'llama.attention.key_length': value.number('u32', 32),
      'llama.attention.value_length': value.number('u32', 32),
      'llama.rope.dimension_count': value.number('u32', 32),
    }
    expect((await open(llamaGguf(keys, tensors))).config.head_dim).toBe(32)
  })

  it('keeps rope scaling, in the spelling of config.json', async () => {
    const scaling = async (keys: Record<string, ReturnType<typeof value.string>>) =>
      (await open(llamaGguf(keys))).config.rope_scaling
    expect(
      await scaling({
        'llama.rope.scaling.type': value.string('linear'),
        'llama.rope.scaling.factor': value.number('f32', 4),
      }),
    ).toEqual({ rope_type: 'linear', factor: 4 })
    expect(
      await scaling({
        'llama.rope.scaling.type': value.string('yarn'),
        'llama.rope.scaling.factor': value.number('f32', 2.5),
        'llama.rope.scaling.original_context_length': value.number('u32', 64),
        'llama.rope.scaling.yarn_beta_fast': value.number('f32', 16),
        'llama.rope.scaling.attn_factor': value.number('f32', 1),
      }),
    ).toEqual({ rope_type: 'yarn', factor: 2.5, original_max_position_embeddings: 64, beta_fast: 16 })
    expect(await scaling({ 'llama.rope.scaling.type': value.string('none') })).toBeNull()
    expect(await scaling({ 'llama.rope.scale_linear': value.number('f32', 2) })).toEqual({
      rope_type: 'linear',
      factor: 2,
    })
  })

  it('refuses a factor of attention, which config.json counts otherwise', async () => {
    const keys = {
      'llama.rope.scaling.type': value.string('yarn'),
      'llama.rope.scaling.factor': value.number('f32', 2),
      'llama.rope.scaling.attn_factor': value.number('f32', 1.1),
    }
    expect(await problem(llamaGguf(keys), UnsupportedError)).toBe(
      'FILE: llama.rope.scaling.attn_factor is 1.1; RoPE scaling is supported only if it is 1 or absent',
    )
  })

  it('hands out rope factors and keeps them from the weights', async () => {
    const model = await open(llamaGguf({}, withTensor('rope_freqs.weight', { dims: [8] })))
    expect(model.ropeFactors).toMatchObject({ dtype: 'F32', shape: [8], bytes: 32 })
    expect(model.tensors.has('rope_freqs.weight')).toBe(false)
    expect(
      await problem(llamaGguf({}, withTensor('rope_freqs.weight', { dims: [4] })), FileFormatError),
    ).toBe('FILE: rope_freqs.weight is F32 [4], expected F32 [8]')
  })

  it('knows attention biases, which are permuted like their rows', async () => {
    const tensors = [
      ...llamaTensors(),
      { name: 'blk.0.attn_q.bias', dims: [64] },
      { name: 'blk.0.attn_k.bias', dims: [32] },
    ]
    const model = await open(llamaGguf({}, tensors))
    expect(model.config.attention_bias).toBe(true)
    expect(model.tensors.get('model.layers.0.self_attn.k_proj.bias')).toMatchObject({
      shape: [32],
      permutedHeads: 2,
    })
  })

  it('restores the dropped dimension of a matrix with one row', async () => {
    const keys = { 'tokenizer.ggml.tokens': undefined }
    const { tensors, config } = await open(llamaGguf(keys, withTensor('token_embd.weight', { dims: [64] })))
    expect(tensors.get('model.embed_tokens.weight')?.shape).toEqual([1, 64])
    expect(config.vocab_size).toBe(1)
  })

  it('refuses other architectures by name', async () => {
    expect(
      await problem(llamaGguf({ 'general.architecture': value.string('mamba') }), UnsupportedError),
    ).toMatch(
      /^FILE has the architecture "mamba", which is not supported. Supported architectures: "gemma" \(Gemma\), "gemma3" \(Gemma 3, text\), .*"llama" \(Llama, Mistral, SmolLM2, TinyLlama\), .*"smollm3" \(SmolLM3\)$/,
    )
    expect(
      await problem(llamaGguf({ 'llama.expert_count': value.number('u32', 8) }), UnsupportedError),
    ).toContain('is a mixture of experts')
  })

  it('refuses adapters and other files that are no models', async () => {
    expect(await problem(llamaGguf({ 'general.type': value.string('adapter') }), UnsupportedError)).toBe(
      'FILE holds a GGUF file of type "adapter", not a model: pass the base model, and load the adapter on top of it',
    )
    expect(await problem(llamaGguf({ 'general.type': value.string('mmproj') }), UnsupportedError)).toBe(
      'FILE holds a GGUF file of type "mmproj", not a model',
    )
  })

  it('names every tensor type that it cannot decode', async () => {
    const tensors = [
      ...withTensor('output.weight', { dims: [256, 5], type: 16 }),
      { name: 'x', dims: [256], type: 35 },
    ]
    expect(await problem(llamaGguf({}, tensors), UnsupportedError)).toBe(
      'FILE has tensors of the types IQ2_XXS ("output.weight"), TQ2_0 ("x"); F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS are supported; use a file with one of these types',
    )
  })

  it.each([
    'general.architecture',
    'llama.context_length',
    'llama.embedding_length',
    'llama.block_count',
    'llama.feed_forward_length',
    'llama.attention.head_count',
    'llama.attention.layer_norm_rms_epsilon',
  ])('names the missing key %s', async (key) => {
    expect(await problem(llamaGguf({ [key]: undefined }), FileFormatError)).toBe(`FILE lacks the key ${key}`)
  })

  it('refuses keys of the wrong kind or value', async () => {
    const refuse = async (key: string, of: ReturnType<typeof value.string>) =>
      problem(llamaGguf({ [key]: of }), FileFormatError)
    expect(await refuse('llama.block_count', value.string('2'))).toBe(
      'FILE: llama.block_count must be an integer of at least 1, not "2"',
    )
    expect(await refuse('llama.block_count', value.number('u32', 0))).toContain('at least 1, not 0')
    expect(await refuse('llama.embedding_length', value.number('f32', 1.5))).toContain('at least 1, not 1.5')
    expect(await refuse('llama.rope.freq_base', value.number('f32', Number.NaN))).toContain(
      'a finite number, not NaN',
    )
    expect(await refuse('tokenizer.ggml.tokens', value.numbers('u8', [1]))).toContain(
      'an array of strings, not an array of 1',
    )
    expect(await refuse('llama.attention.head_count_kv', value.strings(['2']))).toContain(
      'an array of numbers',
    )
    expect(await refuse('llama.attention.head_count_kv', value.numbers('i32', [-1, -1]))).toContain(
      'must hold positive integers',
    )
  })

  it('refuses sizes that contradict one another', async () => {
    expect(
      await problem(llamaGguf({ 'llama.attention.head_count': value.number('u32', 3) }), FileFormatError),
    ).toContain('the head size is 21.3')
    expect(
      await problem(llamaGguf({ 'llama.attention.key_length': value.number('u32', 32) }), FileFormatError),
    ).toBe('FILE: "blk.0.attn_q.weight" has 64 rows, but 4 heads of 32 need 128')
    const tokens = value.strings(['1', '2', '3', '4', '5', '6'])
    expect(await problem(llamaGguf({ 'tokenizer.ggml.tokens': tokens }), FileFormatError)).toBe(
      'FILE has 6 tokens, but its embedding has 5 rows',
    )
    expect(await problem(llamaGguf({}, withoutTensor('token_embd.weight')), FileFormatError)).toBe(
      'FILE lacks the tensor token_embd.weight',
    )
  })

  it('is a Mistral if its attention has a window that is shorter than the context', async () => {
    const window = (size: number) =>
      llamaGguf({ 'llama.attention.sliding_window': value.number('u32', size) })
    expect((await open(window(127))).config).toMatchObject({
      architectures: ['MistralForCausalLM'],
      model_type: 'mistral',
      sliding_window: 127,
    })
    const { config } = await open(llamaGguf())
    for (const harmless of [0, 128]) expect((await open(window(harmless))).config).toEqual(config)
  })

  it('refuses layers that differ and partial rotary dimensions', async () => {
    const kv = value.numbers('i32', [2, 1])
    expect(await problem(llamaGguf({ 'llama.attention.head_count_kv': kv }), UnsupportedError)).toBe(
      'FILE: llama.attention.head_count_kv differs between layers, which is not supported',
    )
    const dims = value.number('u32', 8)
    expect(await problem(llamaGguf({ 'llama.rope.dimension_count': dims }), UnsupportedError)).toBe(
      'FILE: llama.rope.dimension_count is 8, which differs from the head size 16',
    )
  })

  it.each([
    'blk.2.attn_q.weight',
    'blk.0.attn_qkv.weight',
    'blk.00.attn_q.weight',
    'blk.0.attn_norm.bias',
    'x',
  ])('refuses the tensor %s, which the model does not have', async (name) => {
    expect(await problem(llamaGguf({}, withTensor(name, { dims: [64] })), UnsupportedError)).toBe(
      `FILE has the tensor "${name}", which no model of its architecture (Llama, Mistral, SmolLM2, TinyLlama) has`,
    )
  })

  it('passes over the rotary buffers of old converters', async () => {
    const model = await open(llamaGguf({}, withTensor('blk.0.attn_rot_embd', { dims: [8] })))
    expect(model.tensors.size).toBe(20)
  })
})

describe('a qwen2 GGUF file', () => {
  /** The fixture's keys and tensors under the names of Qwen2, with its biases. */
  function qwen2Gguf(keys: Record<string, Value> = {}, head = false): GgufSpec {
    const { keys: entries = [] } = llamaGguf(keys)
    const renamed = entries.map(([key, of]) => [key.replace(/^llama\./, 'qwen2.'), of] as const)
    const biases = [0, 1].flatMap((layer) => [
      { name: `blk.${layer}.attn_q.bias`, dims: [64] },
      { name: `blk.${layer}.attn_k.bias`, dims: [32] },
      { name: `blk.${layer}.attn_v.bias`, dims: [32] },
    ])
    const output = head ? [{ name: 'output.weight', dims: [64, 5] }] : []
    return {
      keys: renamed.map(([key, of]) => [key, key === 'general.architecture' ? value.string('qwen2') : of]),
      tensors: [...llamaTensors(), ...biases, ...output],
    }
  }

  it('gives the config of a Hugging Face folder', async () => {
    const { config } = await open(qwen2Gguf())
    expect(config).toMatchObject({
      architectures: ['Qwen2ForCausalLM'],
      model_type: 'qwen2',
      num_key_value_heads: 2,
      rope_theta: 100_000,
      use_sliding_window: false,
      tie_word_embeddings: true,
    })
    expect(config).not.toHaveProperty('attention_bias')
    expect((await open(qwen2Gguf({}, true))).config.tie_word_embeddings).toBe(false)
  })

  it('has query and key rows, and their biases, in the order of Hugging Face', async () => {
    const { tensors } = await open(qwen2Gguf())
    for (const projection of ['q_proj', 'k_proj', 'v_proj']) {
      for (const kind of ['weight', 'bias']) {
        const tensor = tensors.get(`model.layers.1.self_attn.${projection}.${kind}`)
        expect(tensor).toBeDefined()
        expect(tensor?.permutedHeads).toBeUndefined()
      }
    }
  })

  it('is refused with a window, since it does not say which layers have it', async () => {
    const spec = qwen2Gguf({ 'llama.attention.sliding_window': value.number('u32', 64) })
    expect(await problem(spec, UnsupportedError)).toContain('qwen2.attention.sliding_window is 64')
  })

  it('names the keys of its own architecture in errors', async () => {
    const spec = qwen2Gguf({ 'llama.block_count': value.number('u32', 0) })
    expect(await problem(spec, FileFormatError)).toBe(
      'FILE: qwen2.block_count must be an integer of at least 1, not 0',
    )
  })
})

describe('a qwen3 GGUF file', () => {
  const norms = [0, 1].flatMap((layer) =>
    ['q', 'k'].map((letter) => ({ name: `blk.${layer}.attn_${letter}_norm.weight`, dims: [16] })),
  )

  function qwen3Gguf(keys: Record<string, Value> = {}, more = norms): GgufSpec {
    const { keys: entries = [] } = llamaGguf(keys)
    const renamed = entries.map(([key, of]) => [key.replace(/^llama\./, 'qwen3.'), of] as const)
    return {
      keys: renamed.map(([key, of]) => [key, key === 'general.architecture' ? value.string('qwen3') : of]),
      tensors: [...llamaTensors(), ...more],
    }
  }

  it('gives the config and the norms of a Hugging Face folder, rows in its order', async () => {
    const { config, tensors } = await open(qwen3Gguf())
    expect(config).toMatchObject({
      architectures: ['Qwen3ForCausalLM'],
      model_type: 'qwen3',
      head_dim: 16,
      use_sliding_window: false,
    })
    expect(tensors.get('model.layers.1.self_attn.k_norm.weight')?.shape).toEqual([16])
    expect(tensors.get('model.layers.1.self_attn.q_proj.weight')?.permutedHeads).toBeUndefined()
  })

  it('is refused with a window, since it does not say which layers have it', async () => {
    const spec = qwen3Gguf({ 'llama.attention.sliding_window': value.number('u32', 64) })
    expect(await problem(spec, UnsupportedError)).toContain('qwen3.attention.sliding_window is 64')
  })

  it('is refused with biases, which llama.cpp reads in part, as others are with norms by head', async () => {
    const bias = qwen3Gguf({}, [...norms, { name: 'blk.0.attn_q.bias', dims: [64] }])
    expect(await problem(bias, UnsupportedError)).toContain(
      'has the tensor "blk.0.attn_q.bias", which no model',
    )
    const norm = llamaGguf({}, withTensor('blk.0.attn_q_norm.weight', { dims: [16] }))
    expect(await problem(norm, UnsupportedError)).toContain(
      'has the tensor "blk.0.attn_q_norm.weight", which',
    )
  })
})

describe('a qwen35 GGUF file', () => {
  const qwen35 = (more: Record<string, Value> = {}): GgufSpec => ({
    keys: Object.entries({
      'general.architecture': value.string('qwen35'),
      'qwen35.context_length': value.number('u32', 128),
      'qwen35.embedding_length': value.number('u32', 64),
      'qwen35.block_count': value.number('u32', 4),
      'qwen35.feed_forward_length': value.number('u32', 96),
      'qwen35.attention.head_count': value.number('u32', 4),
      'qwen35.attention.head_count_kv': value.number('u32', 2),
      'qwen35.attention.key_length': value.number('u32', 32),
      'qwen35.attention.layer_norm_rms_epsilon': value.number('f32', 1e-6),
      'qwen35.rope.dimension_count': value.number('u32', 8),
      'qwen35.ssm.conv_kernel': value.number('u32', 4),
      'qwen35.ssm.state_size': value.number('u32', 16),
      'qwen35.ssm.group_count': value.number('u32', 2),
      'qwen35.ssm.time_step_rank': value.number('u32', 4),
      'qwen35.ssm.inner_size': value.number('u32', 64),
      'qwen35.full_attention_interval': value.number('u32', 2),
      ...more,
    }),
    tensors: [
      { name: 'token_embd.weight', dims: [64, 5] },
      { name: 'output_norm.weight', dims: [64] },
      { name: 'blk.0.attn_qkv.weight', dims: [64, 128] },
      { name: 'blk.0.ssm_conv1d.weight', dims: [4, 128] },
      { name: 'blk.0.ssm_a', dims: [4] },
      { name: 'blk.0.ssm_dt.bias', dims: [4] },
      { name: 'blk.0.ssm_norm.weight', dims: [16] },
      { name: 'blk.0.ssm_out.weight', dims: [64, 64] },
      { name: 'blk.1.attn_q.weight', dims: [64, 256] },
      { name: 'blk.3.attn_k.weight', dims: [64, 64] },
    ],
  })

  it('gives the config and the tensors of a Hugging Face folder, with value heads to be reordered', async () => {
    const { config, tensors } = await open(qwen35())
    expect(config).toMatchObject({
      model_type: 'qwen3_5_text',
      head_dim: 32,
      partial_rotary_factor: 0.25,
      linear_num_key_heads: 2,
      linear_num_value_heads: 4,
      linear_key_head_dim: 16,
      linear_value_head_dim: 16,
      linear_conv_kernel_dim: 4,
      layer_types: ['linear_attention', 'full_attention', 'linear_attention', 'full_attention'],
    })
    const at = (name: string) => tensors.get(`model.layers.0.linear_attn.${name}`)
    const heads = { heads: 4, keyHeads: 2 }
    expect(at('in_proj_qkv.weight')?.headOrder).toEqual({ ...heads, size: 16, first: 64 })
    expect(at('conv1d.weight')).toMatchObject({
      shape: [128, 1, 4],
      headOrder: { ...heads, size: 64, first: 256 },
    })
    expect(at('out_proj.weight')?.headOrder).toEqual({ ...heads, size: 16, columns: true })
    expect(at('A_log')).toMatchObject({ shape: [4], negatedExp: true, headOrder: { ...heads, size: 1 } })
    expect(at('dt_bias')).toMatchObject({ shape: [4], headOrder: { ...heads, size: 1 } })
    expect(at('norm.weight')).not.toHaveProperty('shift')
    expect(tensors.get('model.norm.weight')?.shift).toBe(1)
    expect(tensors.get('model.layers.1.self_attn.q_proj.weight')).not.toHaveProperty('headOrder')
  })

  it('keeps the order of heads if each key head has one value head', async () => {
    const { tensors } = await open(qwen35({ 'qwen35.ssm.group_count': value.number('u32', 4) }))
    expect([...tensors.values()].some(({ headOrder }) => headOrder)).toBe(false)
  })

  it('leaves out the blocks at its end that predict further tokens', async () => {
    const { config, tensors } = await open(qwen35({ 'qwen35.nextn_predict_layers': value.number('u32', 1) }))
    expect(config.num_hidden_layers).toBe(3)
    expect([...tensors.keys()].some((name) => name.startsWith('model.layers.3.'))).toBe(false)
  })

  it('is refused with value heads of another size than key heads', async () => {
    const spec = qwen35({ 'qwen35.ssm.inner_size': value.number('u32', 32) })
    expect(await problem(spec, UnsupportedError)).toContain(
      'qwen35.ssm.inner_size is 32, but 4 value heads (ssm.time_step_rank) of 16 (ssm.state_size) give 64',
    )
  })
})

describe('an lfm2 GGUF file', () => {
  const lfm2 = (kvHeads: Value, more: Record<string, Value> = {}): GgufSpec => ({
    keys: Object.entries({
      'general.architecture': value.string('lfm2'),
      'lfm2.context_length': value.number('u32', 128),
      'lfm2.embedding_length': value.number('u32', 64),
      'lfm2.block_count': value.number('u32', 3),
      'lfm2.feed_forward_length': value.number('u32', 96),
      'lfm2.attention.head_count': value.number('u32', 4),
      'lfm2.attention.head_count_kv': kvHeads,
      'lfm2.attention.layer_norm_rms_epsilon': value.number('f32', 1e-5),
      'lfm2.shortconv.l_cache': value.number('u32', 3),
      ...more,
    }),
    tensors: [
      { name: 'token_embd.weight', dims: [64, 5] },
      { name: 'token_embd_norm.weight', dims: [64] },
      { name: 'blk.0.shortconv.conv.weight', dims: [3, 64] },
      { name: 'blk.0.shortconv.in_proj.weight', dims: [64, 192] },
    ],
  })

  it('has convolutions in the layers without heads of keys and values', async () => {
    const { config, tensors } = await open(lfm2(value.numbers('i32', [0, 2, 0])))
    expect(config).toMatchObject({
      model_type: 'lfm2',
      num_key_value_heads: 2,
      norm_eps: 1e-5,
      conv_L_cache: 3,
      block_auto_adjust_ff_dim: false,
      layer_types: ['conv', 'full_attention', 'conv'],
    })
    expect(tensors.get('model.layers.0.conv.conv.weight')?.shape).toEqual([64, 1, 3])
    expect(tensors.get('model.layers.0.conv.in_proj.weight')?.shape).toEqual([192, 64])
    expect(tensors.has('model.embedding_norm.weight')).toBe(true)
  })

  it('has attention in every layer if the heads are one number', async () => {
    const { config } = await open(lfm2(value.number('u32', 2)))
    expect(config.layer_types).toEqual(['full_attention', 'full_attention', 'full_attention'])
  })

  it.each([
    [[0, 2], 'FILE: lfm2.attention.head_count_kv must have 3 numbers, one for each layer'],
    [[0, 0, 0], 'FILE: lfm2.attention.head_count_kv must hold positive integers'],
  ])('is refused with the heads %j', async (heads, message) => {
    expect(await problem(lfm2(value.numbers('i32', heads)), FileFormatError)).toContain(message)
  })
})
