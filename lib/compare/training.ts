/** One training of a compare: attaches an adapter to the loaded model, trains it, measures it, and detaches it. */
import { DivergedError } from '../core/errors.js'
import type { Adapter } from '../model/adapter.js'
import { createAdapter } from '../model/attach.js'
import type { Model } from '../model/model.js'
import { addon, CATEGORIES } from '../native/addon.js'
import type { RunOptions } from '../options/options.js'
import { shortened } from '../options/schedules.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { answeredRows, rowLosses } from '../train/measures/row-measures.js'
import { Processes } from '../train/processes/processes.js'
import { dataOf, sampleOf } from '../train/rows/data.js'
import { runProbe } from '../train/run/probe.js'
import type { CompareData, SeedData } from './data.js'
import { strategyOfRun } from './entries.js'
import { type Metric, scoresOf } from './metrics.js'
import type { CompareCell, CompareItems } from './results.js'

/** Everything that a training of a search needs other than the strategy. */
export interface SearchSetup {
  model: Model
  data: Pick<SeedData, 'train' | 'validation' | 'now'>
  /** Options from the config; `maxSteps`, `seed`, and the learning rate are overridden for each training. */
  options: RunOptions
  signal?: AbortSignal | undefined
}

/** The same for trainings whose results are measured. */
export interface TrainingSetup extends SearchSetup {
  data: SeedData
  metrics: readonly Metric[]
}

/** What the measurements of a result need. */
type MeasureSetup = Omit<TrainingSetup, 'data'> & {
  data: Pick<CompareData, 'test' | 'general' | 'questions'>
}

/** Parameters of one training. */
export interface TrainingAsked {
  strategy: StrategyConfig
  rate: number
  steps: number
  seed: number
  /** Steps of the run whose schedule a short run has in small; default: `steps`. */
  of?: number
  /** Called after each of these steps, outside of the time that is measured. */
  pauseAt?: {
    steps: ReadonlySet<number>
    work: (adapter: Adapter, step: number, seconds: number) => Promise<void>
  }
  /** Factor on the rate after `completed` steps, instead of a schedule. */
  schedule?: (completed: number) => number
  /** Ends the training early if it returns true for the losses so far. */
  until?: (losses: Trained['losses']) => boolean
  /** Called after each step. */
  onStep?: () => void
}

/** Results of a training. */
export interface Trained {
  diverged: boolean
  /** Loss of every step; null for a private round in which no client was sampled. */
  losses: (number | null)[]
  tokens: number
  /** Duration of the strategy's probe, if it has one, and of the optimizer steps. */
  probeSeconds: number
  seconds: number
  /** Shortest step time, excluding the first step if there are more. */
  fastestStep: number
  planned: { bytes: number; rows: CompareCell['measured_peak']['rows'] }
  measured: CompareCell['measured_peak']
}

/**
 * Trains an adapter and passes it to `then` before detaching it. If training diverged, the adapter is in its state
 * after the last good step.
 */
export async function trained<T>(
  setup: SearchSetup,
  asked: TrainingAsked,
  then: (adapter: Adapter, trained: Trained) => Promise<T>,
): Promise<T> {
  const { model, data, signal } = setup
  const options = runOptions(setup, asked)
  const cohort = Math.max(1, Math.round(data.train.rows.length / stepsOfEpoch(setup)))
  const strategy = strategyOfRun(asked.strategy, { ...asked, cohort })
  const start = performance.now()
  const ready = await probed(setup, strategy, options)
  const probeSeconds = ready === strategy ? 0 : (performance.now() - start) / 1000
  const adapter = await model.attach(ready, { seed: asked.seed })
  try {
    // The rows are passed separately; the path is only for display.
    const source = { path: 'compare' } as never
    const isPrivate = rulesOf(ready).privacy?.(ready) !== undefined
    const run = adapter.trainOn(
      source,
      { ...options, maxSteps: isPrivate ? null : asked.steps, signal },
      (_base, _sources, shape) => dataOf(data.train, shape, data.now),
      { ranks: Processes.alone(), ...(asked.schedule ? { schedule: asked.schedule } : {}) },
    )
    const found: Trained = {
      ...{
        diverged: false,
        losses: [],
        tokens: 0,
        probeSeconds,
        seconds: 0,
        fastestStep: Number.POSITIVE_INFINITY,
      },
      planned: { bytes: run.memory.peakBytes, rows: [...run.memory.rows] },
      measured: { bytes: 0, rows: [], resident_bytes: 0 },
    }
    let begun = performance.now()
    try {
      for await (const event of run.events()) {
        const seconds = (performance.now() - begun) / 1000
        if (event.event === 'step') {
          found.seconds += seconds
          found.tokens += event.tokens
          found.losses.push(Number.isFinite(event.loss) ? event.loss : null)
          if (event.step > 1 || asked.steps === 1) found.fastestStep = Math.min(found.fastestStep, seconds)
          noteMemory(found)
          asked.onStep?.()
          if (asked.until?.(found.losses)) break
          if (asked.pauseAt?.steps.has(event.step))
            await asked.pauseAt.work(adapter, event.step, found.seconds)
        }
        begun = performance.now()
      }
    } catch (error) {
      if (!(error instanceof DivergedError)) throw error
      found.diverged = true
    }
    return await then(adapter, found)
  } finally {
    await adapter.detach()
  }
}

