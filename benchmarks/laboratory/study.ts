/** Studies of strategies for figure.ts: runs on one model and one dataset, and the figure of their results. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { packageRoot } from '../../lib/core/root.js'
import type { Adapter } from '../../lib/model/adapter.js'
import type { Model } from '../../lib/model/model.js'
import { ownRate } from '../../lib/options/rates.js'
import type { TrainOptions } from '../../lib/options/types.js'
import type { StrategyConfig } from '../../lib/strategies/strategy.js'
import { type DatasetConfig, dataset } from '../../lib/train/sources/data-sources.js'
import type { TrainStep } from '../../lib/train/steps/events.js'

/** A data point of a figure. */
export type StudyRow = Record<string, number | string | null>

/** Result of a study. */
export interface StudyResult {
  rows: StudyRow[]
  /** A chart without a title, `FIGURE_WIDTH` wide. */
  chart: string
  title: string
  /** How to read the chart, in one line. */
  key: string
  /** A description of the runs and their result, in sentences. */
  reading: string
}

/** A study that produces one figure. */
export interface Study {
  /** Default number of steps per run. */
  steps: number
  /** Number of runs for a number of seeds. */
  runs: (seeds: number) => number
  run: (bench: StudyBench) => Promise<StudyResult>
}

export interface StudySettings {
  train: string
  test: string
  steps: number
  seeds: number
  signal?: AbortSignal | undefined
  /** Called before each training. */
  onRun?: ((name: string, done: number) => void) | undefined
}

/** Options of one run of a study. */
export interface StudyRun {
  name: string
  seed: number
  /** Default: the strategy's default. */
  learningRate?: number
  /** Default: those of the study. */
  steps?: number
  onStep?: (step: TrainStep, adapter: Adapter) => Promise<void> | void
}

/** Result of `atBestRate`. */
export interface AtBestRate {
  parameters: number
  rate: number
  /** One per seed. */
  losses: number[]
}

/** Rates to try, relative to the strategy's default. */
const RATE_FACTORS = [0.3, 1, 3]

/** Number of runs made by `atBestRate`. */
export function runsAtBestRate(seeds: number): number {
  return RATE_FACTORS.length + seeds - 1
}

const [BATCH, MAX_SEQ_LENGTH] = [4, 128]

/** Shared setup of a study: the model, data, and settings of all its runs. */
export class StudyBench {
  readonly model: Model
  readonly settings: StudySettings
  readonly #train: DatasetConfig
  readonly test: DatasetConfig
  #done = 0

  constructor(model: Model, settings: StudySettings) {
    this.model = model
    this.settings = settings
    this.#train = dataset(settings.train)
    this.test = dataset(settings.test)
  }

  get steps(): number {
    return this.settings.steps
  }

  /** Seeds of the runs, counted from 1. */
  get seeds(): number[] {
    return Array.from({ length: this.settings.seeds }, (_, index) => index + 1)
  }

  /** How values of several seeds are joined, for the key of a picture. */
  get overSeeds(): string {
    return this.seeds.length === 1 ? 'of one seed' : 'means over seeds'
  }

  /** The same for a chart of points with whiskers. */
  get pointsKey(): string {
    return this.seeds.length === 1
      ? 'Points are of one seed'
      : 'Points are means over seeds, whiskers the lowest and highest'
  }

  /** Truncation and batching in evaluations. */
  readonly shape = { maxSeqLength: MAX_SEQ_LENGTH, perDeviceTrainBatchSize: 8, packing: false } as const

  /** Options of every run. */
  options(strategy: StrategyConfig, { seed, learningRate, steps }: Omit<StudyRun, 'name'>) {
    return {
      seed,
      learningRate: learningRate ?? ownRate(strategy, 'adamw'),
      maxSteps: steps ?? this.steps,
      perDeviceTrainBatchSize: BATCH,
      maxSeqLength: MAX_SEQ_LENGTH,
      gradientCheckpointing: false,
      optimizer: 'adamw',
      lrSchedulerType: 'linear',
      warmupRatio: 0.03,
    } satisfies Partial<TrainOptions>
  }

