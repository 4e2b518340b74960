import { describe, expect, it } from 'vitest'
import { ConfigError, FileFormatError, UnsupportedError } from '../../../lib/core/errors.js'
import { type Graph, headsOf, nodesOf } from '../../../lib/graph/graph.js'
import { graphOf } from '../../../lib/models/index.js'

const shapes = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 50,
}

/** The window of each layer, in order. */
function windowsOf(graph: Graph): (number | undefined)[] {
  return graph.nodes.filter((node) => node.op === 'attention').map((node) => node.window)
}

/** Names of the biases of the first layer. */
function biasesOf(graph: Graph): string[] {
  const prefix = 'model.layers.0.'
  return graph.weights
    .filter(({ name }) => name.startsWith(prefix) && name.endsWith('.bias'))
    .map(({ name }) => name.slice(prefix.length, -'.bias'.length))
}

const none = [undefined, undefined, undefined, undefined]
const QKV = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']
const MLP = ['mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']

describe('a Llama', () => {
  const llama = (more: object) => graphOf({ model_type: 'llama', ...shapes, ...more })

  it('has no window, whatever its config says of one', () => {
    expect(windowsOf(llama({ sliding_window: 8 }))).toEqual(none)
  })

  it('has the biases that its config asks for', () => {
    expect(biasesOf(llama({}))).toEqual([])
    expect(biasesOf(llama({ attention_bias: true }))).toEqual([...QKV, 'self_attn.o_proj'])
    expect(biasesOf(llama({ mlp_bias: true }))).toEqual(MLP)
  })
})

describe('sizes of a config', () => {
  const sizes = ['num_hidden_layers', 'hidden_size', 'intermediate_size', 'vocab_size', 'head_dim']
  it.each([...sizes, 'num_attention_heads', 'num_key_value_heads'])(
    'are refused before anything is built from them: %s',
    (key) => {
      const started = performance.now()
      expect(() => graphOf({ model_type: 'llama', ...shapes, [key]: 1e9 })).toThrow(
        new RegExp(`^config.json: ${key} is 1000000000, expected an integer from 1 to \\d+\\.$`),
      )
      expect(performance.now() - started).toBeLessThan(1000)
    },
  )

  it('are refused where heads and their dimensions together are too many', () => {
    const wide = { num_attention_heads: 16384, num_key_value_heads: 1, head_dim: 16384 }
    expect(() => graphOf({ model_type: 'llama', ...shapes, ...wide })).toThrow(
      'give attention a width of 268435456; at most 1048576 is supported',
    )
  })

  it('cut what they quote', () => {
    const config = { model_type: 'llama', ...shapes, hidden_size: 'x'.repeat(1000) }
    expect(() => graphOf(config)).toThrow(/^.{0,180}$/)
  })
})

describe('a Mistral', () => {
  const mistral = (more: object) => graphOf({ model_type: 'mistral', ...shapes, ...more })

  it('has its window in every layer', () => {
    expect(windowsOf(mistral({ sliding_window: 8 }))).toEqual([8, 8, 8, 8])
  })

  it('has no window where the config says null, and 4096 keys where it says nothing', () => {
    expect(windowsOf(mistral({ sliding_window: null }))).toEqual(none)
    expect(windowsOf(mistral({}))).toEqual([4096, 4096, 4096, 4096])
  })

  it.each([0, -4, 1.5, '8', 2 ** 31])('refuses a window of %s', (window) => {
    const config = { sliding_window: window }
    expect(() => mistral(config)).toThrow(FileFormatError)
    expect(() => mistral(config)).toThrow(
      `sliding_window is ${JSON.stringify(window)}, expected a positive integer`,
    )
  })
})

describe('a Qwen2', () => {
  const qwen2 = (more: object) => graphOf({ model_type: 'qwen2', ...shapes, ...more })
  const sliding = { use_sliding_window: true, sliding_window: 8 }

  it('has biases on query, key and value only', () => {
    expect(biasesOf(qwen2({ attention_bias: false }))).toEqual(QKV)
  })

  it('has windows only if they are turned on', () => {
    expect(windowsOf(qwen2({ sliding_window: 8, max_window_layers: 2 }))).toEqual(none)
    expect(windowsOf(qwen2({ ...sliding, max_window_layers: 2 }))).toEqual([undefined, undefined, 8, 8])
    expect(windowsOf(qwen2({ ...sliding, max_window_layers: 0 }))).toEqual([8, 8, 8, 8])
    expect(windowsOf(qwen2(sliding))).toEqual(none) // from layer 28 on
  })

  it('takes the types of its layers, which come first', () => {
    const types = ['sliding_attention', 'full_attention', 'sliding_attention', 'full_attention']
    const graph = qwen2({ ...sliding, max_window_layers: 0, layer_types: types })
    expect(windowsOf(graph)).toEqual([8, undefined, 8, undefined])
  })

  it('refuses types of layers that do not fit', () => {
    const types = (layer_types: unknown) => () => qwen2({ ...sliding, layer_types })
    const full = 'full_attention'
    expect(types([full, full])).toThrow(ConfigError)
    expect(types([full, full])).toThrow('layer_types has 2 entries, but num_hidden_layers is 4')
    expect(types([full, full, 'chunked_attention', full])).toThrow(UnsupportedError)
    expect(types([full, full, 'chunked_attention', full])).toThrow('layer_types[2] is "chunked_attention"')
    expect(types(full)).toThrow('expected a list of strings')
    const without = { layer_types: [full, full, full, 'sliding_attention'] }
    expect(() => qwen2(without)).toThrow('no window is set')
  })
})

