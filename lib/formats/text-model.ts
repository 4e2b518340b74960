/**
 * Extracts the text model from a multimodal folder: its config and its tensors, under the names of a text-only model.
 * Other parts are ignored.
 */
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'

/** The text model of a folder. */
export interface TextModel {
  config: Record<string, unknown>
  /** Maps a tensor name in the folder to its name in the text model; undefined for other parts. */
  nameOf(name: string): string | undefined
}

/** A class of multimodal models. */
export interface Whole {
  /** Text model classes by their own `model_type`. */
  readonly classes: Readonly<Record<string, string>>
  /** Its default of `tie_word_embeddings`. */
  readonly tied: boolean
  /** True if PEFT gives adapters the names of the text model, which is what transformers' AutoModelForCausalLM loads. */
  readonly loadsText?: true
}

/** Multimodal models by `model_type`. */
export type Wholes = ReadonlyMap<string, Whole>

/** The class of a multimodal config; undefined for that of a text model. */
export function wholeOf(config: Readonly<Record<string, unknown>>, wholes: Wholes): Whole | undefined {
  return typeof config.model_type === 'string' ? wholes.get(config.model_type) : undefined
}

/** Parts of the multimodal model that text does not pass through: vision, and the prediction of further tokens. */
const OTHER_PARTS = /^((model\.)?(vision_tower|multi_modal_projector|visual)|mtp)\./

/** Keys that may appear at both levels of a config; the inner one takes precedence. */
const SHARED = [
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
  'dtype',
  'torch_dtype',
  'tie_word_embeddings',
  'quantization_config',
]

/**
 * The text model described by the config of a multimodal model.
 * @param path names the config in messages
 * @throws {UnsupportedError} for a text model of another family
 */
export function textModelOf(
  config: Readonly<Record<string, unknown>>,
  whole: Whole,
  path = 'config.json',
): TextModel {
  const { classes } = whole
  const { text_config: inner } = config
  const types = Object.keys(classes).join(' or ')
  if (typeof inner !== 'object' || inner === null)
    throw new FileFormatError(
      `${path}: ${statement('text_config', inner)}; model_type ${quote(config.model_type)} requires an object that describes the text model. The config of a text model alone has model_type ${types}.`,
      { path },
    )
  const text = inner as Record<string, unknown>
  const type = text.model_type
  const architecture = typeof type === 'string' ? classes[type] : undefined
  if (architecture === undefined)
    throw new UnsupportedError(
      `${path}: ${statement('model_type of text_config', type)}; models of type ${quote(config.model_type)} require ${types}.`,
      { path, modelType: type },
    )
  const outer = SHARED.filter((key) => config[key] !== undefined).map((key) => [key, config[key]])
  const given = Object.entries(text).filter(([key, value]) => value !== null || !SHARED.includes(key))
  return {
    config: {
      tie_word_embeddings: whole.tied,
      ...Object.fromEntries(outer),
      ...Object.fromEntries(given),
      architectures: [architecture],
    },
    nameOf: (name) => (OTHER_PARTS.test(name) ? undefined : flatName(name)),
  }
}

function statement(key: string, value: unknown): string {
  return value === undefined ? `${key} is missing` : `${key} is ${quote(value)}`
}

/** Name of a module or tensor in the text model, given its name in the multimodal model. */
export function flatName(name: string): string {
  return name
    .replace(/^(model\.language_model|language_model\.model)\./, 'model.')
    .replace(/^language_model\./, '')
}

/** Name of a text model's module or tensor in transformers' multimodal model. */
export function nestedName(name: string): string {
  return name.replace(/^model\./, 'model.language_model.')
}
