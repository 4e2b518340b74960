/** Shapes of well-known models: the parts of their config.json that determine training memory. */

type Family =
  | 'llama'
  | 'mistral'
  | 'qwen2'
  | 'qwen3'
  | 'smollm3'
  | 'granite'
  | 'granitemoehybrid'
  | 'olmo2'
  | 'olmo3'
  | 'gemma3_text'
  | 'ministral3'
  | 'phi3'
  | 'lfm2'
  | 'qwen3_5_text'
type Row = readonly [
  name: string,
  family: Family,
  hidden: number,
  intermediate: number,
  layers: number,
  heads: number,
  kvHeads: number,
  vocabulary: number,
  rest?: {
    tied?: true
    headDim?: number
    /** Layers with attention, if not all. */
    attentions?: number[]
    /** Value heads of gated delta rules. */
    valueHeads?: number
  },
]

const ROWS: readonly Row[] = [
  ['SmolLM2-135M', 'llama', 576, 1536, 30, 9, 3, 49152, { tied: true }],
  ['SmolLM2-360M', 'llama', 960, 2560, 32, 15, 5, 49152, { tied: true }],
  ['SmolLM2-1.7B', 'llama', 2048, 8192, 24, 32, 32, 49152, { tied: true }],
  ['SmolLM3-3B', 'smollm3', 2048, 11008, 36, 16, 4, 128256, { tied: true }],
  ['Granite-3.3-2B', 'granite', 2048, 8192, 40, 32, 8, 49159, { tied: true }],
  ['Granite-3.3-8B', 'granite', 4096, 12800, 40, 32, 8, 49159, { tied: true }],
  ['Granite-4.0-350M', 'granitemoehybrid', 1024, 2048, 28, 16, 4, 100352, { tied: true }],
  ['Granite-4.0-1B', 'granitemoehybrid', 2048, 4096, 40, 16, 4, 100352, { tied: true }],
  ['Granite-4.0-Micro', 'granitemoehybrid', 2560, 8192, 40, 40, 8, 100352, { tied: true }],
  ['Ministral-3-3B', 'ministral3', 3072, 9216, 26, 32, 8, 131072, { tied: true, headDim: 128 }],
  ['Ministral-3-8B', 'ministral3', 4096, 14336, 34, 32, 8, 131072, { headDim: 128 }],
  ['Ministral-3-14B', 'ministral3', 5120, 16384, 40, 32, 8, 131072, { headDim: 128 }],
  ['Phi-4-mini', 'phi3', 3072, 8192, 32, 24, 8, 200064, { tied: true }],
  ['Gemma-3-270M', 'gemma3_text', 640, 2048, 18, 4, 1, 262144, { tied: true, headDim: 256 }],
  ['Gemma-3-1B', 'gemma3_text', 1152, 6912, 26, 4, 1, 262144, { tied: true, headDim: 256 }],
  ['Gemma-3-4B', 'gemma3_text', 2560, 10240, 34, 8, 4, 262208, { tied: true, headDim: 256 }],
  ['Gemma-3-12B', 'gemma3_text', 3840, 15360, 48, 16, 8, 262208, { tied: true, headDim: 256 }],
  ['Gemma-3-27B', 'gemma3_text', 5376, 21504, 62, 32, 16, 262208, { tied: true, headDim: 128 }],
  ['LFM2-350M', 'lfm2', 1024, 4608, 16, 16, 8, 65536, { tied: true, attentions: [2, 5, 8, 10, 12, 14] }],
  ['LFM2-700M', 'lfm2', 1536, 6912, 16, 24, 8, 65536, { tied: true, attentions: [2, 5, 8, 10, 12, 14] }],
  ['LFM2-1.2B', 'lfm2', 2048, 8192, 16, 32, 8, 65536, { tied: true, attentions: [2, 5, 8, 10, 12, 14] }],
  [
    'LFM2-2.6B',
    'lfm2',
    ...([2048, 10752, 30, 32, 8, 65536] as const),
    { tied: true, attentions: [2, 5, 9, 13, 17, 21, 24, 27] },
  ],
  ['Qwen3.5-0.8B', 'qwen3_5_text', 1024, 3584, 24, 8, 2, 248320, { tied: true, valueHeads: 16 }],
  ['Qwen3.5-2B', 'qwen3_5_text', 2048, 6144, 24, 8, 2, 248320, { tied: true, valueHeads: 16 }],
  ['Qwen3.5-4B', 'qwen3_5_text', 2560, 9216, 32, 16, 4, 248320, { tied: true, valueHeads: 32 }],
  ['Qwen3.5-9B', 'qwen3_5_text', 4096, 12288, 32, 16, 4, 248320, { valueHeads: 32 }],
  ['Qwen3.5-27B', 'qwen3_5_text', 5120, 17408, 64, 24, 4, 248320, { valueHeads: 48 }],
  ['OLMo-2-1B', 'olmo2', 2048, 8192, 16, 16, 16, 100352],
  ['OLMo-2-7B', 'olmo2', 4096, 11008, 32, 32, 32, 100352],
  ['OLMo-2-13B', 'olmo2', 5120, 13824, 40, 40, 40, 100352],
  ['OLMo-2-32B', 'olmo2', 5120, 27648, 64, 40, 8, 100352],
  ['OLMo-3-7B', 'olmo3', 4096, 11008, 32, 32, 32, 100278],
  ['OLMo-3-32B', 'olmo3', 5120, 27648, 64, 40, 8, 100278],
  ['TinyLlama-1.1B', 'llama', 2048, 5632, 22, 32, 4, 32000],
  ['Llama-2-7B', 'llama', 4096, 11008, 32, 32, 32, 32000],
  ['Llama-2-13B', 'llama', 5120, 13824, 40, 40, 40, 32000],
  ['Llama-3.2-1B', 'llama', 2048, 8192, 16, 32, 8, 128256, { tied: true }],
  ['Llama-3.2-3B', 'llama', 3072, 8192, 28, 24, 8, 128256, { tied: true }],
  ['Llama-3.1-8B', 'llama', 4096, 14336, 32, 32, 8, 128256],
  ['Llama-3.1-70B', 'llama', 8192, 28672, 80, 64, 8, 128256],
  ['Llama-3.1-405B', 'llama', 16384, 53248, 126, 128, 8, 128256],
  ['Mistral-7B-v0.3', 'mistral', 4096, 14336, 32, 32, 8, 32768],
  ['Mistral-Nemo-12B', 'mistral', 5120, 14336, 40, 32, 8, 131072, { headDim: 128 }],
  ['Mistral-Small-24B', 'mistral', 5120, 32768, 40, 32, 8, 131072, { headDim: 128 }],
  ['Qwen2.5-0.5B', 'qwen2', 896, 4864, 24, 14, 2, 151936, { tied: true }],
  ['Qwen2.5-1.5B', 'qwen2', 1536, 8960, 28, 12, 2, 151936, { tied: true }],
  ['Qwen2.5-3B', 'qwen2', 2048, 11008, 36, 16, 2, 151936, { tied: true }],
  ['Qwen2.5-7B', 'qwen2', 3584, 18944, 28, 28, 4, 152064],
  ['Qwen2.5-14B', 'qwen2', 5120, 13824, 48, 40, 8, 152064],
  ['Qwen2.5-32B', 'qwen2', 5120, 27648, 64, 40, 8, 152064],
  ['Qwen2.5-72B', 'qwen2', 8192, 29568, 80, 64, 8, 152064],
  ['Qwen3-0.6B', 'qwen3', 1024, 3072, 28, 16, 8, 151936, { tied: true, headDim: 128 }],
  ['Qwen3-1.7B', 'qwen3', 2048, 6144, 28, 16, 8, 151936, { tied: true, headDim: 128 }],
  ['Qwen3-4B', 'qwen3', 2560, 9728, 36, 32, 8, 151936, { tied: true, headDim: 128 }],
  ['Qwen3-8B', 'qwen3', 4096, 12288, 36, 32, 8, 151936, { headDim: 128 }],
  ['Qwen3-14B', 'qwen3', 5120, 17408, 40, 40, 8, 151936, { headDim: 128 }],
  ['Qwen3-32B', 'qwen3', 5120, 25600, 64, 64, 8, 151936, { headDim: 128 }],
]