describe('a Qwen3', () => {
  const qwen3 = (more: object) => graphOf({ model_type: 'qwen3', ...shapes, ...more })
  const widthOf = (graph: Graph, name: string) =>
    graph.weights.find((weight) => weight.name === `model.layers.0.self_attn.${name}.weight`)

  it('normalizes queries and keys by head, after their linear and before they are rotated', () => {
    const graph = qwen3({ head_dim: 32 })
    const first = graph.nodes.filter(({ segment }) => segment === 0)
    for (const [letter, rows] of [
      ['q', 128],
      ['k', 64],
    ] as const) {
      expect(widthOf(graph, `${letter}_proj`)).toMatchObject({ rows, cols: 64 })
      expect(widthOf(graph, `${letter}_norm`)).toMatchObject({ rows: 1, cols: 32, kind: 'vector' })
      const [linear, norm, rotated] = ['proj', 'norm', 'rope'].map((what) =>
        first.find(({ path }) => path === `model.layers.0.self_attn.${letter}_${what}`),
      )
      if (linear?.op !== 'linear' || norm?.op !== 'rms_norm' || rotated?.op !== 'rope') throw new Error()
      expect([norm.x, rotated.x]).toEqual([linear.out, norm.out])
      expect(norm.eps).toBe(1e-6)
    }
  })

  it('has 128 dimensions in a head and 32 heads of keys where its config is silent', () => {
    const { num_key_value_heads, ...rest } = { ...shapes, num_attention_heads: 64 }
    const graph = graphOf({ model_type: 'qwen3', ...rest })
    expect(widthOf(graph, 'q_proj')).toMatchObject({ rows: 64 * 128 })
    expect(widthOf(graph, 'k_proj')).toMatchObject({ rows: 32 * 128 })
  })

  it('has biases on all of attention if its config asks for them, and never in the MLP', () => {
    expect(biasesOf(qwen3({ mlp_bias: true }))).toEqual([])
    expect(biasesOf(qwen3({ attention_bias: true }))).toEqual([...QKV, 'self_attn.o_proj'])
  })

  it('has windows only if they are turned on', () => {
    const windows = { sliding_window: 8, max_window_layers: 2 }
    expect(windowsOf(qwen3(windows))).toEqual(none)
    expect(windowsOf(qwen3({ ...windows, use_sliding_window: true }))).toEqual([undefined, undefined, 8, 8])
  })
})

describe('a Granite', () => {
  const granite = (more: object) => graphOf({ model_type: 'granite', ...shapes, ...more })

  it.each(['embedding_multiplier', 'residual_multiplier', 'attention_multiplier', 'logits_scaling'])(
    'is another graph with another %s, which is 1 by default',
    (key) => {
      expect(granite({ [key]: 1 })).toEqual(granite({}))
      expect(granite({ [key]: 0.5 })).not.toEqual(granite({}))
      expect(() => granite({ [key]: 0 })).toThrow(`${key} is 0, expected a number above zero`)
    },
  )

  it('does not divide its scores by the root of the size of a head', () => {
    expect(nodesOf(granite({}), 'attention')[0]?.scale).toBe(1)
  })
})

