/**
 * Adapter folders: adapter_config.json and adapter_model.safetensors in PEFT's format, and lowrank.json for information
 * that PEFT has no keys for. Writes are atomic; reads validate every name and shape against the model.
 */
import { join } from 'node:path'
import { breather } from '../core/breather.js'
import { ConfigError, FileFormatError, ShapeError, UnsupportedError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { type PromptFormat, SIDECAR } from '../formats/prompt-format.js'
import { readTensor, type SafetensorsHeader, writeSafetensors } from '../formats/safetensors.js'
import type { TensorData } from '../formats/tensor-data.js'
import { nestedName } from '../formats/text-model.js'
import { writeFileWhole } from '../io/atomic.js'
import { writeFolder } from '../io/atomic-folder.js'
import type { AdapterSpec } from '../native/addon.js'
import { describeAdapter } from '../strategies/describe.js'
import { adaptedEmbedding, HEAD, peftPrefixes } from '../strategies/index.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type {
  AdapterDescription,
  Factor,
  FactorTensor,
  LinearSite,
  StrategyConfig,
  WeightSite,
} from '../strategies/strategy.js'
import {
  ADAPTER_CONFIG,
  adapterConfigText,
  checkedAdapterConfig,
  SEQ_CLS,
  tiedModules,
} from './adapter-config.js'
import { type AdapterHeader, openAdapterFiles, WEIGHTS } from './adapter-files.js'
import { toFloat32, transposed, transposedData } from './floats.js'
import { type AdapterBase, readSidecar, type SidecarFacts, sidecarText } from './sidecar.js'

/** Files of a folder that `saveAdapterFolder` writes. */
export const ADAPTER_FILES: readonly string[] = [ADAPTER_CONFIG, WEIGHTS, SIDECAR]
/** Tensor of a classifier's head. */
const HEAD_TENSOR = 'base_model.model.score.weight'

/**
 * Writes an adapter as a folder that PEFT can load.
 * @param data returns the values of a factor, F32
 * @param options.trainedAs the training strategy, if it differs from the saved form
 * @param options.privacy privacy spent by its private trainings
 * @param options.format prompt format used in training
 * @param options.more writes additional files to the same folder, e.g. for checkpoints
 * @param options.replace replace an existing folder instead of adding files to it
 * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
 */
export async function saveAdapterFolder(
  path: string,
  description: AdapterDescription,
  data: (factor: Factor) => TensorData,
  base: AdapterBase,
  {
    more,
    replace = false,
    ...training
  }: SidecarFacts & { more?: (folder: string) => Promise<void>; replace?: boolean } = {},
): Promise<void> {
  const breathe = breather()
  const write = async (folder: string) => {
    await breathe()
    await writeFileWhole(
      join(folder, ADAPTER_CONFIG),
      adapterConfigText(description, base.name, base.revision ?? null, base.multimodal ?? false),
    )
    const tensors = savedFactors(description).map(({ factor, tensor }) => ({
      name: base.multimodal
        ? tensor.name.replace(IN_MODEL, (_, before, name) => before + nestedName(name))
        : tensor.name,
      dtype: 'F32' as const,
      shape: tensor.shape,
      data: isEmpty(factor)
        ? new Uint8Array()
        : tensor.transposed
          ? transposedData(data(factor), factor)
          : data(factor),
    }))
    await breathe()
    await writeSafetensors(join(folder, WEIGHTS), tensors, { format: 'pt' })
    await breathe()
    await writeFileWhole(join(folder, SIDECAR), sidecarText(description, base, training))
    await more?.(folder)
  }
  await writeFolder(path, write, { replace })
}

/** An adapter folder validated against a model; the values are read on demand. */
export interface AdapterFolder {
  path: string
  description: AdapterDescription
  /** Name of its base model, as given by its author. */
  baseModel: string | null
  /** Content hash of the base it was trained on; null for folders not written by lowrank. */
  baseFingerprint: string | null
  /** Privacy spent by its private trainings. */
  privacy: readonly PrivacyReport[]
  /** Prompt format used in training; null if unknown. */
  format: PromptFormat | null
  /** What had to be assumed about it, in sentences. */
  remarks: readonly string[]
  /** Reads the values of every parameter in the file, one at a time. */
  parameters(): AsyncIterable<{ name: string; values: Float32Array }>
}

/**
 * Reads the parts of an adapter folder that can be validated without a model, so that a bad adapter fails before the
 * model is loaded.
 * @throws {FileFormatError} when a file is missing or malformed
 * @throws {UnsupportedError} for unsupported settings
 */
export async function readAdapterFolder(path: string) {
  const { folder, configPath, config: fields, header, remarks } = await openAdapterFiles(path)
  const config = checkedAdapterConfig(configPath, fields, modulesOf(header))
  const sidecar = await readSidecar(folder)
  const labels = config.taskType === SEQ_CLS ? labelsOf(header, sidecar?.labels ?? null) : null
  return { header, config, sidecar, labels, remarks }
}

/**
 * Class names of an adapter's head; their numbers if the folder has no names.
 * @throws {FileFormatError} when the head is missing, since scores would then be random
 */
