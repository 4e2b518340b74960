/** Llama 2 and 3.x, SmolLM2, TinyLlama, Mistral: the plain decoder, with biases or a window if the config has them. */
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { biasesOf, QUERY_KEY_NORMS, windowOf } from '../formats/gguf-reading.js'
import { rotaryPairs } from '../formats/gguf-stored.js'
import type { Graph } from '../graph/graph.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { everyLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 2048,
  bias: biasesByFlag,
  windows: (_read, layers) => everyLayer(layers, undefined),
}

function llamaGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, traits, ropeFactors))
}

const mistralTraits: DecoderTraits = {
  positions: 131072,
  bias: biasesByFlag,
  // An absent key means 4096, as in transformers; null means no window.
  windows: (read, layers) => everyLayer(layers, read.optionalSize('sliding_window', 4096)),
}

function mistralGraph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder(config, mistralTraits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'llama',
  models: 'Llama, Mistral, SmolLM2, TinyLlama',
  names: USUAL_NAMES,
  lacks: QUERY_KEY_NORMS,
  config(keys, names) {
    const biases = biasesOf(names)
    const window = windowOf(keys)
    if (window === undefined) return { architectures: ['LlamaForCausalLM'], model_type: 'llama', ...biases }
    // Mistral's files have this architecture, too; only a window distinguishes them.
    return {
      architectures: ['MistralForCausalLM'],
      model_type: 'mistral',
      ...biases,
      sliding_window: window,
    }
  },
  stored: rotaryPairs,
}

/** In use, the system prompt stands in the last question; in a chat that ends with an answer, it would be left out. */
const systemInLastQuestion: TemplateConvention = {
  family: 'Mistral',
  needs: ['[INST]', '[AVAILABLE_TOOLS]', 'loop.last and system_message is defined'],
  adapt: ({ messages, options }) => ({ messages: withSystemInLastQuestion(messages), options }),
}

function withSystemInLastQuestion(messages: readonly TemplateMessage[]): readonly TemplateMessage[] {
  const [system, ...rest] = messages
  const last = rest.findLastIndex(({ role }) => role === 'user')
  const question = rest[last]
  if (system?.role !== 'system' || question === undefined || last === rest.length - 1) return messages
  return rest.with(last, { ...question, content: `${system.content}\n\n${question.content}` })
}

export const llama: Family = {
  types: {
    llama: {
      graph: llamaGraph,
      architecture: 'LlamaForCausalLM',
      models: 'Llama 2, Llama 3.x, SmolLM2, TinyLlama, and others of the same shape',
      shapes: {
        'SmolLM2-135M': [576, 1536, 30, 9, 3, 49152, { tied: true }],
        'SmolLM2-360M': [960, 2560, 32, 15, 5, 49152, { tied: true }],
        'SmolLM2-1.7B': [2048, 8192, 24, 32, 32, 49152, { tied: true }],
        'TinyLlama-1.1B': [2048, 5632, 22, 32, 4, 32000],
        'Llama-2-7B': [4096, 11008, 32, 32, 32, 32000],
        'Llama-2-13B': [5120, 13824, 40, 40, 40, 32000],
        'Llama-3.2-1B': [2048, 8192, 16, 32, 8, 128256, { tied: true }],
        'Llama-3.2-3B': [3072, 8192, 28, 24, 8, 128256, { tied: true }],
        'Llama-3.1-8B': [4096, 14336, 32, 32, 8, 128256],
        'Llama-3.1-70B': [8192, 28672, 80, 64, 8, 128256],
        'Llama-3.1-405B': [16384, 53248, 126, 128, 8, 128256],
      },
    },
    mistral: {
      graph: mistralGraph,
      architecture: 'MistralForCausalLM',
      models: 'Mistral',
      notes: 'with its attention window',
      shapes: {
        'Mistral-7B-v0.3': [4096, 14336, 32, 32, 8, 32768, { sliding_window: null }],
        'Mistral-Nemo-12B': [5120, 14336, 40, 32, 8, 131072, { head_dim: 128, sliding_window: null }],
        'Mistral-Small-24B': [5120, 32768, 40, 32, 8, 131072, { head_dim: 128, sliding_window: null }],
      },
    },
  },
  gguf,
  templates: [systemInLastQuestion],
}