describe('a Granite 4', () => {
  const dense = {
    num_local_experts: 0,
    layer_types: ['attention', 'full_attention', 'attention', 'attention'],
    position_embedding_type: 'rope',
    shared_intermediate_size: 80,
  }
  const granite4 = (more: object) => graphOf({ model_type: 'granitemoehybrid', ...shapes, ...dense, ...more })
  const inBlock = (graph: Graph) =>
    graph.weights.flatMap(({ name, rows, cols }) => {
      const [, inner] = name.match(/^model\.layers\.0\.shared_mlp\.(.*)\.weight$/) ?? []
      return inner === undefined ? [] : [[inner, rows, cols]]
    })

  it('has gate and up in one linear, of the size of its shared experts', () => {
    expect(inBlock(granite4({}))).toEqual([
      ['input_linear', 160, 64],
      ['output_linear', 64, 80],
    ])
    expect(inBlock(granite4({ shared_intermediate_size: undefined }))[0]).toEqual(['input_linear', 2048, 64])
  })

  it('is rotated only if its config says so', () => {
    expect(nodesOf(granite4({}), 'rope')).toHaveLength(8)
    for (const position_embedding_type of [undefined, null, 'nope'])
      expect(nodesOf(granite4({ position_embedding_type }), 'rope')).toHaveLength(0)
  })

  it('has the multipliers of Granite 3, and biases of attention only', () => {
    for (const key of [
      'embedding_multiplier',
      'residual_multiplier',
      'attention_multiplier',
      'logits_scaling',
    ])
      expect(granite4({ [key]: 0.5 })).not.toEqual(granite4({}))
    expect(biasesOf(granite4({ attention_bias: true, mlp_bias: true }))).toEqual([...QKV, 'self_attn.o_proj'])
  })

  it.each([
    [{ num_local_experts: 62 }, 'num_local_experts is 62'],
    [{ num_local_experts: undefined }, 'num_local_experts is 8 (8 if absent)'],
    [{ layer_types: undefined }, 'config.json has no layer_types, so all layers are Mamba layers'],
    [{ layer_types: ['attention', 'mamba', 'attention', 'attention'] }, 'layer_types[1] is "mamba"'],
    [{ layer_types: ['attention'] }, 'layer_types has 1 entries, but num_hidden_layers is 4'],
    [{ position_embedding_type: 'alibi' }, 'position_embedding_type is "alibi"'],
  ])('is refused by name: %j', (more, message) => {
    expect(() => granite4(more)).toThrow(message)
  })

  it('takes the older name of its types of layers', () => {
    const { layer_types: layers_block_type, ...rest } = dense
    const older = graphOf({ model_type: 'granitemoehybrid', ...shapes, ...rest, layers_block_type })
    expect(older).toEqual(granite4({}))
  })
})

describe('an OLMo 2 or 3', () => {
  const olmo = (model_type: string, more: object = {}) => graphOf({ model_type, ...shapes, ...more })

  it('normalizes queries, keys, and what joins the residual stream, over whole rows', () => {
    const graph = olmo('olmo2')
    const names = nodesOf(graph, 'rms_norm').flatMap(({ path, segment }) => (segment === 0 ? [path] : []))
    expect(names.map((name) => name.split('.').at(-1))).toEqual([
      'q_norm',
      'k_norm',
      'post_attention_layernorm',
      'post_feedforward_layernorm',
    ])
    const width = (name: string) => graph.weights.find((weight) => weight.name.endsWith(name))?.cols
    const { heads, kvHeads, headDim } = headsOf(graph)
    expect([width('q_norm.weight'), width('k_norm.weight')]).toEqual([heads * headDim, kvHeads * headDim])
    expect(nodesOf(graph, 'linear').every(({ residual }) => residual === undefined)).toBe(true)
    expect(nodesOf(graph, 'rms_norm')[0]?.eps).toBe(1e-5)
  })

  it('has windows and a second rotation in all but every fourth layer if it is an OLMo 3', () => {
    const graph = olmo('olmo3', { num_hidden_layers: 5, sliding_window: 6 })
    expect(windowsOf(graph)).toEqual([6, 6, 6, undefined, 6])
    expect(tablesOf(graph)).toEqual([1, 1, 1, 0, 1])
    expect(graph.ropes).toHaveLength(2)
    expect(windowsOf(olmo('olmo2', { sliding_window: 6 }))).toEqual(none)
  })

  it('scales the rotation of layers without a window only', () => {
    const rope_scaling = { rope_type: 'linear', factor: 4 }
    const { ropes } = olmo('olmo3', { rope_scaling })
    expect(ropes[0]?.invFreq[1]).toBeCloseTo((ropes[1]?.invFreq[1] as number) / 4, 12)
    const rope_parameters = {
      full_attention: { ...rope_scaling, rope_theta: 5e5 },
      sliding_attention: { rope_type: 'default', rope_theta: 5e5 },
    }
    expect(olmo('olmo3', { rope_parameters }).ropes).toEqual(ropes)
  })

  it.each([
    [{ rope_theta: 1e4 }, 'rope_theta is 10000, which transformers gives to layers without a window only'],
    [
      { rope_parameters: { rope_theta: 5e5 } },
      'rope_parameters has neither full_attention nor sliding_attention',
    ],
  ])('refuses %j', (more, message) => {
    expect(() => olmo('olmo3', more)).toThrow(message)
  })
})

