/**
 * A workbench runs the cells of a compare. It loads the base model once per quantization needed and tokenizes the data
 * once. Results are plain data, so a workbench can run in another process.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBytes } from '../core/bytes.js'
import { OutOfMemoryError, UnsupportedError } from '../core/errors.js'
import type { Adapter } from '../model/adapter.js'
import { loadModel } from '../model/load.js'
import type { Model } from '../model/model.js'
import { addon } from '../native/addon.js'
import { translated } from '../native/errors.js'
import { addonOrigin } from '../native/load.js'
import { optimizerState } from '../options/optimizers.js'
import type { RunOptions } from '../options/options.js'
import { ownRate } from '../options/rates.js'
import { trainingPlans } from '../planning/plans.js'
import { describeAdapter } from '../strategies/describe.js'
import { rulesOf, strategyToFile } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { loadQuantization, type RunConfig, trainOptions } from '../train/config/config.js'
import { describeQuantization, type Quantization } from '../weights/quantization.js'
import { type CompareData, describeData, type RowOptions, readCompareData, seedData } from './data.js'
import type { Contestant } from './entries.js'
import { loadNow, loadSince } from './load.js'
import type { Metric } from './metrics.js'
import { bitsOf, cellHash, meansOf } from './proof.js'
import type { CompareCell, CompareResults, CompareRung } from './results.js'
import { hashedSettings } from './settings.js'
import {
  mean,
  measured,
  stepsOfEpoch,
  type Trained,
  type TrainingAsked,
  type TrainingSetup,
  testLosses,
  trained,
  validationLosses,
} from './training.js'

/** Options of a workbench other than the config. */
export interface WorkbenchOptions extends RowOptions {
  metrics: readonly Metric[]
  /** Current time as seen by chat templates, ms since 1970. */
  now: number
  signal?: AbortSignal | undefined
  /** Called with warnings about unexpected behavior. */
  onWarning?: ((message: string) => void) | undefined
}

/** Size and speed of an entry before it is searched. */
export interface Sized {
  baseFormat: string
  trainableParameters: number
  planned: Trained['planned']
  fileBytes: number
  secondsPerStep: number
  probeSeconds: number
}

/** Points on the curve of a cell. */
const CURVE_POINTS = 10
/** Number of steps to time, after one untimed step. */
const TIMED_STEPS = 3

export class Workbench {
  readonly #config: RunConfig
  readonly #options: WorkbenchOptions
  readonly #quantization: Quantization
  #model: Model
  #data: CompareData

  private constructor(config: RunConfig, options: WorkbenchOptions, model: Model, data: CompareData) {
    this.#config = config
    this.#options = options
    this.#model = model
    this.#data = data
    this.#quantization = model.quantization
  }

