/** Computes the result of `lowrank plan`: memory, choices that fit, and time. */

import { existsSync } from 'node:fs'
import type { DownloadProgress } from '../../hub/locate.js'
import { layerRanges } from '../../models/part.js'
import type { StepCounts } from '../../native/addon.js'
import type { PagedAdamW } from '../../options/types.js'
import { type Card, sizesOf } from '../../planning/cards.js'
import { type Fit, type FitChoice, fitRun } from '../../planning/fit.js'
import type { MemoryReport } from '../../planning/memory-report.js'
import { openPlanner, type PlanModelOptions, type Planner } from '../../planning/plan.js'
import type { RunConfig } from '../../train/config/config.js'
import { pagedHere, planShape } from '../../train/config/preflight.js'
import { type DataSize, dataSize, type RunTime, runTime, threadsOf } from '../../train/run/run-time.js'
import { Interruption } from '../interrupt.js'
import type { Output } from '../output.js'
import { DownloadShown, StatusLine } from '../progress.js'
import { apartFrom, nothingFits, planShapeOf, shapeOfChoice } from './fit.js'
import { type ProcessMemory, processMemory } from './process-memory.js'

export interface Planned extends Pick<Planner, 'quantization' | 'embeddingQuantization'> {
  memory: MemoryReport
  /** The optimizer that the run would use on this machine, if it differs from the planned one. */
  paged?: { optimizer: PagedAdamW; peakBytes: number }
  /** Choices that fit, at least one; undefined without a budget. */
  fit?: Fit
  /** Memory of the process in addition to the plan. */
  beside: ProcessMemory
  /** Time of the plan; with a budget, of the best choice. */
  time: RunTime
  /** Kernels of the same plan, if requested or if it is for a card. */
  kernels?: StepCounts
  /** The parts of a run whose layers are split over ranks; `memory` is that of the largest. */
  parts?: RankPart[]
}

/** The layers of a rank, from first to last. */
export interface RankPart {
  first: number
  last: number
  memory: MemoryReport
  planner: Planner
}

/** Requests in addition to the config. */
interface Asked {
  budget: number | undefined
  /** True if the config names its data. */
  hasData: boolean
  /** True to count kernels. */
  counts: boolean
  /** The card to plan for instead of this machine's CPU. */
  card: Card | undefined
  /** Number of ranks, if given. */
  ranks: number | undefined
}

export async function planned(
  config: RunConfig,
  { budget, hasData, counts, card, ranks = 1 }: Asked,
  output: Output,
): Promise<Planned> {
  const interruption = new Interruption(output, 'Stopping.')
  const line = new StatusLine(output, 'Planning')
  line.update('')
  let download: DownloadShown | undefined
  try {
    const options = {
      ...planShape(config),
      ...(card ? { card: sizesOf(card) } : {}),
      revision: config.revision,
      signal: interruption.signal,
      onDownload: (progress: DownloadProgress) => {
        line.clear()
        download ??= new DownloadShown(output, config.model)
        download.update(progress)
      },
    }
    const { dataset, evalDataset } = config
    const data = hasData ? [dataset, ...(evalDataset === null ? [] : [evalDataset])] : []
    const beside = () =>
      processMemory(data, {
        signal: interruption.signal,
        onMeasure: () => line.update('measuring the memory of Node.js, once for this machine'),
      })
    const timeOf = async (setting: Planner['setting'], run: RunConfig): Promise<RunTime> =>
      card || ranks > 1
        ? { unknown: `no run has been timed on ${card ? `a ${card.label}` : 'several ranks'}` }
        : runTime(setting, run, {
            ...{ signal: interruption.signal, threads: threadsOf(config.threads) },
            data: hasData ? () => sizeOfData(config, interruption.signal) : undefined,
            onMeasure: () => line.update('measuring the speed of this machine, once'),
          })
    if (budget === undefined) {
      const split =
        config.split === 'layers' && ranks > 1 ? await splitOver(ranks, config.model, options) : []
      const part = largestOf(split)
      const { plan, count, setting, ...held } = part?.planner ?? (await openPlanner(config.model, options))
      const memory = part?.memory ?? plan()
      const [process, time] = [await beside(), await timeOf(setting, config)]
      const kernels = counts || card ? { kernels: count() } : {}
      const paged = card ? {} : pagedHere(config, plan)
      const parts = split.length > 0 ? { parts: split } : {}
      return { memory, ...held, beside: process, time, ...paged, ...kernels, ...parts }
    }
    const { gradientAccumulationSteps, maxGradNorm } = config
    const held = await beside()
    const left = Math.max(0, budget - apartFrom(held, card).bytes)
    const fit = await fitRun(config.model, { ...options, gradientAccumulationSteps, maxGradNorm }, left)
    const { least } = fit
    if (least) throw nothingFits(config, least, fit, budget, apartFrom(held, card))
    const [best] = fit.choices as [FitChoice]
    const { quantization, embeddingQuantization, setting } = fit
    const { perDeviceTrainBatchSize, gradientCheckpointing, optimizerInBackward = false } = best
    const chosen = { perDeviceTrainBatchSize, gradientCheckpointing, optimizerInBackward }
    const time = await timeOf(
      { ...setting, options: { ...setting.options, ...chosen } },
      { ...config, ...shapeOfChoice(best) },
    )
    const planner = counts || card ? await openPlanner(config.model, options) : undefined
    const kernels = planner ? { kernels: planner.count(planShapeOf(best)) } : {}
    return { memory: best.memory, quantization, embeddingQuantization, fit, beside: held, time, ...kernels }
  } finally {
    line.clear()
    download?.end()
    interruption.dispose()
  }
}

/** A plan for the layers of each rank. */
async function splitOver(ranks: number, model: string, options: PlanModelOptions): Promise<RankPart[]> {
  const parts: RankPart[] = []
  for (let rank = 0; rank < ranks; rank++) {
    const planner = await openPlanner(model, { ...options, part: { rank, ranks } })
    const { first, end } = layerRanges(planner.layers, ranks)[rank] as { first: number; end: number }
    parts.push({ first, last: end - 1, memory: planner.plan(), planner })
  }
  return parts
}

function largestOf(parts: readonly RankPart[]): RankPart | undefined {
  return parts.reduce<RankPart | undefined>(
    (most, part) => (most === undefined || part.memory.peakBytes > most.memory.peakBytes ? part : most),
    undefined,
  )
}

/** Size of the data; undefined unless the tokenizer is on disk and the data can be read. */
async function sizeOfData(config: RunConfig, signal: AbortSignal): Promise<DataSize | undefined> {
  const { model, dataset, evalDataset, evalFraction } = config
  if (!existsSync(model) || model.endsWith('.json')) return undefined
  const kind = model.endsWith('.gguf') ? 'gguf' : 'folder'
  const all = await dataSize(dataset, { kind, path: model }, config, signal)
  const share = evalDataset === null ? 1 - evalFraction : 1
  return all && { examples: share * all.examples, tokens: share * all.tokens }
}
