/** Loads a model: reads its files, chooses storage formats, and sets the thread count. */
import * as z from 'zod'
import type { BaseModel } from '../base/base.js'
import { callback, checkedOptions, checkedPath } from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError, FileFormatError } from '../core/errors.js'
import { once } from '../core/once.js'
import { flag } from '../core/schema.js'
import { WorkerTokenizer } from '../data/worker-tokenizer.js'
import type { ModelFiles } from '../formats/model-files.js'
import { readRopeFactors } from '../formats/rope-factors.js'
import { dtypesIn } from '../formats/tensor-source.js'
import type { Graph } from '../graph/graph.js'
import { type Located, locate } from '../hub/locate.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { classifierGraph, headDeviation } from '../models/classifier.js'
import { graphOf, openModelFiles } from '../models/index.js'
import { graphPart, ranksOfNodes } from '../models/part.js'
import { addon } from '../native/addon.js'
import { cardOf, type DeviceOption, deviceOf, readyKernels } from '../native/device.js'
import { translated } from '../native/errors.js'
import { Lifetime } from '../native/handles.js'
import { labelsSchema } from '../options/labels.js'
import { type Split, splitSchema } from '../options/split.js'
import { linearSites, weightSites } from '../strategies/describe.js'
import { layerPart } from '../strategies/part.js'
import { readTokenizerSource } from '../tokenizer/read-source.js'
import { presentRanks } from '../train/processes/processes.js'
import { storageChoice } from '../weights/choice.js'
import { holdWeights } from '../weights/held.js'
import {
  deviceSchema,
  type PrecisionOption,
  pagedBudget,
  pagedWeightsSchema,
  precisionSchema,
  quantizationOf,
  quantizationSchema,
  threadsSchema,
} from '../weights/options.js'
import { embeddingAsUsual, type Quantization } from '../weights/quantization.js'
import {
  formatsIn,
  type LoadProgress,
  matchWeights,
  quantizesAny,
  storageFormats,
} from '../weights/weights.js'
import { Model } from './model.js'

/** Options of `loadModel`. */
export interface LoadOptions extends HubOptions {
  /**
   * Quantization of the linear layers: `none`, `nf4` or `fp4` (with double quantization), `int8`, or the result of
   * `nf4()`, `fp4()`, or `int8()`; `keep` uses the blocks of a GGUF file unchanged. Default: the quantization of a
   * bitsandbytes checkpoint if it is one, else `defaultQuantization`.
   */
  quantization?: Quantization['type'] | Quantization
  /**
   * Quantization of the embedding and the head, which share one matrix in models with tied weights. Default `none`, or
   * `keep` if `quantization` is `keep`.
   */
  embeddingQuantization?: Quantization['type'] | Quantization
  /**
   * Load the model as a classifier with these class names, at least two, in the order of their ids. The head then
   * scores classes instead of tokens, from the last token of a text, and is trained and saved with an adapter. Default:
   * a language model.
   */
  labels?: readonly string[]
  /** Quantization of unquantized files when `quantization` is not given. Default `none`. */
  defaultQuantization?: Quantization['type'] | Quantization
  /**
   * Data type of matrix operands: `fp32`, `bf16`, or `auto` (default), which picks bf16 if the CPU multiplies it
   * faster.
   */
  precision?: PrecisionOption
  /**
   * Keep the weights in a file and at most this many bytes of them in memory, e.g. `2GiB`, so that a model may be
   * larger than memory; `true` chooses the size. On a GPU the weights stay in pinned host memory, and the size limits
   * how much of them is on the GPU at a time. Default false.
   */
  pagedWeights?: boolean | string
  /**
   * Device to run on: `auto` (default), `cpu`, `cuda` (the first usable GPU), or `cuda:N`. `auto` uses a GPU if there
   * is one.
   */
  device?: DeviceOption
  /**
   * Number of CPU threads, for the whole process. Default `auto`: LOWRANK_THREADS, else all CPUs available to the
   * process.
   */
  threads?: number | 'auto'
  /**
   * Cache the quantized weights on disk if quantizing took more than half a second, and memory-map them on the next
   * load. Default true; see `LOWRANK_WEIGHT_CACHE`.
   */
  cacheWeights?: boolean
  /** `layers`: load only those of this rank, if the process has joined others. Default `rows`. @internal */
  split?: Split
  /** Called after each tensor. */
  onProgress?: (progress: LoadProgress) => void
  /**
   * Called with warnings about usage that is allowed but rarely intended, such as chatting with an adapter that was
   * trained on raw text; one sentence each, never repeated. Default: `process.emitWarning`.
   */
  onWarning?: (message: string) => void
}

const MODEL = 'a folder, a .gguf file or a name on the hub'

const loadSchema = z.strictObject({
  labels: labelsSchema.optional(),
  quantization: quantizationSchema.optional(),
  embeddingQuantization: quantizationSchema.optional(),
  defaultQuantization: quantizationSchema.default('none'),
  precision: precisionSchema,
  pagedWeights: pagedWeightsSchema,
  device: deviceSchema,
  threads: threadsSchema,
  cacheWeights: flag().default(true),
  split: splitSchema,
  onProgress: callback<NonNullable<LoadOptions['onProgress']>>().optional(),
  onWarning: callback<NonNullable<LoadOptions['onWarning']>>().optional(),
  ...hubShape,
})