  /** Trains a new adapter, passes it on, and detaches it. */
  async trained<T>(
    strategy: StrategyConfig,
    run: StudyRun,
    use: (adapter: Adapter) => Promise<T>,
  ): Promise<T> {
    const { signal, onRun } = this.settings
    onRun?.(`${run.name}, seed ${run.seed}`, this.#done++)
    const adapter = await this.model.attach(strategy, { seed: run.seed })
    try {
      const options = this.options(strategy, run)
      for await (const step of adapter.train(this.#train, { ...options, ...(signal ? { signal } : {}) }))
        await run.onStep?.(step, adapter)
      signal?.throwIfAborted()
      return await use(adapter)
    } finally {
      await adapter.detach()
    }
  }

  /** Loss on the test rows with an adapter, in nats per supervised token. */
  async loss(adapter: Adapter): Promise<number> {
    const { signal } = this.settings
    return (await this.model.evaluate(this.test, { ...this.shape, adapters: [adapter], signal })).loss
  }

  /** Losses after training with each seed. */
  async losses(strategy: StrategyConfig, run: Omit<StudyRun, 'seed'>): Promise<number[]> {
    const found: number[] = []
    for (const seed of this.seeds)
      found.push(await this.trained(strategy, { ...run, seed }, (adapter) => this.loss(adapter)))
    return found
  }

  /** Losses at the best of three learning rates around the strategy's default, selected with the first seed. */
  async atBestRate(strategy: StrategyConfig, name: string): Promise<AtBestRate> {
    const own = ownRate(strategy, 'adamw')
    let parameters = 0
    const lossAt = (seed: number, learningRate: number) =>
      this.trained(strategy, { name: `${name}, rate ${learningRate}`, seed, learningRate }, (adapter) => {
        parameters = adapter.trainableParameters
        return this.loss(adapter)
      })
    const [first, ...others] = this.seeds as [number, ...number[]]
    let best = { rate: 0, loss: Number.POSITIVE_INFINITY }
    for (const factor of RATE_FACTORS) {
      const rate = Number((factor * own).toPrecision(2))
      const loss = await lossAt(first, rate)
      if (loss < best.loss) best = { rate, loss }
    }
    const losses = [best.loss]
    for (const seed of others) losses.push(await lossAt(seed, best.rate))
    return { parameters, rate: best.rate, losses }
  }

  /** Runs work in a temporary folder, which is removed afterward. */
  async inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
    const folder = await mkdtemp(join(tmpdir(), 'lowrank-figures-'))
    try {
      return await work(folder)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  /** Describes the setup of the runs in one line. */
  get about(): string {
    const { steps, seeds, model, settings } = this
    const often = seeds.length === 1 ? 'one seed' : `${seeds.length} seeds`
    const name =
      resolve(model.path) === join(packageRoot, 'demo', 'base') ? 'The demo’s model' : nameOf(model.path)
    const rows =
      resolve(settings.train) === join(packageRoot, 'demo', 'train.jsonl')
        ? 'its task'
        : basename(settings.train)
    return `${name} on ${rows}; ${steps} steps of ${BATCH} rows with AdamW, ${often}.`
  }
}

/** Name of a model file or folder, without its extension. */
function nameOf(path: string): string {
  return basename(resolve(path)).replace(/\.(gguf|safetensors)$/, '')
}

/** Difference between the largest and smallest value; meaningless with one seed. */
export function rangeOf(values: readonly number[]): number {
  return Math.max(...values) - Math.min(...values)
}

/** Type of a linear layer and its layer index, from its path. */
export function placeOf(path: string): { layer: number; type: string } {
  const layer = Number(/\.(\d+)\./.exec(path)?.[1] ?? 0)
  return { layer, type: path.slice(path.lastIndexOf('.') + 1) }
}