const ARCHITECTURES: Readonly<Record<Family, string>> = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
  smollm3: 'SmolLM3ForCausalLM',
  granite: 'GraniteForCausalLM',
  granitemoehybrid: 'GraniteMoeHybridForCausalLM',
  ministral3: 'Ministral3ForCausalLM',
  phi3: 'Phi3ForCausalLM',
  olmo2: 'Olmo2ForCausalLM',
  olmo3: 'Olmo3ForCausalLM',
  gemma3_text: 'Gemma3ForCausalLM',
  lfm2: 'Lfm2ForCausalLM',
  qwen3_5_text: 'Qwen3_5ForCausalLM',
}

/** The keys of dense Granite 4 models. */
const granite4 = (intermediate: number, layers: number) => ({
  shared_intermediate_size: intermediate,
  num_local_experts: 0,
  layer_types: Array.from({ length: layers }, () => 'attention'),
  position_embedding_type: 'rope',
})

/** A config.json by model name, ordered by family. */
export const SHAPES: ReadonlyMap<string, Readonly<Record<string, unknown>>> = new Map(
  ROWS.map(([name, family, hidden, intermediate, layers, heads, kvHeads, vocabulary, rest = {}]) => [
    name,
    {
      architectures: [ARCHITECTURES[family]],
      model_type: family,
      hidden_size: hidden,
      intermediate_size: intermediate,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      vocab_size: vocabulary,
      tie_word_embeddings: rest.tied ?? false,
      ...(rest.headDim === undefined ? {} : { head_dim: rest.headDim }),
      ...(rest.attentions && { full_attn_idxs: rest.attentions, block_auto_adjust_ff_dim: false }),
      ...(rest.valueHeads && { linear_num_key_heads: 16, linear_num_value_heads: rest.valueHeads }),
      ...(family === 'mistral' ? { sliding_window: null } : {}),
      ...(family === 'granitemoehybrid' ? granite4(intermediate, layers) : {}),
      max_position_embeddings: 8192,
      torch_dtype: 'bfloat16',
    },
  ]),
)