describe('a Gemma', () => {
  const gemma = (more: object = {}) => graphOf({ model_type: 'gemma', ...shapes, ...more })

  it('has two norms a block, with 1 + weight, and a scaled embedding, to which its head is tied', () => {
    const norms = nodesOf(gemma(), 'rms_norm')
    expect(norms.map(({ offset }) => offset)).toEqual(Array(2 * shapes.num_hidden_layers + 1).fill(1))
    expect(nodesOf(gemma(), 'embedding')[0]?.scale).toBe(Math.sqrt(shapes.hidden_size))
    expect(nodesOf(gemma(), 'lm_head')[0]?.weight).toBe('model.embed_tokens.weight')
    expect(nodesOf(gemma(), 'attention')[0]).toMatchObject({ headDim: 256, scale: 1 / 16 })
  })

  it('means the approximation by the gelu of its first configs', () => {
    expect(gemma({ hidden_act: 'gelu' })).toEqual(gemma())
    expect(nodesOf(gemma(), 'gated_unit').map((node) => node.function)).toEqual(Array(4).fill('gelu'))
    expect(() => gemma({ hidden_act: 'gelu_new' })).toThrow('hidden_act is "gelu_new"; supported:')
  })

  it('is refused if its attention looks ahead', () => {
    expect(() => gemma({ use_bidirectional_attention: true })).toThrow(
      'use_bidirectional_attention is true, which is not supported',
    )
  })
})

describe('a Gemma 3', () => {
  const gemma = (more: object = {}) => graphOf({ model_type: 'gemma3_text', ...shapes, ...more })

  it('has four norms a block and two of queries and keys, all with 1 + weight', () => {
    const norms = nodesOf(gemma(), 'rms_norm')
    expect(norms.every(({ offset }) => offset === 1)).toBe(true)
    expect(norms.flatMap(({ path, segment }) => (segment === 0 ? [path.split('.').at(-1)] : []))).toEqual([
      'input_layernorm',
      'q_norm',
      'k_norm',
      'post_attention_layernorm',
      'pre_feedforward_layernorm',
      'post_feedforward_layernorm',
    ])
    expect(nodesOf(gemma(), 'gated_unit').map((node) => node.function)).toEqual(Array(4).fill('gelu'))
  })

  it('multiplies its embedding, not the head that is tied to it', () => {
    const graph = gemma()
    expect(nodesOf(graph, 'embedding')[0]?.scale).toBe(Math.sqrt(shapes.hidden_size))
    expect(nodesOf(graph, 'lm_head')[0]?.weight).toBe('model.embed_tokens.weight')
  })

  it('takes the scale of its scores from query_pre_attn_scalar', () => {
    const scale = (more: object) => nodesOf(gemma(more), 'attention')[0]?.scale
    expect(scale({})).toBe(1 / 16)
    expect(scale({ query_pre_attn_scalar: 168 })).toBe(1 / Math.sqrt(168))
  })

  it('has windows and a base of the frequencies of their own in five of six layers, or as layer_types has it', () => {
    const graph = gemma({
      num_hidden_layers: 7,
      sliding_window: 6,
      rope_local_base_freq: 300,
      rope_theta: 2e4,
    })
    expect(windowsOf(graph)).toEqual([6, 6, 6, 6, 6, undefined, 6])
    expect(tablesOf(graph)).toEqual([1, 1, 1, 1, 1, 0, 1])
    const base = (table: number) => {
      const { invFreq } = graph.ropes[table] as Graph['ropes'][number]
      return (invFreq[1] as number) ** -invFreq.length
    }
    expect([base(0), base(1)]).toEqual([expect.closeTo(2e4, 6), expect.closeTo(300, 6)])
    const layer_types = ['full', 'sliding', 'sliding', 'full'].map((type) => `${type}_attention`)
    expect(windowsOf(gemma({ layer_types, sliding_window_pattern: 3 }))).toEqual([
      undefined,
      4096,
      4096,
      undefined,
    ])
  })

  it('is the same graph in both spellings of its rotary embedding', () => {
    const older = {
      rope_theta: 5e4,
      rope_local_base_freq: 200,
      rope_scaling: { rope_type: 'linear', factor: 8 },
    }
    const rope_parameters = {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 5e4 },
      sliding_attention: { rope_type: 'default', rope_theta: 200 },
    }
    expect(gemma({ rope_parameters })).toEqual(gemma(older))
  })

  it.each([
    [{ attn_logit_softcapping: 50 }, 'attn_logit_softcapping is 50, which is not supported'],
    [{ use_bidirectional_attention: true }, 'use_bidirectional_attention is true, which is not supported'],
    [{ hidden_activation: 'gelu' }, 'hidden_activation is "gelu"'],
    [
      { rope_parameters: { rope_theta: 5e5 } },
      'rope_parameters has neither full_attention nor sliding_attention',
    ],
  ])('refuses %j', (more, message) => {
    expect(() => gemma(more)).toThrow(message)
  })
})

