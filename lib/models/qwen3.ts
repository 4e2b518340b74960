/**
 * Qwen3, dense: the plain decoder with per-head norms of queries and keys, and a head size independent of the hidden
 * size. Windows are off unless the config enables them, as in Qwen2.
 */
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { refuseWindow } from '../formats/gguf-reading.js'
import type { Graph } from '../graph/graph.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { windowsByFlag } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: attentionBiases,
  queryKeyNorm: 'head',
  windows: windowsByFlag,
}

/** transformers' defaults for missing keys. */
const DEFAULTS = { head_dim: 128, num_key_value_heads: 32 }

function qwen3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'qwen3',
  models: 'Qwen3',
  names: USUAL_NAMES,
  lacks: /\.bias$/,
  config(keys) {
    refuseWindow(keys)
    return { architectures: ['Qwen3ForCausalLM'], model_type: 'qwen3', use_sliding_window: false }
  },
}

/**
 * For training: ChatML with tools as JSON and reasoning in `<think>`. The model's own template renders the reasoning of the
 * turns after the last question only; here every turn of the assistant has its block, empty where there is none.
 */
const TEMPLATE = String.raw`
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' }}
    {{- '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n' }}
    {{- '</tool_call><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content or '' %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = message.reasoning_content or '' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
            {{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- for call in message.tool_calls or [] %}
                {{- '\n' if content or not loop.first }}
                {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
                {{- (call.function.arguments | tojson) + '}\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {{- '<|im_end|>\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}
    {%- elif message.role == 'user' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
`.trim()

export const qwen3: Family = {
  types: {
    qwen3: {
      graph: qwen3Graph,
      architecture: 'Qwen3ForCausalLM',
      models: 'Qwen3, dense (0.6B to 32B)',
      notes:
        'queries and keys normalized per head; windows as in Qwen2; mixtures of experts are not supported',
      shapes: {
        'Qwen3-0.6B': [1024, 3072, 28, 16, 8, 151936, { tied: true, head_dim: 128 }],
        'Qwen3-1.7B': [2048, 6144, 28, 16, 8, 151936, { tied: true, head_dim: 128 }],
        'Qwen3-4B': [2560, 9728, 36, 32, 8, 151936, { tied: true, head_dim: 128 }],
        'Qwen3-8B': [4096, 12288, 36, 32, 8, 151936, { head_dim: 128 }],
        'Qwen3-14B': [5120, 17408, 40, 40, 8, 151936, { head_dim: 128 }],
        'Qwen3-32B': [5120, 25600, 64, 64, 8, 151936, { head_dim: 128 }],
      },
    },
  },
  gguf,
  templates: [{ family: 'Qwen3', source: TEMPLATE, needs: ['<|im_start|>', '<think>', 'reasoning_content'] }],
}