function labelsOf(header: SafetensorsHeader, names: readonly string[] | null): readonly string[] {
  const head = header.tensors.get(HEAD_TENSOR)
  if (head === undefined)
    throw new FileFormatError(
      `${header.path} is of a classifier (task_type ${SEQ_CLS}), but has no ${HEAD_TENSOR}, its head. Save it in PEFT with modules_to_save: ["score"].`,
      { path: header.path, tensor: HEAD_TENSOR },
    )
  const count = head.shape[0] ?? 0
  if (names !== null && names.length !== count)
    throw new FileFormatError(
      `${header.path}: the head has ${count} classes, but ${SIDECAR} beside it names ${names.length}.`,
      { path: header.path, classes: count, names: names.length },
    )
  return names ?? Array.from({ length: count }, (_, id) => String(id))
}

/** @throws {ConfigError} when a classifier's adapter and the model have different classes */
function checkLabels(path: string, own: readonly string[] | null, weights: readonly WeightSite[]): void {
  const there = weights.find(({ classes }) => classes !== undefined)?.classes?.labels ?? null
  if (own?.join('\n') === there?.join('\n')) return
  const shown = (labels: readonly string[]) => labels.slice(0, 10).map(quote).join(', ')
  const details = { path, labels: own, model: there }
  if (own === null)
    throw new ConfigError(
      `${path} is an adapter of a model of tokens, but the model was loaded with the labels ${shown(there ?? [])}; load it without labels.`,
      details,
    )
  if (there === null)
    throw new ConfigError(
      `${path} is an adapter of a classifier: its head tells ${shown(own)} apart and writes no text. Load the model with labels: [${shown(own)}] to evaluate or classify with it.`,
      details,
    )
  throw new ConfigError(
    `${path} tells the classes ${shown(own)} apart, but the model was loaded with the labels ${shown(there)}; load it with labels: [${shown(own)}].`,
    details,
  )
}

/** PEFT's prefix before module and tensor names. */
const IN_MODEL = /^(base_model\.model\.)(.+)$/

/**
 * Opens an adapter folder for a model with the given linear layers.
 * @throws {FileFormatError} when a file is missing or malformed, or tensors are missing or unexpected
 * @throws {ShapeError} when a tensor does not fit the model
 * @throws {UnsupportedError} for unsupported settings
 */
export async function openAdapterFolder(
  path: string,
  sites: readonly LinearSite[],
  weights: readonly WeightSite[] = [],
): Promise<AdapterFolder> {
  const { header, config, sidecar, labels, remarks } = await readAdapterFolder(path)
  checkLabels(path, labels, weights)
  if (modulesOf(header).includes(HEAD))
    throw new UnsupportedError(
      `${header.path} adapts ${HEAD}, but adapters of the head are not supported. Train it again without ${HEAD} in target_modules or with modules_to_save: [lm_head], or merge it into its model with PEFT.`,
      { path: header.path, module: HEAD },
    )
  const description = await describeFolder(path, config.strategy, sidecar?.strategy, sites, weights)
  const breathe = breather()
  const saved = savedFactors(description)
  checkTied(header, description, weights, config.tied)
  await breathe()
  checkTensors(header, saved, description, config.baseModel)
  await breathe()
  return {
    path,
    description,
    baseModel: config.baseModel,
    baseFingerprint: sidecar?.fingerprint ?? null,
    privacy: sidecar?.privacy ?? [],
    format: sidecar?.format ?? null,
    remarks,
    async *parameters() {
      const repeated = new Set(description.repeats.map(({ factor }) => factor))
      const shared = new Map<Factor, { tensor: string; values: Float32Array }>()
      for (const { factor, tensor } of saved) {
        if (isEmpty(factor)) continue
        const found = header.tensors.get(tensor.name)
        const bytes = await readTensor(header, tensor.name)
        const stored = toFloat32(found?.dtype ?? '', bytes, `${header.path}: ${tensor.name}`)
        const isTransposed = (tensor.transposed ?? false) !== (found?.transposed ?? false)
        const values = isTransposed ? transposed(stored, factor.cols, factor.rows) : stored
        if (repeated.has(factor)) {
          const first = shared.get(factor)
          if (first === undefined) shared.set(factor, { tensor: tensor.name, values })
          else if (values.some((value, i) => value !== first.values[i])) {
            const why = isCopy(factor)
              ? 'share one weight in this model'
              : `are shared according to ${SIDECAR} (delete it to load them separately)`
            throw new FileFormatError(
              `${header.path}: ${tensor.name} and ${first.tensor} ${why}, but their values differ.`,
              { path: header.path, tensors: [first.tensor, tensor.name] },
            )
          } else continue
        }
        yield { name: factor.name, values }
      }
    },
  }
}

const isCopy = ({ initializer }: Factor): boolean => initializer.kind === 'weight'

const isEmpty = ({ rows, cols }: Factor): boolean => rows * cols === 0

type SavedFactor = { factor: Factor; tensor: FactorTensor }