/** For each layer the rotation of its queries. */
function tablesOf(graph: Graph): number[] {
  return nodesOf(graph, 'rope').flatMap(({ path, table = 0 }) => (path.endsWith('q_rope') ? [table] : []))
}

/** Layers that rotate their queries and keys. */
function rotatedLayers(graph: Graph): number[] {
  return nodesOf(graph, 'rope').flatMap(({ path, segment }) => (path.endsWith('q_rope') ? [segment] : []))
}

describe('a SmolLM3', () => {
  const smollm3 = (more: object) =>
    graphOf({ model_type: 'smollm3', ...shapes, num_hidden_layers: 8, ...more })

  it('does not rotate every fourth layer, or those with a 0 in no_rope_layers', () => {
    expect(rotatedLayers(smollm3({}))).toEqual([0, 1, 2, 4, 5, 6])
    expect(rotatedLayers(smollm3({ no_rope_layer_interval: 3 }))).toEqual([0, 1, 3, 4, 6, 7])
    expect(rotatedLayers(smollm3({ no_rope_layers: [1, 0, 0, 0, 0, 0, 0, 1] }))).toEqual([0, 7])
  })

  it('has a theta of 2e6 and a tied head where its config is silent', () => {
    const graph = smollm3({})
    expect(graph.ropes[0]?.invFreq[1]).toBeCloseTo(2e6 ** (-2 / 16), 12)
    expect(graph.weights.some(({ name }) => name === 'lm_head.weight')).toBe(false)
  })

  it('has windows in the layers that do not rotate, if they are turned on', () => {
    const windows = { sliding_window: 8, num_hidden_layers: 4 }
    expect(windowsOf(smollm3(windows))).toEqual(none)
    expect(windowsOf(smollm3({ ...windows, use_sliding_window: true }))).toEqual([...none.slice(1), 8])
    const layer_types = ['sliding_attention', 'full_attention', 'full_attention', 'full_attention']
    expect(windowsOf(smollm3({ ...windows, use_sliding_window: true, layer_types }))).toEqual([
      8,
      ...none.slice(1),
    ])
  })

  it.each([[[1, 0]], [[1, 1, 1, 2, 1, 1, 1, 1]]])('refuses no_rope_layers of %j', (no_rope_layers) => {
    expect(() => smollm3({ no_rope_layers })).toThrow(ConfigError)
    expect(() => smollm3({ no_rope_layers })).toThrow('expected a 0 or a 1 for each of the 8 layers')
  })
})

describe('a Ministral 3', () => {
  const rope = {
    rope_type: 'yarn',
    rope_theta: 1e6,
    factor: 16,
    original_max_position_embeddings: 32,
    mscale: 1,
    mscale_all_dim: 1,
    llama_4_scaling_beta: 0.1,
  }
  const ministral3 = (more: object) =>
    graphOf({ model_type: 'ministral3', ...shapes, head_dim: 32, rope_parameters: rope, ...more })
  const ropeWith = (more: object) => ({ rope_parameters: { ...rope, ...more } })

  it('lets its queries grow, and not its keys', () => {
    const graph = ministral3({})
    const [keys, queries] = graph.ropes
    expect(queries).toEqual({ ...keys, growth: { rate: 0.1, every: 32 } })
    expect(keys?.attentionFactor).toBe(1)
    const tables = nodesOf(graph, 'rope').map(({ path, table }) => [path.slice(-6), table ?? 0])
    expect(tables.slice(0, 2)).toEqual([
      ['q_rope', 1],
      ['k_rope', 0],
    ])
    expect(ministral3(ropeWith({ llama_4_scaling_beta: 0 })).ropes).toEqual([keys])
  })

  it('requires a number for the growth, and the context that it begins after', () => {
    expect(() => ministral3(ropeWith({ llama_4_scaling_beta: null }))).toThrow(
      'llama_4_scaling_beta of rope_parameters is null; models of type "ministral3" require a number from 0',
    )
    expect(() => ministral3(ropeWith({ original_max_position_embeddings: undefined }))).toThrow(
      'original_max_position_embeddings is missing',
    )
  })

  it('has the defaults of transformers where its config is silent', () => {
    const graph = graphOf({ model_type: 'ministral3' })
    expect(graph.layers).toBe(34)
    expect(graph.ropes[1]?.growth).toEqual({ rate: 0.1, every: 16384 })
    expect(graph.ropes[0]?.invFreq).toHaveLength(64)
    expect(windowsOf(graph)).toEqual(Array.from({ length: 34 }, () => undefined))
  })

  it('has a window in all layers where its config has one, and no biases', () => {
    expect(windowsOf(ministral3({ sliding_window: 8 }))).toEqual([8, 8, 8, 8])
    expect(biasesOf(ministral3({ attention_bias: true }))).toEqual([])
  })
})