  static async open(config: RunConfig, options: WorkbenchOptions): Promise<Workbench> {
    const model = await open(config, options, sharedQuantization(config))
    try {
      return new Workbench(
        config,
        options,
        model,
        await readCompareData(model.base, config, options, options.signal),
      )
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  /** The currently loaded base model. */
  get model(): Model {
    return this.#model
  }

  /** Optimizer steps of a cell. */
  get steps(): number {
    const { maxSteps, numTrainEpochs } = this.#config
    return (
      maxSteps ??
      Math.max(1, Math.ceil(numTrainEpochs * stepsOfEpoch(this.#setup(this.#model, this.#config.seed))))
    )
  }

  /** The model, data, binary, and machine. */
  async about(): Promise<Pick<CompareResults, 'model' | 'data' | 'binary' | 'machine'>> {
    const { base, precision } = this.#model
    const { isa, threads } = addon().cpu()
    return {
      model: {
        name: this.#config.model,
        hash: base.files.fingerprint,
        quantization: describeQuantization(this.#quantization),
        precision,
      },
      data: await describeData(this.#data, this.#config.seed),
      binary: {
        version: addon().version,
        level: isa,
        hash: createHash('sha256')
          .update(await readFile(addonOrigin().path))
          .digest('hex'),
      },
      machine: {
        processor: cpus()[0]?.model.trim() ?? 'unknown',
        threads,
        platform: `${process.platform} ${process.arch}`,
      },
    }
  }

  /**
   * Measures parameters, memory, and step time of an entry.
   * @throws {UnsupportedError} when the strategy does not support the base model
   * @throws {OutOfMemoryError} when the plan does not fit in memory
   */
  async size(strategy: StrategyConfig, seed: number): Promise<Sized> {
    const model = await this.#baseFor(strategy)
    const needed = (await this.plannedBytes(strategy)) - model.memory.peakBytes
    const available = process.availableMemory()
    if (needed > available)
      throw new OutOfMemoryError(
        `compare: ${strategy.name} needs ${formatBytes(needed)} beside the base, and ${formatBytes(available)} are available.`,
        { needed, available },
      )
    const asked = {
      ...{ strategy, steps: Math.min(TIMED_STEPS, this.steps), seed },
      rate: this.ownRate(strategy),
    }
    return trained(this.#setup(model, seed), asked, async (adapter, found) => ({
      baseFormat: describeQuantization(model.quantization),
      trainableParameters: adapter.trainableParameters,
      planned: found.planned,
      fileBytes: await savedBytes(adapter),
      secondsPerStep: found.fastestStep,
      probeSeconds: found.probeSeconds,
    }))
  }

  /** Current time as seen by chat templates, ms since 1970. */
  get now(): number {
    return this.#options.now
  }

  /** Number of parameters that a strategy trains. */
  async parameters(strategy: StrategyConfig): Promise<number> {
    const { spec } = described(strategy, await this.#baseFor(strategy))
    return spec.parameters.reduce((sum, { trained, rows, cols }) => sum + (trained ? rows * cols : 0), 0)
  }

  /** Planned peak memory for training a strategy, in bytes. */
  async plannedBytes(strategy: StrategyConfig): Promise<number> {
    const model = await this.#baseFor(strategy)
    const { base } = model
    const options = this.#runOptions()
    const { spec } = described(strategy, model)
    const adapter = { spec, trainable: true, state: optimizerState(options, strategy) }
    const plans = trainingPlans(spec, options, base, false)
    return translated(() => addon().plan(base.graph, base.formats, [adapter], plans)).peakBytes
  }

  /** The default learning rate of a strategy with the config's optimizer. */
  ownRate(strategy: StrategyConfig): number {
    return ownRate(strategy, this.#config.optimizer)
  }

  /** Evaluates the base model without an adapter. */
  async base(): Promise<NonNullable<CompareResults['base']>> {
    const begun = performance.now()
    const validation = await this.start(this.#config.seed)
    const between = performance.now()
    const { items, general } = await measured(this.#setup(this.#model, this.#config.seed), null)
    return {
      metrics: meansOf(items),
      items,
      general_loss: mean(general),
      general_losses: general,
      validation_loss: validation,
      validation_seconds: (between - begun) / 1000,
      test_seconds: (performance.now() - between) / 1000,
    }
  }

  /** Mean loss of the base model on the validation rows of a seed. */
  async start(seed: number): Promise<number | null> {
    return mean(await validationLosses(this.#setup(await this.#loaded(this.#quantization), seed), null))
  }

  /** Runs one rung of a search. */
  async rung(strategy: StrategyConfig, rate: number, steps: number, seed: number): Promise<CompareRung> {
    const setup = this.#setup(await this.#baseFor(strategy), seed)
    const asked = { strategy, rate, steps, seed, of: this.steps }
    return trained(setup, asked, async (adapter, { diverged, probeSeconds, seconds }) => {
      const items = diverged ? [] : await validationLosses(setup, adapter)
      return { steps, loss: mean(items), items, seconds: probeSeconds + seconds }
    })
  }

  /** Runs one cell: trains with the chosen rate and evaluates on the test rows. */
  async cell(
    { name, strategy }: Contestant,
    { rate, steps, seed }: { rate: number; steps: number; seed: number },
    about: Pick<CompareResults, 'model' | 'data' | 'binary'>,
  ): Promise<CompareCell> {
    const before = loadNow()
    const model = await this.#baseFor(strategy)
    const setup = this.#setup(model, seed)
    const course: Course = { curve: [], seconds: [], thirds: [] }
    const pauseAt = courseOf(setup, steps, course)
    return trained(setup, { strategy, rate, steps, seed, pauseAt }, async (adapter, found) => {
      const { losses, diverged } = found
      const { items, general } = diverged
        ? { items: { loss: this.#data.questions.map(() => null), scores: {} }, general: [] }
        : await measured(setup, adapter)
      const { curve, thirds } = course
      const made = { train_losses: losses, curve, thirds, general_losses: general, items }
      const { model: named, data, binary } = about
      const bits = bitsOf(made)
      const inputs = {
        ...{ strategy: strategyToFile(strategy), rate, steps, seed },
        settings: hashedSettings(this.#config),
        ...{ model: named.hash, format: describeQuantization(model.quantization) },
        ...{ precision: model.precision, data, binary },
      }
      return {
        ...{ id: `${name}/${seed}`, seed, rate, steps: losses.length, diverged },
        ...{
          hash: cellHash(inputs, bits),
          bits,
          metrics: meansOf(items),
          general_loss: mean(general),
          ...made,
        },
        seconds: found.probeSeconds + found.seconds,
        seconds_to_best: diverged ? null : secondsToBest(course, found.probeSeconds),
        tokens_per_second: found.seconds > 0 ? found.tokens / found.seconds : 0,
        ...loadSince(before),
        measured_peak: found.measured,
      }
    })
  }

  async dispose(): Promise<void> {
    await this.#model.dispose()
  }

  /** What trainings with a seed need. */
  #setup(model: Model, seed: number): TrainingSetup {
    const { metrics, signal } = this.#options
    return { ...{ model, metrics, signal }, data: seedData(this.#data, seed), options: this.#runOptions() }
  }

  #runOptions(): RunOptions {
    const { optimizer, ...options } = trainOptions(this.#config)
    return { ...options, optimizer: optimizer ?? 'adamw' }
  }

  /** The base model with the quantization that the strategy requires, else that of the compare. */
  async #baseFor(strategy: StrategyConfig): Promise<Model> {
    const rules = rulesOf(strategy)
    const { quantization: wanted } = rules.defaults(strategy)
    const model = await this.#loaded(wanted ?? this.#quantization)
    const quantized = model.quantization.type
    if (wanted?.type === 'none' && quantized !== 'none')
      throw new UnsupportedError(
        `compare: strategy ${strategy.name} trains the weights of the base, but ${this.#config.model} is quantized.`,
        { strategy: strategy.name },
      )
    return model
  }

  /** Only one base model is in memory at a time. */
  async #loaded(quantization: Quantization): Promise<Model> {
    const isSame = describeQuantization(quantization) === describeQuantization(this.#model.quantization)
    if (isSame) return this.#model
    await this.#model.dispose()
    this.#model = await open(this.#config, this.#options, quantization)
    return this.#model
  }
}

/** The adapter of a strategy, or that of its probe if it has one. */
function described(strategy: StrategyConfig, { base }: Model) {
  const first = rulesOf(strategy).probe?.(strategy)?.adapter ?? strategy
  return describeAdapter(first, base.sites, { weights: base.weights })
}

/** Quantization shared by the entries: that of the config, unless its own strategy implies one. */
function sharedQuantization(config: RunConfig): Quantization | undefined {
  const { quantization } = loadQuantization(config)
  const own = rulesOf(config.strategy).defaults(config.strategy).quantization
  return own === undefined ? quantization : undefined
}

async function open(
  { model, precision, pagedWeights, device, threads, revision, embeddingQuantization }: RunConfig,
  { signal, onWarning }: WorkbenchOptions,
  quantization: Quantization | undefined,
): Promise<Model> {
  return loadModel(model, {
    ...{ precision, pagedWeights, device, threads, ...(revision === null ? {} : { revision }) },
    ...(embeddingQuantization ? { embeddingQuantization } : {}),
    ...(quantization ? { quantization } : {}),
    signal,
    ...(onWarning ? { onWarning } : {}),
  })
}

/** Size of a saved adapter's files, in bytes. */
async function savedBytes(adapter: Adapter): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'lowrank-compare-'))
  try {
    await adapter.save(join(folder, 'adapter'))
    const files = await readdir(join(folder, 'adapter'), { recursive: true })
    const sizes = await Promise.all(files.map((file) => stat(join(folder, 'adapter', file))))
    return sizes.reduce((sum, one) => sum + (one.isFile() ? one.size : 0), 0)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** What is measured during a cell. */
interface Course extends Pick<CompareCell, 'curve' | 'thirds'> {
  /** Training time at each point of the curve. */
  seconds: number[]
}

/** Measures the validation loss ten times in a run, and the test loss at a third and at two thirds. */
function courseOf(setup: TrainingSetup, steps: number, course: Course): TrainingAsked['pauseAt'] {
  const every = Math.max(1, Math.ceil(steps / CURVE_POINTS))
  const isPoint = (step: number) => step % every === 0 || step === steps
  const thirds = [1, 2].map((third) => Math.round((third * steps) / 3)).filter((step) => step > 0)
  const all = Array.from({ length: steps }, (_, i) => i + 1)
  return {
    steps: new Set(all.filter((step) => isPoint(step) || thirds.includes(step))),
    work: async (adapter, step, seconds) => {
      if (thirds.includes(step)) course.thirds.push({ steps: step, loss: await testLosses(setup, adapter) })
      if (!isPoint(step)) return
      course.curve.push([step, mean(await validationLosses(setup, adapter))])
      course.seconds.push(seconds)
    },
  }
}

function secondsToBest({ curve, seconds }: Course, probeSeconds: number): number | null {
  const losses = curve.map(([, loss]) => loss ?? Number.POSITIVE_INFINITY)
  const best = seconds[losses.indexOf(Math.min(...losses))]
  return best === undefined ? null : probeSeconds + best
}
