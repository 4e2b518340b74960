/** Plans the memory of a run from a model's config and file headers alone, exactly as the run itself does. */

import { readdir, stat } from 'node:fs/promises'
import * as z from 'zod'
import { checkedOptions, checkedPath } from '../core/arguments.js'
import { badValue, flag, integer } from '../core/schema.js'
import { isStoredQuantized, storedQuantization as storedIn } from '../formats/bnb.js'
import { refuseMlx } from '../formats/foreign-weights.js'
import { INDEX_FILE, numberedShards, readShardIndex, SINGLE_FILE } from '../formats/shard-index.js'
import { dtypesIn } from '../formats/tensor-source.js'
import type { Graph } from '../graph/graph.js'
import { locate } from '../hub/locate.js'
import { type HubOptions, hubShape } from '../hub/options.js'
import { readJsonObject } from '../io/input.js'
import { fileInside } from '../io/inside.js'
import { classifierGraph, headDeviation } from '../models/classifier.js'
import { graphOf, openModelFiles, textConfigOf } from '../models/index.js'
import { graphPart, ranksOfNodes } from '../models/part.js'
import { addon, type CardSizes, type StepCounts, type StorageFormat } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { labelsSchema } from '../options/labels.js'
import { memorySchemas } from '../options/memory-shape.js'
import { optimizerState } from '../options/optimizers.js'
import { trainShape } from '../options/options.js'
import type { MemoryShape, TrainOptions } from '../options/types.js'
import { describeAdapter, linearSites, weightSites } from '../strategies/describe.js'
import { rulesOf, strategySchema } from '../strategies/index.js'
import { describePart, layerPart } from '../strategies/part.js'
import type { Classes, StrategyConfig } from '../strategies/strategy.js'
import { type Task, taskRules } from '../tasks/index.js'
import { storageChoice } from '../weights/choice.js'
import {
  type PrecisionOption,
  pagedBudget,
  precisionSchema,
  quantizationSchema,
  threadsSchema,
} from '../weights/options.js'
import type { Quantization } from '../weights/quantization.js'
import { formatsIn, storageFormats } from '../weights/weights.js'
import { MemoryReport } from './memory-report.js'
import { TRAIN_PLAN, trainingPlans } from './plans.js'
import type { StepSetting } from './step-setting.js'

/** Options that determine the memory of a run. */
export type PlanModelOptions = Partial<MemoryShape> &
  Partial<
    Pick<
      TrainOptions,
      | 'perDeviceTrainBatchSize'
      | 'maxSeqLength'
      | 'packing'
      | 'metricForBestModel'
      | 'evalGenerate'
      | 'tokenAccuracy'
    >
  > &
  HubOptions & {
    strategy: StrategyConfig
    /** Default: that of the model's files if they are quantized, else the one the strategy implies, else none. */
    quantization?: Quantization['type'] | Quantization
    /** As in `loadModel`. */
    embeddingQuantization?: Quantization['type'] | Quantization
    precision?: PrecisionOption
    /** Default causal_lm. */
    task?: Task
    /** Class names of a classifier, or their number; with task `classification`. */
    labels?: readonly string[] | number | null
    /** Whether the run evaluates. Default false. */
    evaluates?: boolean
    /** CPU threads; each has its own workspace. Default: the number used on this machine. */
    threads?: number | 'auto'
    /** An NVIDIA GPU to plan for instead of the CPU; it need not be present. */
    card?: CardSizes
    /** Plan only the layers of one rank, counted from 0, of all `ranks` that share the model. Default: all layers. */
    part?: { rank: number; ranks: number }
  }