/**
 * Loads a model. Weights are converted to their storage format tensor by tensor, so the full-precision model is never
 * in memory as a whole.
 * @param name a folder with config.json and safetensors, a .gguf file, or a name on the Hugging Face Hub: `owner/name`
 * or `owner/name/file.gguf`, optionally with `@revision`; local paths take precedence
 * @throws {ConfigError} for a device that cannot be used
 * @throws {FileFormatError} when files are missing, truncated, or malformed
 * @throws {HubError} when the model is not on the Hub, access is denied, or the Hub cannot be reached
 * @throws {UnsupportedError} for an unsupported architecture or dtype
 * @example const model = await loadModel('HuggingFaceTB/SmolLM2-135M', { quantization: nf4() })
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<Model> {
  checkedPath(name, 'loadModel()', 'name', MODEL)
  return new Model(await openBase(name, options))
}

async function openBase(name: string, options: LoadOptions): Promise<BaseModel> {
  const given = checkedOptions(loadSchema, options, 'loadModel()')
  const { onProgress, onDownload, onWarning, revision, signal } = given
  signal?.throwIfAborted()
  const { rss: runtimeBytes } = addon().residentBytes()
  const located = await locate('model', name, { revision, onDownload, signal })
  const files = await openModelFiles(located.path)
  const breathe = breather()
  const tokenGraph = graphOf(files.config, await readRopeFactors(files))
  const { labels = null } = given
  const whole = labels === null ? tokenGraph : classifierGraph(tokenGraph, labels.length)
  const { rank: index, size: count, place } = presentRanks()
  const isSplit = given.split === 'layers' && count > 1
  const graph = isSplit ? graphPart(whole, index, count) : whole
  await breathe()
  const sources = matchWeights(graph, files.tensors)
  setThreads(given.threads)
  const dtypeOf = dtypesIn(files.tensors)
  const device = deviceOf(given.device, place)
  const choice = storageChoice(name, whole, dtypeOf, given, quantizationOf(given.defaultQuantization), device)
  const { quantization, embeddingQuantization, precision } = choice
  await breathe()
  const formats = formatsIn(graph, storageFormats(whole, dtypeOf, choice))
  const paged = pagedBudget(given.pagedWeights)
  await readyKernels(device)
  const native = translated(() => addon().createModel(graph, { device }))
  try {
    const tables = embeddingAsUsual({ quantization, embeddingQuantization })
      ? ''
      : `-${embeddingQuantization.type}-embedding`
    const origin = {
      path: located.path,
      fingerprint: files.fingerprint,
      quantization: quantization.type + tables,
    }
    await holdWeights(
      { native, graph, sources, formats, card: cardOf(device), origin },
      {
        // Weights stored as they are in the files need no cached copy.
        cached: given.cacheWeights && quantizesAny(graph, dtypeOf, choice),
        kept: given.cacheWeights,
        paged,
        ...(onProgress ? { onProgress } : {}),
        signal,
      },
    )
  } catch (error) {
    await native.dispose()
    throw error
  }
  const source = once(() => readTokenizerSource(files))
  const lifetime = new Lifetime(`The model ${name}`, 'load it again with loadModel()')
  const sites = linearSites(whole)
  const classes = labels === null ? undefined : { labels, deviation: headDeviation(files.config) }
  let made: Promise<WorkerTokenizer> | undefined
  let opened: WorkerTokenizer | undefined
  const said = new Set<string>()
  return {
    ...originOf(located),
    files,
    graph,
    labels,
    sites,
    weights: weightSites(whole, classes),
    part: isSplit ? layerPart(graph, ranksOfNodes(whole, count), classes) : null,
    native,
    device,
    runtimeBytes,
    formats,
    quantization,
    embeddingQuantization,
    precision,
    lifetime,
    tokenizerSource: source,
    tokenizer: () => {
      // One that did not open, or whose process has ended, is opened again.
      if (opened?.hasFailed) opened = made = undefined
      made ??= openTokenizer(files, lifetime, graph).then(
        (tokenizer) => {
          opened = tokenizer
          return tokenizer
        },
        (error) => {
          made = undefined
          throw error
        },
      )
      return made
    },
    closeTokenizer: async () => (await made?.catch(() => undefined))?.close(),
    warn: (message) => {
      if (said.has(message)) return
      said.add(message)
      if (onWarning) onWarning(message)
      else process.emitWarning(message, 'LowrankWarning')
    },
    reopen: openBase,
  }
}

/** Name of the base model, as recorded in adapters trained on it. */
function originOf({ path, hub }: Located): Pick<BaseModel, 'name' | 'revision'> {
  if (hub === null) return { name: path, revision: null }
  return { name: hub.file === null ? hub.repo : `${hub.repo}/${hub.file}`, revision: hub.commit }
}

function setThreads(threads: number | 'auto'): void {
  const asked = threads === 'auto' ? process.env.LOWRANK_THREADS : threads
  if (asked === undefined || asked === '') return
  const count = Number(asked)
  if (!Number.isInteger(count) || count < 1)
    throw new ConfigError(`LOWRANK_THREADS is ${JSON.stringify(asked)}, expected a positive integer.`, {
      asked,
    })
  translated(() => addon().configure({ threads: count }))
}

async function openTokenizer(
  { kind, path }: ModelFiles,
  lifetime: Lifetime,
  { vocabSize: rows }: Graph,
): Promise<WorkerTokenizer> {
  const tokenizer = await WorkerTokenizer.open({ kind, path }, lifetime)
  const { vocabSize: tokens } = tokenizer.about
  if (tokens <= rows) return tokenizer
  await tokenizer.close()
  throw new FileFormatError(
    `the tokenizer has ${tokens} tokens and the model's embedding only ${rows} rows; they do not belong together.`,
    { tokens, rows },
  )
}
