/**
 * The text model of a folder whose model takes images as well: its config and its tensors under the names that a folder
 * of the text model alone has. The other parts are left out.
 */
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'

/** The text model of a folder. */
export interface TextModel {
  config: Record<string, unknown>
  /** Name of a tensor of the folder in the text model; undefined for a tensor of another part. */
  nameOf(name: string): string | undefined
}

/** Classes of the text models, by their `model_type`, of each `model_type` of a whole. */
const WHOLES: ReadonlyMap<string, Readonly<Record<string, string>>> = new Map<string, Record<string, string>>(
  [
    ['gemma3', { gemma3_text: 'Gemma3ForCausalLM' }],
    ['mistral3', { ministral3: 'Ministral3ForCausalLM', mistral: 'MistralForCausalLM' }],
  ],
)

/** Parts of the whole that text does not pass through. */
const OTHER_PARTS = /^(model\.)?(vision_tower|multi_modal_projector)\./

/** Keys that both levels of a config may have; the inner one counts. */
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
 * The text model by a folder's config; undefined for a folder that holds a text model only.
 * @param path names the config in messages
 * @throws {UnsupportedError} for a text model of another family
 */
export function textModelOf(
  config: Readonly<Record<string, unknown>>,
  path = 'config.json',
): TextModel | undefined {
  const classes = typeof config.model_type === 'string' ? WHOLES.get(config.model_type) : undefined
  if (classes === undefined) return undefined
  const { text_config: inner } = config
  if (typeof inner !== 'object' || inner === null)
    throw new FileFormatError(`${path}: text_config is ${quote(inner ?? null)}, expected an object.`, {
      path,
    })
  const text = inner as Record<string, unknown>
  const type = text.model_type
  const architecture = typeof type === 'string' ? classes[type] : undefined
  if (architecture === undefined)
    throw new UnsupportedError(
      `${path}: model_type of text_config is ${quote(type ?? null)}; models of type ${quote(config.model_type)} require one of ${Object.keys(classes).join(', ')}.`,
      { path, modelType: type },
    )
  const outer = SHARED.filter((key) => config[key] !== undefined).map((key) => [key, config[key]])
  const given = Object.entries(text).filter(([key, value]) => value !== null || !SHARED.includes(key))
  return {
    config: {
      tie_word_embeddings: true, // as the class of the whole has it
      ...Object.fromEntries(outer),
      ...Object.fromEntries(given),
      architectures: [architecture],
    },
    nameOf: (name) => (OTHER_PARTS.test(name) ? undefined : flatName(name)),
  }
}

/** Name of a module or a tensor of the text model, from its name in the whole. */
export function flatName(name: string): string {
  return name
    .replace(/^(model\.language_model|language_model\.model)\./, 'model.')
    .replace(/^language_model\./, '')
}

/** Name that a module or a tensor of the text model has where transformers holds the whole in memory. */
export function nestedName(name: string): string {
  return name.replace(/^model\./, 'model.language_model.')
}
