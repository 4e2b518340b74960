/**
 * The properties of a run that determine its step time (model, storage, strategy, and shape), and smaller models with
 * the same properties.
 */
import { type Graph, nodesOf } from '../graph/graph.js'
import { graphOf } from '../models/index.js'
import { addon, type PlanOptions, type StateSpec, type StorageFormat } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { optimizerState } from '../options/optimizers.js'

import { MemoryReport } from '../planning/memory-report.js'
import { TRAIN_PLAN, trainingPlans } from '../planning/plans.js'
import type { StepSetting, TimedOptions } from '../planning/step-setting.js'
import { describeAdapter, linearSites, weightSites } from '../strategies/describe.js'
import type { AdapterDescription, StrategyConfig } from '../strategies/strategy.js'
import type { StepWork } from './estimate.js'

/** A setting prepared for the engine. */
export interface LaidOut {
  graph: Graph
  formats: Record<string, StorageFormat>
  description: AdapterDescription
  plan: PlanOptions
  state: StateSpec
  work: StepWork
  memory: MemoryReport
}

export function layOut(setting: StepSetting): LaidOut {
  const { config, formatOf, precision, strategy, options } = setting
  const graph = graphOf(config)
  const formats = Object.fromEntries(graph.weights.map(({ name }) => [name, formatOf(name)]))
  const description = describeAdapter(strategy, linearSites(graph), {
    strict: false,
    weights: weightSites(graph),
  })
  const { spec } = description
  const capacity = { ...options, activationOffloading: false, metricForBestModel: 'loss' as const }
  const on = { precision, device: 'cpu' } as const
  const plan = trainingPlans(spec, capacity, on, false)[TRAIN_PLAN] as PlanOptions
  const { resident: _, ...state } = optimizerState(options, strategy)
  const memory = new MemoryReport(
    translated(() =>
      addon().plan(graph, formats, [{ spec, trainable: true, state }], { [TRAIN_PLAN]: plan }),
    ),
  )
  return { graph, formats, description, plan, state, memory, work: workOf(graph, options, memory) }
}

/** Products per attention kernel, each over all visible pairs of query and key. */
const ATTENTION_PRODUCTS: Readonly<Record<string, number>> = { attention: 2, attention_backward: 5 }

function workOf(graph: Graph, options: TimedOptions, memory: MemoryReport): StepWork {
  const { perDeviceTrainBatchSize: sequences, maxSeqLength: length } = options
  const heads = new Set(nodesOf(graph, 'lm_head').map(({ path }) => path))
  const attentions = new Map(nodesOf(graph, 'attention').map((node) => [node.path, node]))
  const work = { tokens: sequences * length, blocks: 0, head: 0, trained: memory.trainableParameters }
  for (const { node, kernel, multiplyAdds } of memory.timeline) {
    work[heads.has(node) ? 'head' : 'blocks'] += multiplyAdds
    const attention = attentions.get(node)
    if (attention === undefined) continue
    const near = Math.min(length, attention.window ?? length)
    const pairs = (near * (near + 1)) / 2 + (length - near) * near
    const product = sequences * pairs * attention.heads * attention.headDim
    work.blocks += (ATTENTION_PRODUCTS[kernel] ?? 0) * product
  }
  return work
}

/** Reduced size of a model. */
interface Size {
  layers: number
  vocabulary: number
  /** Divisor of the width: hidden size, intermediate size, and heads. */
  divisor: number
  sequences: number
  length: number
}

/** K-quants store rows in blocks of this many elements. */
const ROUND = 256
const LEAST_TOKENS = 512
const LEAST_LENGTH = 256
const LEAST_WIDTH = 512
const LEAST_VOCABULARY = 1024
const MOST_BLOCKS = 8
/** A block that would exceed its target time by this factor is not timed. */
const PATIENCE = 16

/** The three models from which times are extrapolated: one block, more blocks, and a larger vocabulary. */
export type Miniatures = [small: StepSetting, deep: StepSetting, wide: StepSetting]

/**
 * Models with the same blocks as the run's or, if these take too long, blocks as wide as possible.
 * @param budget approximate multiply-adds per micro-batch
 * @returns undefined if even the smallest model far exceeds the budget
 */
