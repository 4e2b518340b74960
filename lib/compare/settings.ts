/** The configuration that all cells of a compare share. */
import { toFileKeys } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import { canonical } from '../train/checkpoints/run-identity.js'
import { configSchema, type RunConfig } from '../train/config/config.js'
import { dataset } from '../train/sources/data-sources.js'

type Settings = Record<string, unknown>

/** Configuration shared by all cells, with snake_case keys. */
export function settingsOf(config: RunConfig): Settings {
  const { strategy, learningRate, outputDir, sampleRows, evalGenerate, reportTo, threads, ...shared } = config
  return toFileKeys(configSchema, shared) as Settings
}

/** The settings without the places of the model and the data, which have hashes of their contents. */
export function withoutPaths(settings: Settings): Settings {
  const { model, dataset, eval_dataset: evalDataset, chat_template: template, ...rest } = settings
  return {
    ...{ ...rest, dataset: formOf(dataset), eval_dataset: formOf(evalDataset) },
    chat_template: typeof template === 'string' ? null : template,
  }
}

/**
 * The settings that a hash of a cell covers: no paths, so that it is the same in another folder, and no defaults, so
 * that it is the same in a version with more options.
 */
export function hashedSettings(config: RunConfig): Settings {
  const { dataset: data, eval_dataset: evalData, ...rest } = withoutPaths(settingsOf(config))
  return {
    ...changed(rest, DEFAULTS),
    dataset: changed(data, DATASET_DEFAULTS),
    eval_dataset: changed(evalData, DATASET_DEFAULTS),
  }
}

const DEFAULTS = toFileKeys(
  configSchema,
  Object.fromEntries(
    Object.entries(configSchema.shape).map(([key, schema]) => [key, schema.safeParse(undefined).data]),
  ),
) as Settings

const DATASET_DEFAULTS = formOf(
  (toFileKeys(configSchema, { dataset: dataset('any.jsonl') }) as Settings).dataset,
) as Settings

/** A dataset's settings without its path. */
function formOf(dataset: unknown): Settings | null {
  if (!isRecord(dataset)) return null
  const { path, ...form } = dataset
  return form
}

function changed(settings: unknown, defaults: Settings): Settings | null {
  if (!isRecord(settings)) return null
  return Object.fromEntries(
    Object.entries(settings).filter(([key, value]) => canonical(value) !== canonical(defaults[key])),
  )
}
