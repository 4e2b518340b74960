/**
 * Reads and writes PEFT's adapter_config.json. A written config makes PEFT load exactly the tensors in the folder; a
 * config that is read is validated first, and unsupported settings are rejected by name.
 */
import { FileFormatError, UnsupportedError } from '../core/errors.js'
import { escapeControls, quote } from '../core/quote.js'
import { nestedName } from '../formats/text-model.js'
import { knownPeftTypes, rulesForPeft, rulesOf, targetNames } from '../strategies/index.js'
import type { AdapterDescription, PeftFields, StrategyConfig } from '../strategies/strategy.js'

/** Name of the file in an adapter folder. */
export const ADAPTER_CONFIG = 'adapter_config.json'

/** Most bytes of it. */
export const CONFIG_LIMIT = 16 << 20

/** Contents of a validated adapter_config.json. */
export interface AdapterConfig {
  strategy: StrategyConfig
  /** Name of its base model, as given by its author. */
  baseModel: string | null
  taskType: string | null
  /** True if a trained, tied weight applies to all modules that share it. */
  tied: boolean
}

/** Keys that describe an adapter's origin but do not affect its computation. */
const DESCRIPTIVE = new Set([
  'auto_mapping',
  'base_model_name_or_path',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'inference_mode',
  'init_lora_weights',
  'init_weights',
  'kasa_config',
  'loftq_config',
  'lora_ga_config',
  'megatron_core',
  'peft_type',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  'task_type',
])

/** Keys read by every strategy, which select the modules to adapt. */
const MODULES = ['target_modules', 'exclude_modules', 'layers_to_transform']

/** Initializations that leave the base unchanged; others modify it when PEFT loads the adapter. */
const HARMLESS_INITS = new Set<unknown>([undefined, null, true, false, 'gaussian', 'orthogonal', 'eva'])

/** `task_type` of classifiers, and the names under which PEFT adds their heads to `modules_to_save`. */
export const SEQ_CLS = 'SEQ_CLS'
const HEADS = ['classifier', 'score']

/**
 * The text of adapter_config.json, with sorted keys and two-space indentation.
 * @param multimodal true if the base is the text model of a multimodal one
 */
export function adapterConfigText(
  description: AdapterDescription,
  baseModel: string | null,
  revision: string | null,
  multimodal = false,
): string {
  const { strategy, targets, linears, targeting, labels } = description
  const rules = rulesOf(strategy)
  const heads = labels === null ? [] : HEADS
  const modulesToSave = [...heads, ...(targeting.modulesToSave ?? [])]
  const tied = tiedModules(description)
  const fields: PeftFields = {
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    exclude_modules: null,
    inference_mode: true,
    layers_pattern: null,
    layers_to_transform: null,
    modules_to_save: modulesToSave.length > 0 ? withTied(modulesToSave, tied) : null,
    peft_type: rules.peftType,
    revision,
    // Last name components would also match modules outside the text model.
    target_modules: multimodal ? targets.map(nestedName).sort() : targetNames(targets, linears),
    task_type: labels === null ? 'CAUSAL_LM' : SEQ_CLS,
    ...rules.toPeft(strategy),
    ...(tied.length > 0 ? { ensure_weight_tying: true } : {}),
  }
  // Sort only the top-level keys: in pattern maps the order determines which pattern wins.
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)))
  return JSON.stringify(sorted, null, 2)
}

/** Modules that share a weight trained in full. */
export function tiedModules({ trained }: AdapterDescription): string[] {
  return trained.flatMap(({ modules }) => (modules.length > 1 ? modules : []))
}

/**
 * Lists all modules whose weight is trained, so that PEFT versions that do not tie weights load the same values into
 * each.
 */
function withTied(names: readonly string[], tied: readonly string[]): string[] {
  return [...names, ...tied.filter((path) => !names.some((name) => path.endsWith(name)))]
}