function savedFactors({ factors, empty, repeats }: AdapterDescription): SavedFactor[] {
  const own = [...factors, ...empty].flatMap((factor) =>
    factor.tensor ? [{ factor, tensor: factor.tensor }] : [],
  )
  return [...own, ...repeats]
}

/** adapter_config.json defines the computation; lowrank.json adds the training strategy and must not contradict it. */
async function describeFolder(
  path: string,
  peft: StrategyConfig,
  own: StrategyConfig | undefined,
  sites: readonly LinearSite[],
  weights: readonly WeightSite[],
): Promise<AdapterDescription> {
  const breathe = breather()
  const fromPeft = describeAdapter(peft, sites, { strict: false, weights })
  if (own === undefined) return fromPeft
  await breathe()
  const fromOwn = describeAdapter(own, sites, { strict: false, weights })
  // Ignores the scale at lower ranks, since the file has a single rank.
  const computed = ({ spec }: AdapterDescription) =>
    JSON.stringify([
      spec.terms.map(({ kind, target, parameters, numbers: { rankPower, ...numbers } }) => [
        kind,
        target,
        // Names and sharing of factors are internal; files store the tensors of each layer separately.
        Object.keys(parameters),
        numbers,
      ]),
      spec.copies,
    ])
  await breathe()
  const ofOwn = computed(fromOwn)
  await breathe()
  if (ofOwn !== computed(fromPeft))
    throw new FileFormatError(
      `${join(path, SIDECAR)} and ${ADAPTER_CONFIG} beside it describe different adapters; if you edited ${ADAPTER_CONFIG}, delete ${SIDECAR}.`,
      { path },
    )
  return fromOwn
}

/**
 * If the embedding and the head share a weight, both or neither must be trained in full. An adapter of the embedding
 * does not apply to the head.
 */
function checkTied(
  { path, tensors }: SafetensorsHeader,
  description: AdapterDescription,
  weights: readonly WeightSite[],
  tied: boolean,
): void {
  const modules = tiedModules(description)
  const apart = modules.find((module) => !tensors.has(`base_model.model.${module}.weight`))
  if (apart !== undefined)
    throw new UnsupportedError(
      `${path} holds no weight of ${apart}, which this model shares among ${modules.join(' and ')}: they were trained separately, but lowrank trains them as one. Train the adapter in PEFT with ensure_weight_tying.`,
      { path, modules },
    )
  const target = adaptedEmbedding(description.spec)
  const shared = weights.find((weight) => weight.modules.length > 1 && weight.modules.includes(target ?? ''))
  if (tied && shared !== undefined)
    throw new UnsupportedError(
      `${path} belongs to an adapter with ensure_weight_tying, which adapts ${shared.modules.join(' and ')} together; in lowrank an adapter of the embedding does not adapt the head.`,
      { path, modules: shared.modules },
    )
}

/** Redundant tensors that PEFT saves: the base's embedding if it is adapted, and repeated biases. */
function isSurplus(name: string, spec: AdapterSpec): boolean {
  if (/\.(original_module|modules_to_save)\.[^.]+$/.test(name)) return true
  const embedding = adaptedEmbedding(spec)
  return embedding !== undefined && name === `base_model.model.${embedding}.base_layer.weight`
}

function checkTensors(
  header: AdapterHeader,
  saved: readonly SavedFactor[],
  { spec }: AdapterDescription,
  baseModel: string | null,
): void {
  const advice = baseModel === null ? '' : ` The adapter was trained on ${baseModel}; is this the same model?`
  const expected = new Set(saved.map(({ tensor }) => tensor.name))
  const missing = [...expected].filter((name) => !header.tensors.has(name))
  const extra = [...header.tensors.keys()].filter((name) => !expected.has(name) && !isSurplus(name, spec))
  if (missing.length > 0 || extra.length > 0)
    throw new FileFormatError(
      `${header.path} does not have the tensors of ${ADAPTER_CONFIG} and the model:${some('missing', missing)}${some('unexpected', extra)}.${advice}`,
      { path: header.path, missing, extra },
    )
  for (const { tensor } of saved) {
    const shape = header.tensors.get(tensor.name)?.shape ?? []
    if (shape.join() !== tensor.shape.join())
      throw new ShapeError(
        `${header.path}: ${tensor.name} is [${shape.join(', ')}], but this model and ${ADAPTER_CONFIG} need [${tensor.shape.join(', ')}].${advice}`,
        { path: header.path, tensor: tensor.name, shape, expected: tensor.shape },
      )
  }
}

function some(label: string, names: readonly string[]): string {
  if (names.length === 0) return ''
  const shown = names.slice(0, 3).map(quote).join(', ')
  return ` ${label} ${shown}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`
}

/** Paths of the modules to which the tensors belong. */
export function modulesOf(header: SafetensorsHeader): string[] {
  const own = new RegExp(`^base_model\\.model\\.(.+)\\.(?:${peftPrefixes().join('|')})\\w+(?:\\.weight)?$`)
  const paths = [...header.tensors.keys()].flatMap((name) => {
    const found = own.exec(name)
    return found?.[1] ? [found[1]] : []
  })
  return [...new Set(paths)]
}