const schema = z.strictObject({
  strategy: strategySchema,
  quantization: quantizationSchema.optional(),
  embeddingQuantization: quantizationSchema.optional(),
  precision: precisionSchema,
  evaluates: flag().default(false),
  task: trainShape.task,
  labels: z
    .union([labelsSchema, integer(2)], { error: 'a list of names, or their number' })
    .nullable()
    .default(null),
  threads: threadsSchema,
  card: z
    .strictObject(
      { sm: integer(80), multiprocessors: integer(1), sharedBytes: integer(1) },
      { error: 'sm, multiprocessors and sharedBytes of a card' },
    )
    .optional(),
  part: z
    .strictObject({ rank: integer(0), ranks: integer(1) }, { error: 'rank and ranks' })
    .refine(({ rank, ranks }) => rank < ranks, { error: 'a rank below ranks' })
    .optional(),
  ...hubShape,
  perDeviceTrainBatchSize: trainShape.perDeviceTrainBatchSize,
  maxSeqLength: trainShape.maxSeqLength,
  packing: trainShape.packing,
  metricForBestModel: trainShape.metricForBestModel,
  evalGenerate: trainShape.evalGenerate,
  tokenAccuracy: trainShape.tokenAccuracy,
  ...memorySchemas,
})

const CONFIG_LIMIT = 16 << 20

/**
 * Plans a training run without loading the model.
 * @param name a model folder, with weights or only config.json; a config.json file; a .gguf file; or a name on the Hub,
 * for which only config.json is downloaded (but a GGUF file as a whole)
 * @example (await planModel('models/Llama-3.1-70B/config.json', { strategy: qlora() })).peakBytes
 */
export async function planModel(name: string, options: PlanModelOptions): Promise<MemoryReport> {
  checkedPath(
    name,
    'planModel()',
    'name',
    'a model folder, its config.json, a .gguf file or a name on the hub',
  )
  return (await openPlanner(name, options)).plan()
}

/** Changes to the memory options, the number of sequences per micro-batch, and evaluation. */
export type PlanShape = Partial<MemoryShape> & Pick<PlanModelOptions, 'perDeviceTrainBatchSize' | 'evaluates'>

/** A model with just enough read from its files to plan it. */
export interface Planner {
  /** Quantization of the run. */
  quantization: Quantization
  embeddingQuantization: Quantization
  /** Settings that determine the time of a step. */
  setting: StepSetting
  /** The memory of the run, with some options changed. */
  plan(changes?: PlanShape): MemoryReport
  /** Number of layers of the whole model. */
  layers: number
  /** The work of one micro-batch, with some options changed. */
  count(changes?: PlanShape): StepCounts
}

/** Reads a model's shapes, for any number of plans. */
export async function openPlanner(name: string, options: PlanModelOptions): Promise<Planner> {
  const given = checkedOptions(schema, options, 'planModel()')
  const { revision, onDownload, signal } = given
  const shape = await openShape(name, { revision, onDownload, signal })
  const { config, dtypeOf } = shape
  const classes = classesOf(given, config)
  const whole = classes === undefined ? shape.graph : classifierGraph(shape.graph, classes.labels.length)
  const { rank, ranks } = given.part ?? { rank: 0, ranks: 1 }
  const graph = graphPart(whole, rank, ranks)
  const wanted = rulesOf(given.strategy).defaults(given.strategy).quantization
  const choice = storageChoice(name, whole, dtypeOf, onCard(given), wanted)
  const { quantization, embeddingQuantization, precision } = choice
  const formats = formatsIn(graph, storageFormats(whole, dtypeOf, choice))
  const all = describeAdapter(given.strategy, linearSites(whole), { weights: weightSites(whole, classes) })
  const { spec } =
    graph === whole ? all : describePart(all, layerPart(graph, ranksOfNodes(whole, ranks), classes))
  const on = given.card ?? (given.threads === 'auto' ? undefined : given.threads)
  const planned = (changes: PlanShape) => {
    const { evaluates, ...shape } = { ...given, ...changes }
    const state = optimizerState(shape, given.strategy)
    const plans = trainingPlans(spec, shape, { precision, device: given.card ?? 'cpu' }, evaluates)
    return { shape, adapters: [{ spec, trainable: true, state }], plans }
  }
  return {
    quantization,
    embeddingQuantization,
    layers: whole.layers,
    setting: {
      ...{ config, precision, strategy: given.strategy, options: given },
      formatOf: (weight) => formats[weight] as StorageFormat,
    },
    plan: (changes = {}) => {
      const { shape, adapters, plans } = planned(changes)
      const budget = pagedBudget(shape.pagedWeights)
      return new MemoryReport(translated(() => addon().plan(graph, formats, adapters, plans, on, budget)))
    },
    count: (changes = {}) => {
      const { adapters, plans } = planned(changes)
      return translated(() => addon().countStep(graph, formats, adapters, plans, on, TRAIN_PLAN))
    },
  }
}

