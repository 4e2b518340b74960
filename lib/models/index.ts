/** Lookups in the records of model families: the graph of a model, and its form in GGUF files. */
import { InternalError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import type { GgufForms } from '../formats/gguf-form.js'
import { type ModelFiles, openModelFiles as openFiles } from '../formats/model-files.js'
import { textModelOf, type Wholes, wholeOf } from '../formats/text-model.js'
import type { Graph } from '../graph/graph.js'
import type { TrainingTemplateForm } from '../tokenizer/training-templates.js'
import type { FamilyGguf } from './family.js'
import { FAMILIES } from './list.js'

export { FAMILIES } from './list.js'

const TYPES = new Map(
  FAMILIES.flatMap((family) =>
    Object.entries(family.types).map(([type, { graph }]) => [type, { family, graph }] as const),
  ),
)

/** By the architecture in GGUF files. */
export const GGUF_FORMS: GgufForms = new Map(
  FAMILIES.flatMap(({ gguf }) => (gguf ? [[gguf.architecture, gguf]] : [])),
)

/** Chat templates for training. Those of a family are tried in its order; no template fits two families. */
export const TRAINING_TEMPLATES: readonly TrainingTemplateForm[] = FAMILIES.flatMap(
  ({ templates = [] }) => templates,
)

/**
 * The graph of a model, given its Hugging Face config.
 * @param ropeFactors divisors of the rotary frequencies from a GGUF file, if it has them
 * @throws {UnsupportedError} for an unknown `model_type`, listing the known ones
 */
export function graphOf(config: Record<string, unknown>, ropeFactors?: ArrayLike<number>): Graph {
  const type = config.model_type
  const found = typeof type === 'string' ? TYPES.get(type) : undefined
  if (found === undefined) {
    const known = [...TYPES.keys()].sort()
    throw new UnsupportedError(
      `config.json: model_type is ${quote(type ?? null)}, which is not supported. Supported: ${known.join(', ')}.`,
      { modelType: type, supported: known },
    )
  }
  return found.graph(config, ropeFactors)
}

/**
 * How models of this type are stored in GGUF files.
 * @throws {UnsupportedError} when they are not
 */
export function ggufFormOf(type: string): FamilyGguf {
  const form = TYPES.get(type)?.family.gguf
  if (form !== undefined) return form
  const known = [...TYPES].flatMap(([name, { family }]) => (family.gguf ? [name] : [])).sort()
  throw new UnsupportedError(
    `models of the type ${quote(type)} cannot be written as GGUF files; those of ${known.join(', ')} can. Write a safetensors folder instead.`,
    { family: type, supported: known },
  )
}

/** Multimodal models of all families. */
export const WHOLES: Wholes = new Map(
  FAMILIES.flatMap(({ wholes = {} }) =>
    Object.entries(wholes).map(([type, { texts, ...whole }]) => {
      const classes = texts.map((text) => [text, architectureOf(text)] as const)
      return [type, { ...whole, classes: Object.fromEntries(classes) }] as const
    }),
  ),
)

/** The config of the text model that a config.json describes, alone or in a multimodal model. */
export function textConfigOf(config: Record<string, unknown>, path: string): Record<string, unknown> {
  const whole = wholeOf(config, WHOLES)
  return whole === undefined ? config : textModelOf(config, whole, path).config
}

/** Opens the files of a model of any family; see `formats/model-files.ts`. */
export const openModelFiles = (path: string): Promise<ModelFiles> =>
  openFiles(path, { forms: GGUF_FORMS, wholes: WHOLES })

/** The class of a model in transformers. */
function architectureOf(type: string): string {
  const found = TYPES.get(type)
  if (found === undefined) throw new InternalError(`no family has models of the type ${type}`)
  return found.family.types[type]?.architecture as string
}