describe('a Phi-3', () => {
  const longrope = {
    rope_type: 'longrope',
    rope_theta: 1e4,
    partial_rotary_factor: 0.75,
    short_factor: [1, 1, 2, 2, 3, 3],
    long_factor: [2, 2, 4, 4, 9, 9],
  }
  const context = { max_position_embeddings: 4096, original_max_position_embeddings: 64 }
  const phi3 = (more: object) =>
    graphOf({ model_type: 'phi3', ...shapes, ...context, rope_parameters: longrope, ...more })

  it('has one linear for queries, keys, and values, and one for gate and up', () => {
    const sizes = phi3({}).weights.flatMap(({ name, rows, cols }) => {
      const [, inner] = /^model\.layers\.0\.(.*_proj)\.weight$/.exec(name) ?? []
      return inner === undefined ? [] : [[inner, rows, cols]]
    })
    expect(sizes).toEqual([
      ['self_attn.qkv_proj', 128, 64],
      ['self_attn.o_proj', 64, 64],
      ['mlp.gate_up_proj', 192, 64],
      ['mlp.down_proj', 64, 96],
    ])
  })

  it('rotates the first columns of heads, in long texts by other frequencies', () => {
    const [rope] = phi3({}).ropes
    expect(rope?.invFreq).toHaveLength(6)
    expect(rope?.long?.above).toBe(64)
    expect(rope?.invFreq[2]).toBeCloseTo(1e4 ** (-4 / 12) / 2, 12)
    expect(rope?.long?.invFreq[2]).toBeCloseTo(1e4 ** (-4 / 12) / 4, 12)
    expect(rope?.attentionFactor).toBeCloseTo(Math.sqrt(1 + Math.log(64) / Math.log(64)), 12)
  })

  it('has 4096 tokens of original context where its config does not say, even if its scaling does', () => {
    const rope_parameters = { ...longrope, original_max_position_embeddings: 64 }
    const { ropes } = phi3({ original_max_position_embeddings: undefined, rope_parameters })
    expect(ropes[0]?.long?.above).toBe(4096)
  })

  it.each(['longrope', 'su', 'yarn'])('is the same graph in the older spelling: %s', (type) => {
    const { rope_type: _, rope_theta, partial_rotary_factor, ...scaling } = longrope
    const older = { rope_theta, partial_rotary_factor, rope_scaling: { type, ...scaling } }
    expect(phi3({ rope_parameters: undefined, ...older })).toEqual(phi3({}))
  })

  it.each([
    [
      { rope_parameters: { ...longrope, rope_type: 'linear', factor: 2 } },
      'RoPE scaling "linear" is not supported. Supported: default, longrope.',
    ],
    [
      { rope_parameters: { ...longrope, long_factor: [1, 2] } },
      'long_factor is [1,2]; expected 6 numbers above zero',
    ],
    [
      { rope_parameters: { ...longrope, partial_rotary_factor: 0.7 } },
      'partial_rotary_factor is 0.7; expected',
    ],
  ])('is refused by name: %j', (more, message) => {
    expect(() => phi3(more)).toThrow(message)
  })
})

