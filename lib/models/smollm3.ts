/** SmolLM3: the plain decoder without rotation of queries and keys in every fourth layer. */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { USUAL_NAMES } from '../formats/gguf-names.js'
import { biasesOf, QUERY_KEY_NORMS, refuseWindow } from '../formats/gguf-reading.js'
import { rotaryPairs } from '../formats/gguf-stored.js'
import type { Graph } from '../graph/graph.js'
import { type Call, withCallsInContent } from '../tokenizer/adapted-messages.js'
import { pythonJson } from '../tokenizer/python-text.js'
import type { TemplateConvention } from '../tokenizer/training-templates.js'
import { biasesByFlag, type DecoderTraits, decoderGraph, readDecoder } from './decoder.js'
import type { Family, FamilyGguf } from './family.js'
import type { FieldReader } from './fields.js'
import { windowsByLayer } from './windows.js'

const traits: DecoderTraits = {
  positions: 32768,
  bias: biasesByFlag,
  rotated: rotatedLayers,
  // With `use_sliding_window`, the window applies to the layers without rotation.
  windows(read, layers) {
    const window = read.flag('use_sliding_window', false) ? read.optionalSize('sliding_window') : undefined
    if (read.texts('layer_types') !== undefined) return windowsByLayer(read, layers, window, 0)
    return rotatedLayers(read, layers).map((rotated) => (rotated ? undefined : window))
  },
}

/** Despite the name, layers with a 1 in `no_rope_layers` are rotated. If it is absent, all but every fourth are. */
function rotatedLayers(read: FieldReader, layers: number): boolean[] {
  const flags = read.numbers('no_rope_layers')
  if (flags === undefined) {
    const interval = read.size('no_rope_layer_interval', 4)
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % interval !== 0)
  }
  if (flags.length < layers || flags.some((flag) => flag !== 0 && flag !== 1))
    throw new ConfigError(
      `config.json: no_rope_layers is ${quote(flags)}; expected a 0 or a 1 for each of the ${layers} layers.`,
      { flags, layers },
    )
  return flags.slice(0, layers).map((flag) => flag === 1)
}

/** transformers' defaults for missing keys. */
const DEFAULTS = { num_key_value_heads: 4, rope_theta: 2e6, tie_word_embeddings: true }

function smollm3Graph(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  return decoderGraph(readDecoder({ ...DEFAULTS, ...config }, traits, ropeFactors))
}

const gguf: FamilyGguf = {
  architecture: 'smollm3',
  models: 'SmolLM3',
  names: USUAL_NAMES,
  lacks: QUERY_KEY_NORMS,
  // Files do not say which layers use rotation: all but every fourth do.
  config(keys, names) {
    refuseWindow(keys)
    return {
      architectures: ['SmolLM3ForCausalLM'],
      model_type: 'smollm3',
      ...biasesOf(names),
    }
  },
  stored: rotaryPairs,
}

/** Tools have another variable, and calls are text. */
const xmlTools: TemplateConvention = {
  family: 'SmolLM3',
  needs: ['xml_tools', '<tool_call>', '/no_think'],
  adapt: ({ messages, options: { tools, ...options } }) => ({
    messages: messages.map((message) => withCallsInContent(message, (calls) => calls.map(inTags).join('\n'))),
    options: tools ? { ...options, variables: { ...options.variables, xml_tools: tools } } : options,
  }),
}

const inTags = (call: Call) => `<tool_call>\n${pythonJson(call)}\n</tool_call>`

export const smollm3: Family = {
  types: {
    smollm3: {
      graph: smollm3Graph,
      architecture: 'SmolLM3ForCausalLM',
      models: 'SmolLM3',
      notes: 'no rotary embedding in every fourth layer',
      shapes: {
        'SmolLM3-3B': [2048, 11008, 36, 16, 4, 128256, { tied: true }],
      },
    },
  },
  gguf,
  templates: [xmlTools],
}