export function miniatures(setting: StepSetting, work: StepWork, budget: number): Miniatures | undefined {
  const { config, options } = setting
  const layers = config.num_hidden_layers as number
  const vocabulary = config.vocab_size as number
  const hidden = config.hidden_size as number
  let { perDeviceTrainBatchSize: sequences, maxSeqLength: length } = options
  let divisor = 1
  const block = () => ((work.blocks / layers) * ((sequences * length) / work.tokens)) / divisor ** 2
  while (block() > budget && sequences > 1 && (sequences >> 1) * length >= LEAST_TOKENS) sequences >>= 1
  for (const next of divisorsOf(setting)) if (block() > budget && hidden / next >= LEAST_WIDTH) divisor = next
  while (block() > 2 * budget && length >= 2 * LEAST_LENGTH) length >>= 1
  if (block() > PATIENCE * budget) return undefined
  const least = Math.min(LEAST_VOCABULARY, Math.ceil(vocabulary / 4))
  // Forward and backward, derived from the tokens of the micro-batch.
  const perRow = (2 * sequences * length * hidden) / divisor
  const size = { vocabulary: least, divisor, sequences, length }
  const more = Math.max(1, Math.min(MOST_BLOCKS, Math.floor(budget / block())))
  const rows = Math.min(vocabulary, Math.max(4 * least, least + Math.floor(budget / perRow)))
  return [
    miniature(setting, { ...size, layers: 1 }),
    miniature(setting, { ...size, layers: 1 + more }),
    miniature(setting, { ...size, layers: 1, vocabulary: rows }),
  ]
}

function headsOf({ config }: StepSetting) {
  const heads = config.num_attention_heads as number
  const kvHeads = (config.num_key_value_heads as number | undefined) ?? heads
  const headDim = (config.head_dim as number | undefined) ?? (config.hidden_size as number) / heads
  return { heads, kvHeads, headDim }
}

/** Divisors of the number of heads, in ascending order. */
function divisorsOf(setting: StepSetting): number[] {
  const { heads, kvHeads } = headsOf(setting)
  return Array.from({ length: heads }, (_, i) => i + 1).filter(
    (one) => heads % one === 0 && (kvHeads % one === 0 || kvHeads === 1),
  )
}

const LAYER = /(?<=\.layers\.)\d+/

/** Drops layers of removed blocks from a strategy that lists layers. */
function within(strategy: StrategyConfig, layers: number): StrategyConfig {
  const kept = (value: unknown) =>
    Array.isArray(value)
      ? value.filter((name) => !(typeof name === 'string' && Number(LAYER.exec(name)?.[0] ?? 0) >= layers))
      : value
  return Object.fromEntries(
    Object.entries(strategy).map(([key, value]) => [key, kept(value)]),
  ) as unknown as StrategyConfig
}

/** Keys of widths; a model of one family has the hidden size and one or two of the others. */
const WIDTHS = ['hidden_size', 'intermediate_size', 'shared_intermediate_size', 'block_ff_dim']

/** Keys of further heads, which become fewer with the width. */
const HEADS = ['linear_num_key_heads', 'linear_num_value_heads']

function miniature(setting: StepSetting, size: Size): StepSetting {
  const { config, formatOf, options } = setting
  const layers = config.num_hidden_layers as number
  const { heads, kvHeads, headDim } = headsOf(setting)
  const { divisor } = size
  const narrower = (width: unknown) =>
    divisor === 1 || typeof width !== 'number'
      ? width
      : Math.max(ROUND, Math.round(width / divisor / ROUND) * ROUND)
  const fewer = (count: unknown) =>
    typeof count === 'number' && count % divisor === 0 ? count / divisor : count
  const perLayer = Object.entries(config).flatMap(([key, value]) =>
    Array.isArray(value) && value.length === layers
      ? [[key, Array.from({ length: size.layers }, (_, layer) => value[layer % layers])]]
      : [],
  )
  return {
    ...setting,
    config: {
      ...config,
      ...Object.fromEntries(perLayer),
      num_hidden_layers: size.layers,
      vocab_size: size.vocabulary,
      ...Object.fromEntries(WIDTHS.flatMap((key) => (key in config ? [[key, narrower(config[key])]] : []))),
      ...Object.fromEntries(HEADS.flatMap((key) => (key in config ? [[key, fewer(config[key])]] : []))),
      num_attention_heads: heads / divisor,
      num_key_value_heads: Math.max(1, kvHeads / divisor),
      head_dim: headDim,
    },
    // There may be more blocks than the model has.
    formatOf: (name) => formatOf(name.replace(LAYER, (layer) => String(Number(layer) % layers))),
    strategy: within(setting.strategy, size.layers),
    options: {
      ...options,
      perDeviceTrainBatchSize: size.sequences,
      maxSeqLength: size.length,
    },
  }
}