describe('an LFM2', () => {
  const lfm2 = (more: object) =>
    graphOf({ model_type: 'lfm2', ...shapes, block_auto_adjust_ff_dim: false, ...more })
  const mixed = { layer_types: ['conv', 'full_attention', 'conv', 'conv'] }
  const widthOf = (more: object) =>
    lfm2(more).weights.find(({ name }) => name === 'model.layers.0.feed_forward.w1.weight')?.rows

  it('has convolutions and attention where its config has them', () => {
    const layers = (graph: Graph) =>
      graph.nodes.flatMap((node) =>
        node.op === 'short_conv' || node.op === 'attention' ? [[node.op, node.segment]] : [],
      )
    const expected = [
      ['short_conv', 0],
      ['attention', 1],
      ['short_conv', 2],
      ['short_conv', 3],
    ]
    expect(layers(lfm2(mixed))).toEqual(expected)
    expect(layers(lfm2({ full_attn_idxs: [1] }))).toEqual(expected)
    expect(layers(lfm2({})).every(([op]) => op === 'attention')).toBe(true)
  })

  it('has its linears, kernels, and norms under the names of transformers', () => {
    const names = (layer: number) =>
      lfm2(mixed).weights.flatMap(({ name, rows, cols, shape }) => {
        const [, inner] = new RegExp(`^model\\.layers\\.${layer}\\.(.*)\\.weight$`).exec(name) ?? []
        return inner === undefined ? [] : [[inner, ...(shape ?? [rows, cols])]]
      })
    const mlp = [
      ['ffn_norm', 1, 64],
      ['feed_forward.w1', 96, 64],
      ['feed_forward.w3', 96, 64],
      ['feed_forward.w2', 64, 96],
    ]
    expect(names(0)).toEqual([
      ['operator_norm', 1, 64],
      ['conv.in_proj', 192, 64],
      ['conv.conv', 64, 1, 3],
      ['conv.out_proj', 64, 64],
      ...mlp,
    ])
    expect(names(1)).toEqual([
      ['operator_norm', 1, 64],
      ['self_attn.q_proj', 64, 64],
      ['self_attn.q_layernorm', 1, 16],
      ['self_attn.k_proj', 32, 64],
      ['self_attn.k_layernorm', 1, 16],
      ['self_attn.v_proj', 32, 64],
      ['self_attn.out_proj', 64, 64],
      ...mlp,
    ])
    expect(lfm2({}).weights.at(-1)?.name).toBe('model.embedding_norm.weight')
    expect(lfm2({ tie_embedding: false }).weights.at(-1)?.name).toBe('lm_head.weight')
    expect(biasesOf(lfm2({ ...mixed, conv_bias: true }))).toEqual([
      'conv.in_proj',
      'conv.conv',
      'conv.out_proj',
    ])
  })

  it('adjusts the width of its MLP as transformers does', () => {
    const adjusted = { block_auto_adjust_ff_dim: true, block_multiple_of: 10 }
    expect(widthOf({ block_ff_dim: 50 })).toBe(50)
    expect(widthOf({ ...adjusted, intermediate_size: 100 })).toBe(70)
    expect(widthOf({ ...adjusted, block_ffn_dim_multiplier: 1.3 })).toBe(90)
    expect(widthOf({ ...adjusted, block_ffn_dim_multiplier: null })).toBe(64)
    expect(widthOf({ block_auto_adjust_ff_dim: true })).toBe(256)
  })

  it.each([
    [{ layer_types: ['conv'] }, 'layer_types has 1 entries, but num_hidden_layers is 4'],
    [
      { layer_types: ['conv', 'conv', 'mamba', 'conv'] },
      "layer_types[2] is \"mamba\"; supported: 'conv' and 'full_attention'",
    ],
    [{ conv_L_cache: 33 }, 'conv_L_cache is 33, expected an integer from 1 to 32'],
    [{ norm_eps: 0 }, 'norm_eps is 0, expected a number above zero'],
  ])('is refused by name: %j', (more, message) => {
    expect(() => lfm2(more)).toThrow(message)
  })
})

