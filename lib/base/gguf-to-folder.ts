/** Rebuilds the small files of a Hugging Face folder, config.json and the tokenizer's files, from GGUF metadata. */
import { pow } from '../core/portable-math.js'
import type { GgufMetadata } from '../formats/gguf-metadata.js'
import type { ModelFiles } from '../formats/model-files.js'
import { llama3ScalingOf, readRopeFactors } from '../formats/rope-factors.js'
import { writtenFloat } from '../io/written-json.js'
import { tokenizerSourceFromGguf } from '../tokenizer/gguf.js'

/** Special tokens of a config, of which families have defaults. A file without one says that there is none. */
const NO_TOKENS = { bos_token_id: null, eos_token_id: null, pad_token_id: null }

/** Keys of a config whose numbers are floats. */
const FLOATS =
  /(_theta|_freq|_eps|_multiplier|_scaling|_softcapping|_factor|^factor|^beta_\w+|^mscale\w*|_beta)$/

/**
 * The config that was rebuilt when the file was opened, with rotary divisors expressed as `rope_scaling`.
 * @throws {UnsupportedError} when they cannot be expressed that way
 */
export async function configFromGguf(source: ModelFiles): Promise<Record<string, unknown>> {
  return withFloats({ ...NO_TOKENS, ...(await withScaling(source)) }) as Record<string, unknown>
}

/** Python programs may refuse integers for floats. */
function withFloats(value: unknown, key = ''): unknown {
  if (typeof value === 'number') return FLOATS.test(key) ? writtenFloat(value) : value
  if (Array.isArray(value)) return value.map((one) => withFloats(one, key))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withFloats(one, name)]))
}

async function withScaling(source: ModelFiles): Promise<Record<string, unknown>> {
  const factors = await readRopeFactors(source)
  if (factors === undefined) return source.config
  const theta = source.config.rope_theta as number
  const frequencies = Array.from(factors, (_, i) => pow(theta, -i / factors.length))
  return {
    ...source.config,
    rope_scaling: { rope_type: 'llama3', ...llama3ScalingOf(factors, frequencies, source.path) },
  }
}

/**
 * tokenizer.json, tokenizer_config.json, and generation_config.json by name; empty for a file without a tokenizer.
 * @throws {UnsupportedError} when the tokenizer cannot be rebuilt exactly
 */
export function tokenizerFilesFromGguf(metadata: GgufMetadata, where: string): Record<string, unknown> {
  if (!metadata.has('tokenizer.ggml.model')) return {}
  const source = tokenizerSourceFromGguf(metadata, where)
  const named = Object.entries(source.namedTemplates ?? {})
  const templates = [
    ...(source.chatTemplate === undefined ? [] : [{ name: 'default', template: source.chatTemplate }]),
    ...named.map(([name, template]) => ({ name, template })),
  ]
  const chatTemplate = named.length === 0 ? source.chatTemplate : templates
  const ends = [...new Set(source.eosTokenIds)]
  const begin = metadata.get('tokenizer.ggml.bos_token_id')
  const pad = metadata.get('tokenizer.ggml.padding_token_id')
  return {
    'tokenizer.json': source.tokenizerJson,
    'tokenizer_config.json': {
      ...source.tokenizerConfig,
      ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
      clean_up_tokenization_spaces: false,
      tokenizer_class: 'PreTrainedTokenizerFast',
    },
    'generation_config.json': {
      ...(typeof begin === 'number' ? { bos_token_id: begin } : {}),
      ...(ends.length === 0 ? {} : { eos_token_id: ends.length === 1 ? ends[0] : ends }),
      ...(typeof pad === 'number' ? { pad_token_id: pad } : {}),
    },
  }
}