/**
 * Validates the contents of an adapter_config.json.
 * @param path names the file in messages
 * @param modules paths from the adapter's tensor names, used if the file has no `target_modules`
 * @throws {FileFormatError} for a file that is not such a config
 * @throws {UnsupportedError} for an unsupported adapter type or setting
 * @throws {ConfigError} for a value out of range
 */
export function checkedAdapterConfig(
  path: string,
  given: Readonly<Record<string, unknown>>,
  modules: readonly string[],
): AdapterConfig {
  const fields = withoutHeads(given)
  const type = fields.peft_type
  if (typeof type !== 'string')
    throw new FileFormatError(
      `${path}: peft_type is ${quote(type ?? null)}, expected a name such as "LORA".`,
      { path, peftType: type },
    )
  const rules = rulesForPeft(type, fields)
  if (rules?.fromPeft === undefined)
    throw new UnsupportedError(
      `${path}: peft_type is ${quote(type)}, which is not supported. Supported: ${knownPeftTypes().join(', ')}.`,
      { path, peftType: type },
    )
  const keys = new Set([...MODULES, ...(rules.peftKeys ?? [])])
  refuseUnsupported(path, fields, keys)
  // In an adapter of a multimodal model, the tensors are more reliable than module lists: all belong to its text model.
  const nested = MODULES.some((key) => JSON.stringify(fields[key] ?? null).includes('language_model'))
  const read = Object.entries(fields).filter(
    ([key, value]) =>
      keys.has(key) && value !== null && !isEmptyList(value) && !(nested && MODULES.includes(key)),
  )
  const known = { target_modules: modules, ...Object.fromEntries(read) }
  return {
    strategy: rules.fromPeft(known),
    baseModel: textOrNull(path, fields, 'base_model_name_or_path'),
    taskType: textOrNull(path, fields, 'task_type'),
    tied: fields.ensure_weight_tying === true,
  }
}

/** A classifier's head is implied, so it is removed from the list. */
function withoutHeads(fields: Readonly<PeftFields>): Readonly<PeftFields> {
  const { task_type: task, modules_to_save: modules } = fields
  if (task !== SEQ_CLS || !Array.isArray(modules)) return fields
  return { ...fields, modules_to_save: modules.filter((name) => !HEADS.includes(name)) }
}

function refuseUnsupported(path: string, fields: Readonly<PeftFields>, read: ReadonlySet<string>): void {
  const init = fields.init_lora_weights
  if (!HARMLESS_INITS.has(init))
    throw new UnsupportedError(
      `${path}: init_lora_weights is ${quote(init)}: such an adapter belongs to a modified base. Convert it to plain LoRA in PEFT first (save_pretrained with path_initial_model_for_weight_conversion).`,
      { path, key: 'init_lora_weights', value: init },
    )
  if (!read.has('bias') && fields.bias !== undefined && fields.bias !== 'none')
    throw unsupportedKey(path, 'bias', fields.bias, 'none')
  for (const [key, value] of Object.entries(fields)) {
    if (key === 'bias' || DESCRIPTIVE.has(key) || read.has(key) || isOff(value)) continue
    throw unsupportedKey(path, key, value, 'it to be absent')
  }
}

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0

/** True for disabled settings, since PEFT writes every key it knows. */
function isOff(value: unknown): boolean {
  if (value === null || value === false) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

function unsupportedKey(path: string, key: string, value: unknown, expected: string): UnsupportedError {
  return new UnsupportedError(
    `${path}: ${escapeControls(key)} is ${quote(value)}, which is not supported; expected ${expected}.`,
    { path, key, value },
  )
}

function textOrNull(path: string, fields: Readonly<PeftFields>, key: string): string | null {
  const value = fields[key] ?? null
  if (value === null || typeof value === 'string') return value
  throw new FileFormatError(`${path}: ${key} is ${quote(value)}, expected a string.`, {
    path,
    key,
    value,
  })
}
