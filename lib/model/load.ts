/** Loading of a model: its files, the choice of how weights are held, and threads. */
import * as z from 'zod'
import type { BaseModel } from '../base/base.js'
import { callback, checkedOptions, checkedPath } from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError, FileFormatError } from '../core/errors.js'
import { once } from '../core/once.js'
import { flag } from '../core/schema.js'
import { WorkerTokenizer } from '../data/worker-tokenizer.js'
import { type ModelFiles, openModelFiles } from '../formats/model-files.js'
import { readRopeFactors } from '../formats/rope-factors.js'
import type { Graph } from '../graph/graph.js'
import { type Located, locate } from '../hub/locate.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { classifierGraph, headDeviation } from '../models/classifier.js'
import { graphOf } from '../models/index.js'
import { addon } from '../native/addon.js'
import { cardOf, type DeviceOption, deviceOf } from '../native/device.js'
import { translated } from '../native/errors.js'
import { Lifetime } from '../native/handles.js'
import { labelsSchema } from '../options/labels.js'
import { linearSites, weightSites } from '../strategies/describe.js'
import { readTokenizerSource } from '../tokenizer/read-source.js'
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
import { type LoadProgress, matchWeights, quantizesAny, storageFormats } from '../weights/weights.js'
import { Model } from './model.js'

/** Options of `loadModel`. */
export interface LoadOptions extends HubOptions {
  /**
   * Quantization of the linears: `none`, `nf4` or `fp4` (with double quantization), `int8`, or the result of `nf4()`,
   * `fp4()`, or `int8()`; `keep` leaves the blocks of a GGUF file as they are. Default: as the files of
   * bitsandbytes are, if they are that, else `defaultQuantization`.
   */
  quantization?: Quantization['type'] | Quantization
  /**
   * The same for embedding and head, which are one where they are tied. Default `none`, or `keep` where `quantization`
   * is that.
   */
  embeddingQuantization?: Quantization['type'] | Quantization
  /**
   * Load it as a classifier: names of at least two classes, in the order of their ids. Its head scores these in place of
   * tokens, from the last token of a text, and is trained and saved with an adapter. Default: a model of tokens.
   */
  labels?: readonly string[]
  /** For files that are not quantized, when `quantization` is absent. Default `none`. */
  defaultQuantization?: Quantization['type'] | Quantization
  /** Type of matrix operands: `fp32`, `bf16`, or `auto` (default), which is bf16 where the CPU multiplies it faster. */
  precision?: PrecisionOption
  /**
   * Leave the weights in a file, with at most so many bytes of it in memory at a time, as in `2GiB`, so that a model
   * may be larger than memory; `true` chooses. On a GPU they lie in pinned memory of the host, and this is what of them is
   * on the GPU at a time. Default false.
   */
  pagedWeights?: boolean | string
  /** Device to run on: `auto` (default), `cpu`, `cuda` (the first GPU that can be used), or `cuda:N`. `auto` is `cuda` if there is one. */
  device?: DeviceOption
  /** Threads of the process's engine. Default `auto`: LOWRANK_THREADS, else what the process may use. */
  threads?: number | 'auto'
  /**
   * Keep the weights on the disk as they are held, where quantizing them took more than half a second, and map them
   * from there the next time. Default true; see `LOWRANK_WEIGHT_CACHE`.
   */
  cacheWeights?: boolean
  /** Called after every tensor. */
  onProgress?: (progress: LoadProgress) => void
  /**
   * Called with what is allowed and seldom meant in how the model is used, such as a chat with an adapter that was
   * trained on raw text; a sentence, each once. Default: `process.emitWarning`.
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
  onProgress: callback<NonNullable<LoadOptions['onProgress']>>().optional(),
  onWarning: callback<NonNullable<LoadOptions['onWarning']>>().optional(),
  ...hubShape,
})

/**
 * Loads a model. Weights go from the file into their format piece by piece; the full-precision model is never in
 * memory.
 * @param name a folder with config.json and safetensors, a .gguf file, or a name on the Hugging Face hub:
 * `owner/name`, `owner/name/file.gguf`, each also with `@revision`; what exists on disk goes first
 * @throws {ConfigError} for a device that cannot be used
 * @throws {FileFormatError} when files are missing, truncated or malformed
 * @throws {HubError} when the hub does not have it, does not give it, or cannot be reached
 * @throws {UnsupportedError} for an architecture or dtype that is not here
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
  const located = await locate('model', name, { revision, onDownload, signal })
  const files = await openModelFiles(located.path)
  const breathe = breather()
  const tokenGraph = graphOf(files.config, await readRopeFactors(files))
  const { labels = null } = given
  const graph = labels === null ? tokenGraph : classifierGraph(tokenGraph, labels.length)
  await breathe()
  const sources = matchWeights(graph, files.tensors)
  setThreads(given.threads)
  const dtypeOf = (name: string) => files.tensors.get(name)?.dtype ?? 'F32'
  const device = deviceOf(given.device)
  const choice = storageChoice(name, graph, dtypeOf, given, quantizationOf(given.defaultQuantization), device)
  const { quantization, embeddingQuantization, precision } = choice
  await breathe()
  const formats = storageFormats(graph, dtypeOf, choice)
  const paged = pagedBudget(given.pagedWeights)
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
        // Files whose weights are stored as they are need no cached copy.
        cached: given.cacheWeights && quantizesAny(graph, dtypeOf, choice),
        kept: given.cacheWeights,
        paged,
        ...(onProgress ? { onProgress } : {}),
        ...(signal ? { signal } : {}),
      },
    )
  } catch (error) {
    await native.dispose()
    throw error
  }
  const source = once(() => readTokenizerSource(files))
  const lifetime = new Lifetime(`The model ${name}`, 'load it again with loadModel()')
  const sites = linearSites(graph)
  let made: Promise<WorkerTokenizer> | undefined
  const said = new Set<string>()
  return {
    ...originOf(located),
    files,
    graph,
    labels,
    sites,
    weights: weightSites(
      graph,
      labels === null ? undefined : { labels, deviation: headDeviation(files.config) },
    ),
    native,
    device,
    formats,
    quantization,
    embeddingQuantization,
    precision,
    lifetime,
    tokenizerSource: source,
    tokenizer: () => {
      made ??= openTokenizer(files, lifetime, graph)
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

/** Name of the model in adapters that are trained on it. */
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