describe('a Qwen3.5', () => {
  const qwen = (more: object = {}) =>
    graphOf({ model_type: 'qwen3_5_text', ...shapes, head_dim: 16, ...more })
  const small = {
    linear_num_key_heads: 2,
    linear_num_value_heads: 4,
    linear_key_head_dim: 8,
    linear_value_head_dim: 12,
  }

  it('has attention in the last layer of each interval, and delta rules elsewhere', () => {
    const layers = (graph: Graph) =>
      graph.nodes.flatMap((node) =>
        node.op === 'gated_delta_rule' || node.op === 'attention' ? [[node.op, node.segment]] : [],
      )
    const expected = [
      ['gated_delta_rule', 0],
      ['attention', 1],
      ['gated_delta_rule', 2],
      ['attention', 3],
    ]
    expect(layers(qwen({ full_attention_interval: 2 }))).toEqual(expected)
    const types = ['linear_attention', 'full_attention']
    expect(layers(qwen({ layer_types: [...types, ...types] }))).toEqual(expected)
    expect(layers(qwen()).map(([op]) => op)).toEqual([
      ...Array.from({ length: 3 }, () => 'gated_delta_rule'),
      'attention',
    ])
  })

  it('has its linears, kernels, and norms under the names of transformers', () => {
    const names = (layer: number) =>
      qwen(small).weights.flatMap(({ name, rows, cols, shape }) => {
        const [, inner] = new RegExp(`^model\\.layers\\.${layer}\\.(.*)$`).exec(name) ?? []
        return inner === undefined ? [] : [[inner, ...(shape ?? [rows, cols])]]
      })
    const mlp = [
      ['post_attention_layernorm.weight', 1, 64],
      ['mlp.gate_proj.weight', 96, 64],
      ['mlp.up_proj.weight', 96, 64],
      ['mlp.down_proj.weight', 64, 96],
    ]
    expect(names(0)).toEqual([
      ['input_layernorm.weight', 1, 64],
      ['linear_attn.in_proj_qkv.weight', 80, 64],
      ['linear_attn.in_proj_z.weight', 48, 64],
      ['linear_attn.in_proj_b.weight', 4, 64],
      ['linear_attn.in_proj_a.weight', 4, 64],
      ['linear_attn.conv1d.weight', 80, 1, 4],
      ['linear_attn.A_log', 1, 4],
      ['linear_attn.dt_bias', 1, 4],
      ['linear_attn.norm.weight', 1, 12],
      ['linear_attn.out_proj.weight', 64, 48],
      ...mlp,
    ])
    expect(names(3).slice(0, 4)).toEqual([
      ['input_layernorm.weight', 1, 64],
      ['self_attn.q_proj.weight', 128, 64],
      ['self_attn.q_norm.weight', 1, 16],
      ['self_attn.k_proj.weight', 32, 64],
    ])
    expect(biasesOf(qwen({ ...small, attention_bias: true, full_attention_interval: 1 }))).toHaveLength(4)
  })

  it('rotates a quarter of each head, at one position for time, height, and width', () => {
    const frequencies = (more: object) => qwen(more).ropes.map(({ invFreq }) => invFreq)
    expect(frequencies({})).toEqual([[1, 0.01]])
    const rope = { rope_type: 'default', rope_theta: 1e4, mrope_section: [1, 1, 0], mrope_interleaved: true }
    expect(frequencies({ rope_parameters: rope })).toEqual([[1, 0.01]])
    expect(frequencies({ rope_parameters: { ...rope, partial_rotary_factor: 0.5 } })[0]).toHaveLength(4)
  })

  it('adds 1 to the weights of its norms, except those of the delta rules', () => {
    const offsets = qwen(small).nodes.flatMap((node) =>
      node.op === 'rms_norm' ? [[node.path.includes('linear_attn'), node.offset ?? 0]] : [],
    )
    expect(offsets.every(([isRule, offset]) => offset === (isRule ? 0 : 1))).toBe(true)
    expect(offsets.some(([isRule]) => isRule)).toBe(true)
  })

  it.each([
    [{ layer_types: ['full_attention'] }, 'layer_types has 1 entries, but num_hidden_layers is 4'],
    [
      { layer_types: ['linear_attention', 'mamba', 'full_attention', 'full_attention'] },
      "layer_types[1] is \"mamba\"; supported: 'linear_attention' and 'full_attention'",
    ],
    [
      { linear_num_key_heads: 3 },
      'linear_num_value_heads is 32, which is not a multiple of linear_num_key_heads 3',
    ],
    [{ linear_conv_kernel_dim: 33 }, 'linear_conv_kernel_dim is 33, expected an integer from 1 to 32'],
    [{ hidden_act: 'gelu' }, 'hidden_act is "gelu"'],
    [{ hidden_act: 'relu2' }, 'hidden_act is "relu2"; models of type qwen3_5_text require "silu"'],
  ])('is refused by name: %j', (more, message) => {
    expect(() => qwen(more)).toThrow(message)
  })
})

describe('any family', () => {
  it('is read if its config asks for dropout in training', () => {
    const dropping = { model_type: 'llama', ...shapes, attention_dropout: 0.1 }
    expect(graphOf(dropping)).toEqual(graphOf({ model_type: 'llama', ...shapes }))
  })

  it('is refused with those that are known if it is not', () => {
    expect(() => graphOf({ model_type: 'gpt_bigcode', ...shapes })).toThrow(
      'model_type is "gpt_bigcode", which is not supported. Supported: gemma, gemma3_text, granite, granitemoehybrid, lfm2, llama, ministral3, mistral, olmo2, olmo3, phi3, qwen2, qwen3, qwen3_5_text, smollm3.',
    )
  })

  it.each([
    'llama',
    'mistral',
    'qwen2',
    'qwen3',
    'smollm3',
    'granite',
    'olmo2',
    'olmo3',
    'ministral3',
    'phi3',
  ])('takes its activation from its config, and refuses an unknown one: %s', (model_type) => {
    const functions = (hidden_act: string) =>
      nodesOf(graphOf({ model_type, ...shapes, hidden_act }), 'gated_unit').map((node) => node.function)
    expect(new Set(functions('relu2'))).toEqual(new Set(['relu2']))
    expect(new Set(functions('gelu_pytorch_tanh'))).toEqual(new Set(['gelu']))
    expect(() => functions('gelu')).toThrow(UnsupportedError)
    expect(() => functions('gelu')).toThrow(
      'config.json: hidden_act is "gelu"; supported: "silu", "gelu_pytorch_tanh", "relu2".',
    )
  })
})