/** @throws {ConfigError} when the labels of a classifier are unknown, or labels are given for another task */
function classesOf(
  { task, labels }: z.output<typeof schema>,
  config: Readonly<Record<string, unknown>>,
): Classes | undefined {
  const source = { name: 'planModel()', spelling: 'camel' } as const
  if (!taskRules(task).classes) {
    if (labels === null) return undefined
    throw badValue(source, 'labels', labels, `null with task ${task}`)
  }
  if (labels === null)
    throw badValue(source, 'labels', labels, `the classes, or how many there are, with task ${task}`)
  const names = typeof labels === 'number' ? Array.from({ length: labels }, (_, id) => String(id)) : labels
  return { labels: names, deviation: headDeviation(config) }
}

/** Every supported GPU multiplies bf16 faster. */
function onCard<T extends { precision: PrecisionOption; card?: CardSizes | undefined }>(options: T): T {
  return options.card && options.precision === 'auto' ? { ...options, precision: 'bf16' } : options
}

/** Properties of a model that are known without its weights. */
export interface ModelShape {
  config: Readonly<Record<string, unknown>>
  graph: Graph
  /** Dtype of a weight in its file. */
  dtypeOf: (name: string) => string
}

/** Reads a model's shapes. */
export async function openShape(name: string, options: HubOptions = {}): Promise<ModelShape> {
  const { path, hub } = await locate('config', name, options)
  const { config, dtypeOf } = await readShape(path, hub !== null)
  return { config, graph: graphOf(config), dtypeOf }
}

async function readShape(
  path: string,
  fromHub: boolean,
): Promise<{ config: Record<string, unknown>; dtypeOf: ModelShape['dtypeOf'] }> {
  const folder = (await stat(path)).isDirectory()
  const bare = folder ? await bareConfig(path, fromHub) : path.endsWith('.json') ? path : undefined
  if (bare !== undefined) {
    const whole = await readJsonObject(bare, CONFIG_LIMIT)
    refuseMlx(whole, path)
    const config = textConfigOf(whole, bare)
    const dtype = namedDtype(config)
    const stored = storedIn(config, bare)
    if (stored === undefined) return { config, dtypeOf: () => dtype }
    return { config, dtypeOf: (name) => (isStoredQuantized(stored, name) ? stored.dtype : dtype) }
  }
  const { config, tensors } = await openModelFiles(path)
  return { config, dtypeOf: dtypesIn(tensors, namedDtype(config)) }
}

/** The config of a folder without weights. A folder from the Hub may be partially downloaded. */
async function bareConfig(folder: string, fromHub: boolean): Promise<string | undefined> {
  const names = new Set(await readdir(folder))
  const some = [...names].some((name) => /\.safetensors(\.index\.json)?$/.test(name))
  const weights = some && (!fromHub || (await weightsWhole(folder, names)))
  return names.has('config.json') && !weights ? fileInside(folder, 'config.json') : undefined
}

async function weightsWhole(folder: string, names: ReadonlySet<string>): Promise<boolean> {
  if (names.has(SINGLE_FILE)) return true
  if (!names.has(INDEX_FILE)) return numberedShards(names)?.missing.length === 0
  const shards = await readShardIndex(await fileInside(folder, INDEX_FILE))
  return [...shards.keys()].every((shard) => names.has(shard))
}

function namedDtype(config: Record<string, unknown>): string {
  const name = config.dtype ?? config.torch_dtype
  if (name === 'bfloat16') return 'BF16'
  return name === 'float16' ? 'F16' : 'F32'
}
