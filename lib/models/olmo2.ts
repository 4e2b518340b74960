/**
 * OLMo 2 and 3: attention and MLP read the residual stream without a norm, and their outputs are normalized before being
 * added to it. OLMo 3 has windows.
 */
import { UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { NORMS_AFTER } from '../formats/gguf-names.js'
import { layerTypes, ropeScaling } from '../formats/gguf-reading.js'
import type { Graph } from '../graph/graph.js'
import { pythonCall, withCallsAt, withThoughtInContent } from '../tokenizer/adapted-messages.js'
import type { TemplateMessage } from '../tokenizer/message.js'
import { pythonJson } from '../tokenizer/python-text.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { attentionBiases, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import { everyLayer, windowsByPeriod } from './windows.js'

/** Traits shared by OLMo 2 and 3. */
const olmoTraits = {
  positions: 2048,
  queryKeyNorm: 'row',
  norms: 'after',
  bias: attentionBiases,
} as const

const traits: DecoderTraits = { ...olmoTraits, windows: (_read, layers) => everyLayer(layers, undefined) }

/** transformers' defaults for missing keys. */
const OLMO_DEFAULTS = { rms_norm_eps: 1e-5 }

function olmo2Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...OLMO_DEFAULTS, ...config }, traits, ropeFactors))
}

const THETA = 5e5

const olmo3Traits: DecoderTraits = {
  ...olmoTraits,
  windows: (read, layers) => windowsByPeriod(read, layers, read.optionalSize('sliding_window', 4096), 4),
  thetas: () => ({ full: THETA, windowed: THETA }),
}

function olmo3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const { rope_theta: theta = THETA, rope_parameters: byType = null } = config
  if (byType === null && theta !== THETA)
    throw new UnsupportedError(
      `config.json: rope_theta is ${quote(theta)}, which transformers gives to layers without a window only; set rope_parameters for full_attention and sliding_attention.`,
      { theta },
    )
  return decoderGraph(readDecoder({ ...OLMO_DEFAULTS, ...config }, olmo3Traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'olmo2',
  models: 'OLMo 2 and 3',
  names: { inner: NORMS_AFTER },
  lacks: /\.bias$/,
  config(keys, names) {
    if (!names.has('output.weight'))
      throw new UnsupportedError(
        `${keys.path} has no head of its own (output.weight), which models of this architecture require`,
        { path: keys.path },
      )
    const window = keys.integer('attention.sliding_window')
    if (!window) return { architectures: ['Olmo2ForCausalLM'], model_type: 'olmo2' }
    const theta = keys.number('rope.freq_base') ?? 10_000
    // Layers with a window use unscaled rotary frequencies.
    return {
      architectures: ['Olmo3ForCausalLM'],
      model_type: 'olmo3',
      sliding_window: window,
      layer_types: layerTypes(keys, 4),
      rope_parameters: {
        full_attention: { rope_type: 'default', ...ropeScaling(keys), rope_theta: theta },
        sliding_attention: { rope_type: 'default', rope_theta: theta },
      },
      rope_scaling: null,
    }
  },
  written: {
    windowPeriod: 4,
    plainHeads: true,
  },
}

/** Tools belong to a message, calls are Python, and their results come from the environment. */
const functions: TemplateConvention = {
  family: 'OLMo 3',
  needs: ['functions', 'function_calls', 'environment'],
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: withFunctions(messages, tools).map((message) => {
      if (message.role === 'tool') return { ...message, role: 'environment' }
      return withCallsAt(message, 'function_calls', (call) => pythonCall(call))
    }),
    options,
  }),
}

function withFunctions(
  messages: readonly TemplateMessage[],
  tools: readonly unknown[] | undefined,
): readonly TemplateMessage[] {
  const [first, ...rest] = messages
  return tools && first ? [{ ...first, functions: pythonJson(tools) }, ...rest] : messages
}

/** Reasoning is a part of the content, whose opening tag is in the prompt. */
const functionsAndThought: TemplateConvention = {
  family: functions.family,
  needs: [...functions.needs, '<think>'],
  adapt: ({ messages, options }) =>
    functions.adapt({ messages: messages.map(withThoughtInContent), options }),
}

export const olmo2: Family = {
  types: {
    olmo2: {
      graph: olmo2Graph,
      architecture: 'Olmo2ForCausalLM',
      models: 'OLMo 2',
      notes: 'norms after attention and MLP, and of whole rows of queries and keys',
      shapes: {
        'OLMo-2-1B': [2048, 8192, 16, 16, 16, 100352],
        'OLMo-2-7B': [4096, 11008, 32, 32, 32, 100352],
        'OLMo-2-13B': [5120, 13824, 40, 40, 40, 100352],
        'OLMo-2-32B': [5120, 27648, 64, 40, 8, 100352],
      },
    },
    olmo3: {
      graph: olmo3Graph,
      architecture: 'Olmo3ForCausalLM',
      models: 'OLMo 3',
      notes: 'as OLMo 2, with a window in three of four layers',
      shapes: {
        'OLMo-3-7B': [4096, 11008, 32, 32, 32, 100278],
        'OLMo-3-32B': [5120, 27648, 64, 40, 8, 100278],
      },
    },
  },
  gguf,
  templates: [functionsAndThought, functions],
}
