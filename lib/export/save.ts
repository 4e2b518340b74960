/** Writes a model with its adapters: validates the options, writes the files, and checks the result. */
import { existsSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { type BaseModel, checkWritesText, type ReopenOptions } from '../base/base.js'
import { checkedPath } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import type { TensorControl } from '../formats/tensor-data.js'
import { removeLeftovers } from '../io/temporary.js'
import { ggufFormOf } from '../models/index.js'
import { addon } from '../native/addon.js'
import { Turns } from '../native/handles.js'
import { ADAPTER_FILES, type AdapterFolder, openAdapterFolder } from '../peft/adapter-folder.js'
import { openGgufAdapter } from '../peft/gguf-adapter.js'
import { type DatasetConfig, datasetOf } from '../train/sources/data-sources.js'
import { keptBeside, refuseModelBeside } from './beside.js'
import { type Drift, measureDrift, type Subject, sampleSequences } from './drift.js'
import { writeGgufModel } from './gguf.js'
import { writeGgufLora } from './gguf-lora.js'
import { writeMerged } from './merge.js'
import { ADAPTER_FILE, MODEL_FILE, writeOllama } from './ollama.js'
import {
  type CheckedExportOptions,
  type CheckedSaveOptions,
  type ExportOptions,
  FILE_TYPES,
  isQuantizedDtype,
  MAX_LOSS,
  MODEL_DTYPES,
  misfitOf,
  QUANTIZED_DTYPES,
  SAVE_DTYPES,
  type SaveOptions,
  type Survival,
  type WriteProgress,
  type Written,
} from './options.js'
import { exportedFormat, formatRemarks } from './prompting.js'
import { checkHeldAs, writeQuantized } from './quantized.js'
import { writeVllm } from './vllm.js'
import { outputTaken } from './weights.js'

/** Callbacks and signal for writing a model. */
type Control = { [Key in 'onProgress' | 'signal']: SaveOptions[Key] | undefined } & {
  checkDataset: DatasetConfig | undefined
}

/** The written files, and how to load them for the comparison. */
interface Product {
  files: string[]
  remarks: string[]
  survival?: Survival | null
  reopen(options: ReopenOptions): Promise<Reopened>
}

/** A reloaded model or adapter, with a function that frees it. */
interface Reopened {
  subject: Subject
  close(): Promise<void>
}

/**
 * Writes a Hugging Face folder.
 * @param name of the calling function, for error messages
 */
export async function saveModel(
  subject: Subject,
  path: string,
  given: CheckedSaveOptions,
  name: string,
): Promise<Written> {
  checkedPath(path, name, 'folder')
  checkWritesText(subject.base, name)
  await refuseTaken(path, given.force)
  if (given.onto === 'trained') refuseOtherBase(subject)
  const { dtype, onto, maxShardBytes, maxLoss } = given
  if (isQuantizedDtype(dtype)) checkHeldAs(subject, dtype)
  else if (maxLoss !== undefined)
    throw new ConfigError(
      `${name}: maxLoss is ${maxLoss}, but nothing is quantized; it applies only to dtype ${QUANTIZED_DTYPES.join(', ')}.`,
      { maxLoss, dtype },
    )
  const control = controlOf(given, name)
  return writeChecked(subject, path, given.check, control, async (control) => {
    const format = exportedFormat(subject)
    const folder = { format, ...(maxShardBytes === undefined ? {} : { maxShardBytes }), ...control }
    const written = isQuantizedDtype(dtype)
      ? await writeQuantized(
          path,
          subject,
          { onto, maxLoss: maxLoss ?? MAX_LOSS, onProgress: given.onProgress },
          folder,
        )
      : { files: await writeMerged(path, subject, { dtype, onto }, folder) }
    const remarks = await formatRemarks(subject)
    return { ...written, remarks, reopen: (how) => reopenModel(subject.base, path, how) }
  })
}

/** Exports in any of the formats. */
export async function exportModel(
  subject: Subject,
  path: string,
  given: CheckedExportOptions,
  name: string,
): Promise<Written> {
  checkedPath(path, name, 'path')
  checkWritesText(subject.base, name)
  const { format, dtype, onto, separateAdapter } = given
  const misfit = misfitOf(given)
  if (misfit !== undefined) {
    const { option, value, formats } = misfit
    throw new ConfigError(
      `${name}: ${option} is ${value}, but the format is ${format}; it applies only to ${formats}.`,
      { option, format },
    )
  }
  if (format === 'safetensors') {
    const kept = SAVE_DTYPES.find((one) => one === dtype)
    return saveModel(subject, path, { ...given, dtype: kept }, name)
  }
  const type = FILE_TYPES.find((one) => one === dtype)
  await refuseTaken(path, given.force, format)
  const isAlone = format === 'gguf-lora' || format === 'vllm'
  if (!isAlone && onto === 'trained') refuseOtherBase(subject)
  const { base } = subject
  return writeChecked(subject, path, given.check, controlOf(given, name), async (control) => {
    if (format === 'vllm') {
      const remarks = await writeVllm(path, subject)
      remarks.push(...(await formatRemarks(subject)), ...(await keptBeside(path, ADAPTER_FILES)))
      const reopen = async () => reopenAdapter(base, await openAdapterFolder(path, base.sites, base.weights))
      return { files: [...ADAPTER_FILES], remarks, reopen }
    }
    const files = [basename(path)]
    if (format === 'gguf-lora') {
      const plain = MODEL_DTYPES.find((one) => one === type)
      await writeGgufLora(path, subject, plain ?? 'f32', control)
      return { files, remarks: await formatRemarks(subject), reopen: () => reopenGgufAdapter(base, path) }
    }
    const weights = { dtype: type ?? 'f16', onto }
    if (format === 'ollama') {
      const written = await writeOllama(path, subject, { ...weights, separate: separateAdapter }, control)
      written.remarks.push(...(await keptBeside(path, written.files)))
      return { ...written, reopen: (how) => reopenOllama(base, path, separateAdapter, how) }
    }
    const remarks = await writeGgufModel(path, subject, weights, control)
    remarks.push(...(await formatRemarks(subject)))
    return { files, remarks, reopen: (how) => reopenModel(base, path, how) }
  })
}

/** @throws {ConfigError} when the path exists and `force` is not set, or has files that the format does not replace */
export async function refuseTaken(
  path: string,
  force: boolean,
  format: ExportOptions['format'] = 'safetensors',
): Promise<void> {
  if (!force && existsSync(path)) throw outputTaken(path)
  if (format === 'vllm') await refuseModelBeside(path, format)
}

/** Rejects adapters trained on another base: they would make a different model even if the shapes match. */
function refuseOtherBase({ base, adapters }: Subject): void {
  for (const { state } of adapters) {
    if (state.trainedOn === null || state.trainedOn === base.files.fingerprint) continue
    throw new ConfigError(
      `an adapter was not trained on the files of ${base.name}; load the model it was trained on, or set onto: original if ${base.name} is the same model in another format.`,
      { model: base.name, trainedOn: state.trainedOn, fingerprint: base.files.fingerprint },
    )
  }
}

function controlOf(
  { checkDataset, onProgress, signal }: Pick<CheckedSaveOptions, 'checkDataset' | 'onProgress' | 'signal'>,
  name: string,
): Control {
  const data = checkDataset === undefined ? undefined : datasetOf(checkDataset, name, 'checkDataset')
  return { checkDataset: data, onProgress, signal }
}

function tensorControl({ onProgress, signal }: Control): TensorControl {
  return {
    signal,
    ...(onProgress
      ? {
          onProgress: ({ writtenBytes, totalBytes }) =>
            onProgress({ phase: 'write', doneBytes: writtenBytes, totalBytes }),
        }
      : {}),
  }
}

/** Samples the comparison data first, so that a bad dataset fails before hours of writing. */
async function writeChecked(
  subject: Subject,
  path: string,
  check: boolean,
  control: Control,
  write: (control: TensorControl) => Promise<Product>,
): Promise<Written> {
  const { checkDataset, signal } = control
  // An earlier export may have been killed.
  await removeLeftovers(dirname(resolve(path)))
  const sequences = check ? await sampleSequences(subject.base, checkDataset, signal) : []
  const work = async () => {
    const product = await write(tensorControl(control))
    const { files, remarks, survival = null } = product
    const drift = check ? await readBack(subject, product, sequences, control) : null
    return { output: path, files, remarks, check: drift, survival }
  }
  // Holds off training updates of the adapters, so that everything written is from one step.
  const still = subject.adapters.reduce(
    (inner, { state }) =>
      () =>
        state.turns.run(inner),
    work,
  )
  return subject.base.lifetime.use(still)
}

async function readBack(
  subject: Subject,
  product: Product,
  sequences: readonly Int32Array[],
  { onProgress, signal }: Control,
): Promise<Drift> {
  const tell = (loadedBytes: number, totalBytes: number): WriteProgress => ({
    phase: 'check',
    doneBytes: loadedBytes,
    totalBytes,
  })
  const written = await product.reopen({
    precision: 'fp32',
    signal,
    ...(onProgress
      ? { onProgress: ({ loadedBytes, totalBytes }) => onProgress(tell(loadedBytes, totalBytes)) }
      : {}),
  })
  try {
    return await measureDrift(subject, written.subject, sequences, signal)
  } finally {
    await written.close()
  }
}

async function reopenModel(base: BaseModel, path: string, options: ReopenOptions): Promise<Reopened> {
  const written = await base.reopen(path, { device: base.device, ...options })
  return {
    subject: { base: written, adapters: [] },
    close: () => written.lifetime.dispose(() => written.native.dispose()),
  }
}

async function reopenOllama(
  base: BaseModel,
  folder: string,
  separate: boolean,
  options: ReopenOptions,
): Promise<Reopened> {
  const model = await reopenModel(base, join(folder, MODEL_FILE), options)
  if (!separate) return model
  try {
    const adapter = await reopenGgufAdapter(model.subject.base, join(folder, ADAPTER_FILE))
    const close = async () => {
      await adapter.close()
      await model.close()
    }
    return { subject: adapter.subject, close }
  } catch (error) {
    await model.close()
    throw error
  }
}

async function reopenGgufAdapter(base: BaseModel, path: string): Promise<Reopened> {
  return reopenAdapter(
    base,
    await openGgufAdapter(path, base.graph, base.sites, ggufFormOf(base.graph.family)),
  )
}

/** Loads a written adapter onto the base it was exported from. */
async function reopenAdapter(
  base: BaseModel,
  { description, parameters }: Pick<AdapterFolder, 'description' | 'parameters'>,
): Promise<Reopened> {
  const native = addon().createAdapter(description.spec, { trainable: false, device: base.device })
  try {
    for await (const { name, values } of parameters()) native.write(name, 'value', values)
  } catch (error) {
    await native.dispose()
    throw error
  }
  const about = {
    whole: null,
    trainable: false,
    optimizer: null,
    trainedOn: null,
    format: null,
    card: null,
    privacy: [],
    version: 0,
  }
  const state = { description, native, ...about, turns: new Turns() }
  return {
    subject: { base, adapters: [{ state, weight: 1, rank: null }] },
    close: () => native.dispose(),
  }
}