/** Options of a run that stops after its steps and neither evaluates nor saves. */
function runOptions({ options }: SearchSetup, { rate, steps, seed, of = steps }: TrainingAsked): RunOptions {
  return {
    ...options,
    ...shortened(options, steps, of),
    ...{ learningRate: rate, maxSteps: steps, seed },
    ...{ evalSteps: null, saveSteps: null, loadBestModelAtEnd: false, earlyStoppingPatience: null },
    ...{ metricForBestModel: 'loss' as const, greaterIsBetter: null, evalGenerate: 0 },
  }
}

/** Optimizer steps of one pass over the training rows. */
export function stepsOfEpoch({ data, options }: Pick<SearchSetup, 'data' | 'options'>): number {
  const { perDeviceTrainBatchSize: rows, maxSeqLength, packing, gradientAccumulationSteps } = options
  const { data: all, rows: own } = data.train
  const tokens = own.reduce((sum, row) => sum + all.rowLength(row), 0)
  const batches = packing ? tokens / (rows * maxSeqLength) : own.length / rows
  return Math.max(1, Math.ceil(Math.ceil(batches) / gradientAccumulationSteps))
}

/** The strategy after probing the training rows, if it needs to. */
async function probed(
  { model, data, signal }: SearchSetup,
  strategy: StrategyConfig,
  options: RunOptions,
): Promise<StrategyConfig> {
  const probe = rulesOf(strategy).probe?.(strategy)
  if (probe === undefined) return strategy
  const { base } = model
  return runProbe(
    base,
    probe,
    { dataset: { path: 'compare' } as never, evalDataset: null, evalFraction: 0 },
    options,
    (description) => createAdapter(description, undefined, base.device),
    { signal },
    (_base, _sources, shape, fraction) => sampleOf(data.train, shape, fraction, data.now),
  )
}

function noteMemory({ measured }: Trained): void {
  measured.resident_bytes = Math.max(measured.resident_bytes, addon().residentBytes().rss)
  const allocated = addon().allocated()
  const bytes = CATEGORIES.reduce((sum, category) => sum + allocated[category], 0)
  if (bytes <= measured.bytes) return
  measured.bytes = bytes
  measured.rows = CATEGORIES.filter((category) => allocated[category] > 0).map((category) => ({
    category,
    bytes: allocated[category],
  }))
}

/** The loss of each validation row; without an adapter, that of the base model. */
export function validationLosses(setup: SearchSetup, adapter: Adapter | null) {
  const { model, data, options, signal } = setup
  return rowLosses(model.base, active(adapter), data.validation, options, signal)
}

/** The loss of each test row; without an adapter, that of the base model. */
export function testLosses(
  { model, data, options, signal }: MeasureSetup,
  adapter: Adapter | null,
): Promise<(number | null)[]> {
  return rowLosses(model.base, active(adapter), data.test, options, signal)
}

/** Measures an adapter, or the base model alone, on the test rows and the general text. */
export async function measured(
  setup: MeasureSetup,
  adapter: Adapter | null,
): Promise<{ items: CompareItems; general: (number | null)[] }> {
  const { model, data, options, metrics, signal } = setup
  const { base } = model
  const { test, questions } = data
  const acting = active(adapter)
  const loss = await testLosses(setup, adapter)
  const general = await rowLosses(base, acting, data.general, options, signal)
  if (questions.every((question) => question === null)) return { items: { loss, scores: {} }, general }
  const rows = { examples: test, questions }
  const { matched, accuracies, answered } = await answeredRows(base, acting, rows, options.maxSeqLength, {
    signal,
  })
  const scores = scoresOf(metrics, { matched, accuracies, rows: answered, questions })
  return { items: { loss, scores, predictions: answered.map(({ prediction }) => prediction) }, general }
}

function active(adapter: Adapter | null) {
  return adapter === null ? [] : [{ state: adapter.state, weight: 1, rank: null }]
}

/** The mean, or null if any value is null. */
export function mean(values: readonly (number | null)[]): number | null {
  let sum = 0
  for (const value of values) {
    if (value === null) return null
    sum += value
  }
  return values.length === 0 ? null : sum / values.length
}
