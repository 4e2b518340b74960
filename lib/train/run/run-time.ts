/** Estimated time of a step and of a run, from rates measured on this machine. */
import { openDataset, STDIN } from '../../data/dataset.js'
import { encodeChunks } from '../../data/encode-dataset.js'
import { addon, type StorageFormat } from '../../native/addon.js'
import type { TrainOptions } from '../../options/types.js'
import type { StepSetting } from '../../planning/step-setting.js'
import { rulesOf } from '../../strategies/index.js'
import { taskRules } from '../../tasks/index.js'
import { type StepTime, stepTime } from '../../time/estimate.js'
import { type MeasureControl, measuredRates, measuringIsOff } from '../../time/measure.js'
import { layOut } from '../../time/setting.js'
import type { TokenizerOfModel } from '../../tokenizer/source.js'
import { encodeOptions, inputOf } from '../rows/data.js'
import type { DatasetConfig } from '../sources/data-sources.js'
import type { RunSetup } from './run-setup.js'

/** Estimated time of a run's steps, or why it is unknown. */
export type RunTime = KnownTime | { unknown: string }

/** Estimated time of a run's steps. */
export interface KnownTime extends StepTime {
  /** Remaining optimizer steps; null if they depend on unknown data. */
  steps: number | null
  /** Time of these steps, without evaluations, checkpoints, and loading. */
  runSeconds: number | null
}

/** Size of the examples of a run. */
export interface DataSize {
  examples: number
  tokens: number
}

export interface TimeOptions extends MeasureControl {
  threads: number
  /** Size of the training data. Default: every micro-batch is full, with rows of the maximum length. */
  data?: DataSize | (() => Promise<DataSize | undefined>) | undefined
  /** Number of steps, if known. */
  steps?: number | undefined
}

type Run = Pick<TrainOptions, 'gradientAccumulationSteps' | 'maxSteps' | 'numTrainEpochs'> &
  Partial<Pick<TrainOptions, 'task'>>

/** An abort rejects with the signal's reason; on any other failure the time is unknown. */
export async function runTime(
  setting: StepSetting,
  run: Run,
  { threads, data: given, steps: known, ...control }: TimeOptions,
): Promise<RunTime> {
  if (rulesOf(setting.strategy).privacy?.(setting.strategy))
    return { unknown: 'rounds of private training sample a random number of rows' }
  const { untimed } = taskRules(run.task).runs
  if (untimed !== null) return { unknown: untimed }
  if (measuringIsOff()) return { unknown: 'LOWRANK_MEASURE is off' }
  const data = typeof given === 'function' ? await given() : given
  const filled = data === undefined ? setting : { ...setting, options: withLengths(setting.options, data) }
  const unknown = { unknown: 'a step could not be measured on this machine' }
  try {
    const laidOut = layOut(filled)
    const rates = await measuredRates(filled, laidOut, threads, control)
    if (rates === undefined) return unknown
    const step = stepTime(laidOut.work, rates, run.gradientAccumulationSteps)
    const steps = known ?? run.maxSteps ?? (data === undefined ? null : stepsOf(setting.options, run, data))
    const runSeconds = steps === null ? null : steps * step.secondsPerStep
    return { ...step, steps, runSeconds }
  } catch {
    control.signal?.throwIfAborted()
    return unknown
  }
}

/** Estimated time of the steps of a run on this process's model and threads. */
export function timeOf(
  { base, adapter, options }: RunSetup,
  control: Omit<TimeOptions, 'threads'>,
): Promise<RunTime> {
  const { config } = base.files
  const setting = {
    ...{ config, options, precision: base.precision, strategy: adapter.description.strategy },
    formatOf: (name: string) => base.formats[name] as StorageFormat,
  }
  return runTime(setting, options, { ...control, threads: addon().cpu().threads })
}

/** Number of engine threads, from options or the environment. */
export function threadsOf(threads: number | 'auto'): number {
  const asked = threads === 'auto' ? Number(process.env.LOWRANK_THREADS) : threads
  return asked >= 1 ? asked : addon().cpu().threads
}

type Shape = StepSetting['options']

const ROUND = 16

/** The micro-batch shape for examples of this mean length. */
function withLengths(options: Shape, { examples, tokens }: DataSize): Shape {
  const { perDeviceTrainBatchSize: batch, maxSeqLength, packing } = options
  const mean = tokens / examples
  const length = Math.min(maxSeqLength, Math.max(ROUND, Math.round(mean / ROUND) * ROUND))
  const fitting = Math.round(Math.min(batch * maxSeqLength, tokens) / length)
  return {
    ...options,
    maxSeqLength: length,
    perDeviceTrainBatchSize: Math.max(1, packing ? fitting : Math.min(batch, examples)),
    packing: false,
  }
}

function stepsOf(
  { perDeviceTrainBatchSize: batch, maxSeqLength, packing }: Shape,
  run: Run,
  data: DataSize,
): number {
  const { numTrainEpochs, gradientAccumulationSteps } = run
  const microBatches = packing ? data.tokens / (batch * maxSeqLength) : data.examples / batch
  const perEpoch = Math.ceil(Math.ceil(microBatches) / gradientAccumulationSteps)
  return Math.max(1, Math.ceil(numTrainEpochs * perEpoch))
}

/** Rows tokenized to estimate the length of all. */
const SAMPLE_ROWS = 256

type RowOptions = Parameters<typeof encodeOptions>[1]

/**
 * Estimated size of a dataset, from the lengths of its first rows and the number of rows; undefined for data
 * that can be read only once, is streamed, or cannot be read.
 */
export async function dataSize(
  dataset: DatasetConfig,
  model: TokenizerOfModel,
  options: RowOptions,
  signal: AbortSignal | undefined,
): Promise<DataSize | undefined> {
  if (dataset.streaming || [dataset.path].flat().includes(STDIN)) return undefined
  try {
    const control = { rowLimit: SAMPLE_ROWS, signal }
    const chunks = encodeChunks(inputOf(dataset), model, encodeOptions(dataset, options, Date.now()), control)
    let next = await chunks.next()
    while (!next.done) next = await chunks.next()
    const { rows, examples, tokens } = next.value.stats
    if (examples === 0) return undefined
    if (rows < SAMPLE_ROWS) return { examples, tokens }
    let all = 0
    for await (const _ of openDataset(dataset.path, dataset)) {
      if (++all % SAMPLE_ROWS === 0) signal?.throwIfAborted()
    }
    return { examples: (examples * all) / rows, tokens: (tokens * all) / rows }
  } catch {
    signal?.throwIfAborted()
    return undefined
  }
}
