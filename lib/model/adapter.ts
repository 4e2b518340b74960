/** An adapter on a loaded model: trained, saved, taken off again. Its numbers live in native memory. */
import * as z from 'zod'
import { type AdapterState, type BaseModel, type Saved, saveAdapter } from '../base/base.js'
import { badArgument, callback, checkedOptions, checkedPath, path } from '../core/arguments.js'
import { ConfigError, UnsupportedError } from '../core/errors.js'
import { flag, integer, text, word } from '../core/schema.js'
import type { EncodeProgress } from '../data/encode-dataset.js'
import {
  type ExportOptions,
  exportSchema,
  type SaveOptions,
  saveSchema,
  type Written,
} from '../export/options.js'
import { exportModel, saveModel } from '../export/save.js'
import { clientColumn } from '../federated/clients.js'
import { privateRounds } from '../federated/rounds.js'
import type { PlanOptions } from '../native/addon.js'
import { cardOf } from '../native/device.js'
import { translated } from '../native/errors.js'
import { Lifetime } from '../native/handles.js'
import { checkInBackward } from '../options/in-backward.js'
import { type Optimizer, optimizerState } from '../options/optimizers.js'
import { type TrainOptions, trainShape } from '../options/options.js'
import { withOwnRate } from '../options/rates.js'
import { checkTask } from '../options/task.js'
import { ownBytes } from '../planning/cards.js'
import { MemoryReport } from '../planning/memory-report.js'
import { trainingPlans } from '../planning/plans.js'
import { usualOptimizer } from '../planning/usual-optimizer.js'
import { isPrivate, rulesOf } from '../strategies/index.js'
import { remarksOn } from '../strategies/remarks.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { checkBest } from '../train/best.js'
import { prepareData } from '../train/data.js'
import {
  checkStreaming,
  checkTaskData,
  type DataSources,
  type DatasetArgument,
  dataShape,
  datasetOf,
} from '../train/dataset.js'
import type { EvaluateProgress } from '../train/evaluate.js'
import {
  type ForwardBackward,
  type ForwardBackwardOptions,
  type Loss,
  type OptimStepOptions,
  Primitive,
} from '../train/forward-backward.js'
import type { Pair, Row } from '../train/losses/token-rows.js'
import { foldersOf } from '../train/output-folder.js'
import { presentRanks } from '../train/ranks.js'
import { scratchFolder, TrainingRun } from '../train/run.js'
import { REPORT_TO, type ReportTo } from '../train/tensorboard.js'

/** Options of `Adapter.train` besides those of the run. */
export interface TrainControl {
  /** Data to evaluate on, before the first step, every `evalSteps` and at the end. */
  evalDataset?: DatasetArgument | null
  /** Share of the training data to hold out for that instead, in [0, 1). Default 0. */
  evalFraction?: number
  /**
   * Folder for the adapter, metrics.jsonl and checkpoints; without one nothing is written. Of private runs it gets the
   * adapter alone, and the rest goes to `<outputDir>-secret` beside it.
   */
  outputDir?: string | null
  /** Replace what an earlier run left in `outputDir`. Default false: a folder that holds its result is an error. */
  force?: boolean
  /** Go on from a checkpoint: its path, or true for the newest of `outputDir`. */
  resume?: string | boolean
  /** Ends the run after the running step, with a checkpoint if there is an `outputDir`. */
  signal?: AbortSignal
  /** Rows that `TrainingRun.samples` asks when the run is over; never of private runs. Default 0. */
  sampleRows?: number
  /** Write report.html, the page of the run, to `outputDir` when the run is over, however it ended. Default true. */
  report?: boolean
  /** Also write the events for TensorBoard, to `runs/` in `outputDir`. Default `none`. */
  reportTo?: ReportTo
  /** Command that repeats the run, for its record and report. Default null. */
  command?: string | null
  /** Called while the data is read. */
  onDataProgress?: (progress: EncodeProgress) => void
  /** Called after every batch of an evaluation. */
  onEvalProgress?: (progress: EvaluateProgress) => void
}

const RESUME = "true, false or a checkpoint's path"
const controlShape = {
  outputDir: path('a folder').nullable().default(null),
  force: flag().default(false),
  resume: z.union([z.boolean(), path()], { error: RESUME }).default(false),
  sampleRows: integer(0).default(0),
  report: flag().default(true),
  reportTo: word(REPORT_TO).default('none'),
  command: text().nullable().default(null),
  onEvalProgress: callback<NonNullable<TrainControl['onEvalProgress']>>().optional(),
}
const trainingSchema = z.strictObject({ ...trainShape, ...dataShape, ...controlShape })

const saveAdapterSchema = z.strictObject({
  form: word(['own', 'lora']).default('own'),
  rank: integer(1).nullable().default(null),
})

/** An adapter on a model: it is trained, saved, merged and exported. Memory is held until `detach()`. */
export class Adapter {
  /** Unlike that of any other adapter on the model. */
  readonly name: string
  readonly strategy: StrategyConfig
  /** Paths of the linears that it adapts. */
  readonly targets: readonly string[]
  /** Warnings about valid but rarely intended settings, such as a rank larger than a linear; a sentence each. */
  readonly remarks: readonly string[]
  /** Numbers that train; 0 for an adapter that was loaded for use only. */
  readonly trainableParameters: number
  readonly #base: BaseModel
  readonly #state: AdapterState
  readonly #lifetime: Lifetime
  readonly #detached: (adapter: Adapter) => void
  #training = false
  #primitive: Primitive | undefined
  #weight = 1
  #rank: number | null = null

  /** @internal */
  constructor(name: string, base: BaseModel, state: AdapterState, detached: (adapter: Adapter) => void) {
    this.name = name
    const { strategy, targets, spec } = state.description
    this.strategy = strategy
    this.targets = targets
    const trained = state.trainable ? spec.parameters.filter((parameter) => parameter.trained) : []
    this.remarks = state.trainable ? remarksOn(state.description, base.sites) : []
    this.trainableParameters = trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    this.#base = base
    this.#state = state
    this.#detached = detached
    this.#lifetime = new Lifetime(
      `The adapter ${name} of ${base.name}`,
      'attach or load it again, on a model that is loaded',
    )
  }

  /**
   * Weight of its output in `evaluate` and `generate`: 1 by default, 0 is off. Training always uses 1.
   * @throws {ConfigError} for anything but a finite number
   */
  get weight(): number {
    return this.#weight
  }

  set weight(weight: number) {
    this.#weight = checkedWeight(weight, this.name)
  }

  /**
   * Number of ranks in use, from the first, in all uses except training: `evaluate`, `generate`, `merge`
   * and the rest. null, the default, is all. Only of adapters that were trained for it, with `dylora()`.
   * @throws {ConfigError} for a rank that it does not have
   * @example for (const rank of [1, 2, 4, 8]) { adapter.rank = rank; console.log(rank, await model.evaluate('val.jsonl')) }
   */
  get rank(): number | null {
    return this.#rank
  }

  set rank(rank: number | null) {
    this.#rank = this.#checkedRank(rank)
  }

  /**
   * A training run over this adapter alone. Nothing happens until the run is iterated over; its planned memory is
   * known at once.
   * @throws {ConfigError} for an unknown option, a value out of range, or an adapter that was loaded for use only
   * @example for await (const step of adapter.train('train.jsonl', { maxSteps: 100 })) console.log(step.loss)
   */
  train(data: DatasetArgument, options: Partial<TrainOptions> & TrainControl = {}): TrainingRun {
    return this.trainOn(data, options, prepareData)
  }

  /** As `train`, where somebody else has read the data. @internal */
  trainOn(
    data: DatasetArgument,
    options: Partial<TrainOptions> & TrainControl,
    prepare: typeof prepareData,
  ): TrainingRun {
    this.#lifetime.check()
    if (!this.#state.trainable)
      throw new ConfigError(
        'train(): the adapter was loaded for inference; load it with { trainable: true } to train it.',
      )
    const given = checkedOptions(trainingSchema, options, 'train()')
    const {
      evalDataset,
      evalFraction,
      outputDir,
      resume,
      force,
      sampleRows,
      report,
      reportTo,
      command,
      ...rest
    } = given
    const { signal, onDataProgress: onProgress, onEvalProgress, ...own } = rest
    const rated = withOwnRate(own, this.strategy)
    // Rows of classes are as many as are asked for, whatever their length.
    const parsed = rated.task === 'classification' ? { ...rated, packing: false } : rated
    if (evalDataset != null && evalFraction > 0)
      throw new ConfigError('train(): evalFraction and evalDataset were both given; expected at most one.')
    if (reportTo !== 'none' && outputDir === null)
      throw new ConfigError(`train(): reportTo is ${reportTo}, but the run has no outputDir to write to.`)
    const sources = {
      dataset: datasetOf(data, 'train()'),
      evalDataset: evalDataset == null ? null : datasetOf(evalDataset, 'train()', 'evalDataset'),
      evalFraction,
      ...groupedBy(this.strategy),
    }
    checkStreaming(sources, parsed, { name: 'train()', spelling: 'camel' })
    checkInBackward(parsed, this.strategy, { name: 'train()', spelling: 'camel' })
    checkTask(parsed, { name: 'train()', spelling: 'camel' })
    checkTaskData(
      { ...sources, task: parsed.task, strategy: this.strategy },
      { name: 'train()', spelling: 'camel' },
    )
    this.#checkDevice(parsed)
    this.#checkHead(parsed)
    const shape = { ...sources, strategy: this.strategy, outputDir }
    checkBest(parsed, shape, { name: 'train()', spelling: 'camel' })
    const evaluates = sources.evalDataset !== null || evalFraction > 0
    const plans = trainingPlans(this.#state.description.spec, parsed, this.#base, evaluates)
    const folders = outputDir === null ? null : foldersOf(outputDir, this.strategy)
    const optimizer = parsed.optimizer ?? this.#usualOptimizer(parsed, plans, scratchFolder(folders))
    // Rows of a private run are its clients'.
    const control = {
      sampleRows: isPrivate(this.strategy) ? 0 : sampleRows,
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
    }
    const privacy = rulesOf(this.strategy).privacy?.(this.strategy)
    return new TrainingRun({
      ...(privacy ? { makeSteps: privateRounds(privacy) } : {}),
      base: this.#base,
      adapter: this.#state,
      options: { ...parsed, optimizer },
      plans,
      data: (now) => prepare(this.#base, sources, parsed, now === undefined ? control : { ...control, now }),
      evalFraction,
      sources,
      command,
      reportTo,
      ...(report ? { report: async (of) => (await import('../report/report.js')).writeReport(of) } : {}),
      folders,
      beginning: { resume, force },
      signal,
      ranks: presentRanks(),
      onEvalProgress,
      use: (work) => this.use(work),
      begin: () => this.#claim(),
    })
  }

  /** @throws {UnsupportedError} for what has no kernels on a GPU */
  #checkDevice({ task, labelSmoothingFactor, neftuneNoiseAlpha }: TrainOptions): void {
    const { device } = this.#base
    if (device === 'cpu') return
    const what =
      task !== 'causal_lm'
        ? `task ${task}`
        : labelSmoothingFactor > 0
          ? 'labelSmoothingFactor'
          : neftuneNoiseAlpha !== null
            ? 'neftuneNoiseAlpha'
            : undefined
    if (what === undefined) return
    throw new UnsupportedError(
      `train(): ${what} does not run on ${device} yet; load the model with device: cpu.`,
      { what, device },
    )
  }

  /** @throws {ConfigError} for a task that the head of the model is not for */
  #checkHead({ task }: TrainOptions): void {
    const { labels, name } = this.#base
    if ((task === 'classification') === (labels !== null)) return
    throw new ConfigError(
      labels === null
        ? `train(): task classification needs a head for classes; load ${name} with labels: loadModel(name, { labels }).`
        : `train(): ${name} was loaded with labels, so its head is for task classification, not ${task}; load it without labels.`,
      { task, labels },
    )
  }

  #usualOptimizer(options: TrainOptions, plans: Record<string, PlanOptions>, folder: string) {
    const { native } = this.#base
    const planned = (optimizer: Optimizer) => {
      const state = optimizerState({ ...options, optimizer }, this.strategy)
      return new MemoryReport(translated(() => native.plan([{ adapter: this.#state.native, state }], plans)))
    }
    // The base is loaded, and so counts as there.
    const { peakBytes: loaded } = translated(() => native.plan([], {}))
    const card = cardOf(this.#base.device)
    const available = card
      ? Math.max(0, card.memoryBytes - ownBytes(card))
      : process.availableMemory() + loaded
    return usualOptimizer(this.strategy, planned, available, folder)
  }

  /**
   * Saves it as a folder that PEFT loads. While it is trained, it is saved as it is between two steps.
   * @param options.form `lora`: as the plain LoRA that computes the same, for programs that read no other kind. Default
   * `own`: in the form of its strategy
   * @param options.rank of what was trained with `dylora()`, as the plain LoRA of its first ranks; default null: all of
   * them, whatever `adapter.rank` is. Of others, with the form `lora`: as the LoRA of this rank whose change of the
   * weights is nearest; default null: as one that computes the same
   * @returns how far what is saved is from the adapter: 0, or for the nearest LoRA the norm of the difference over that of
   * the change
   * @throws {ConfigError} for a rank that it does not have
   * @throws {UnsupportedError} when no LoRA computes the same, and no rank is given
   * @example const { error } = await adapter.save('plain', { form: 'lora', rank: 16 })
   * @throws {WriteError} when the disk refuses; nothing is left half written
   */
  async save(path: string, options: { form?: 'own' | 'lora'; rank?: number | null } = {}): Promise<Saved> {
    this.#lifetime.check()
    const { form, rank } = checkedOptions(saveAdapterSchema, options, 'save()')
    checkedPath(path, 'save()', 'path')
    const near = form === 'lora' && rulesOf(this.strategy).ranked?.(this.strategy) === undefined
    const which = near ? { nearestRank: rank } : { rank: this.#checkedRank(rank) }
    return this.use(() => saveAdapter(path, this.#base, this.#state, { form, ...which }))
  }

  /**
   * Writes the model with this adapter, at its `rank`, merged in as a Hugging Face folder, and compares what it wrote
   * with the two. Other adapters and weights do not count.
   * @throws {ConfigError} when the place is taken, or a number does not fit the dtype
   * @throws {WriteError} when the disk refuses; nothing is left half written
   * @example const { check } = await adapter.merge('merged', { dtype: 'bf16' })
   */
  async merge(folder: string, options: SaveOptions = {}): Promise<Written> {
    this.#lifetime.check()
    const given = checkedOptions(saveSchema, options, 'merge()')
    return this.use((state) =>
      saveModel(
        { base: this.#base, adapters: [{ state, weight: 1, rank: this.#rank }] },
        folder,
        given,
        'merge()',
      ),
    )
  }

  /**
   * Writes the model with this adapter, at its `rank`, or the adapter alone, in a form that other programs read, and
   * compares what it wrote with the two. Other adapters and weights do not count.
   * @throws {ConfigError} when the place is taken, or options do not go together
   * @throws {UnsupportedError} for a model, tokenizer or adapter that the format cannot say
   * @throws {WriteError} when the disk refuses; nothing is left half written
   * @example await adapter.export('model.gguf', { format: 'gguf', dtype: 'q8_0' })
   */
  async export(path: string, options: ExportOptions): Promise<Written> {
    this.#lifetime.check()
    const given = checkedOptions(exportSchema, options, 'export()')
    return this.use((state) =>
      exportModel(
        { base: this.#base, adapters: [{ state, weight: 1, rank: this.#rank }] },
        path,
        given,
        'export()',
      ),
    )
  }

  /**
   * Adds the gradient of a loss over a batch of token rows to the adapter's: the step that all training is made of. Calls
   * run in the order in which they were made, awaited or not; the same calls give the same bits.
   * @param batch rows of tokens; for `dpo` and `orpo` pairs of them
   * @param loss `cross_entropy`, `dpo`, `orpo`, `kto`, `importance_sampling`, or `{ name, …options }`; or a function that is
   * given the log-probability of every token and returns the loss and its gradient. It must not wait for a call of this
   * adapter, which waits for it.
   * @throws {ConfigError} for a row or option that is wrong, naming row and field, and for gradients that are not divided
   * alike
   * @throws {DivergedError} when the loss is no finite number; like any failure, it clears the gradient
   * @throws {UnsupportedError} for private strategies, strategies whose steps depend on the length of a run, and on a GPU
   * @example
   * const { loss } = await adapter.forwardBackward([{ tokens, weights }], 'cross_entropy')
   * const { gradNorm } = await adapter.optimStep({ learningRate: 1e-4 })
   */
  async forwardBackward(
    batch: readonly Row[] | readonly Pair[],
    loss: Loss,
    options: ForwardBackwardOptions = {},
  ): Promise<ForwardBackward> {
    return this.use(() => this.#lowLevel('forwardBackward()').forwardBackward(batch, loss, options))
  }

  /**
   * Updates the adapter by AdamW and the gradients since the last update, which are used up.
   * @returns the norm of the gradient before clipping, and the number of steps so far
   * @throws {ConfigError} when no gradient has been accumulated, or for an option that is wrong
   */
  async optimStep(options: OptimStepOptions): Promise<{ gradNorm: number; step: number }> {
    return this.use(() => this.#lowLevel('optimStep()').optimStep(options))
  }

  /**
   * Log-probability of each token of some rows, with this adapter alone at all of its ranks and without dropout.
   * @returns an array per row, in nats, whose entry 0 is 0
   * @throws {ConfigError} for a row or option that is wrong
   */
  async forward(
    batch: readonly Row[],
    options: Omit<ForwardBackwardOptions, 'normalizer'> = {},
  ): Promise<{ logprobs: Float64Array[] }> {
    return this.use(() => this.#lowLevel('forward()').forward(batch, options))
  }

  #lowLevel(name: string): Primitive {
    if (!this.#state.trainable)
      throw new ConfigError(
        `${name}: the adapter was loaded for inference; load it with { trainable: true } to train it.`,
      )
    if (this.#training)
      throw new ConfigError(`${name}: the adapter is being trained by a run; finish or leave that one first.`)
    this.#primitive ??= new Primitive(this.#base, this.#state)
    return this.#primitive
  }

  /** Takes it off the model and frees its memory, after work in flight. */
  async detach(): Promise<void> {
    this.#detached(this)
    await this.#lifetime.dispose(async () => {
      await this.#primitive?.close()
      await this.#state.native.dispose()
    })
  }

  /** The same as `detach`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach()
  }

  /** Runs native work that needs the adapter. @internal */
  use<T>(work: (state: AdapterState) => Promise<T>): Promise<T> {
    return this.#lifetime.use(() => this.#base.lifetime.use(() => work(this.#state)))
  }

  /** Native state, for sessions of the model. @internal */
  get state(): AdapterState {
    this.#lifetime.check()
    return this.#state
  }

  #checkedRank(rank: number | null): number | null {
    if (rank === null) return null
    const most = rulesOf(this.strategy).ranked?.(this.strategy)?.most
    if (most === undefined && Number.isInteger(rank))
      throw new ConfigError(
        `the rank of adapter ${this.name} cannot be ${rank}: it was trained as ${this.strategy.name}, which has a single rank; train with dylora to choose the rank later, save it with form lora at the nearest rank, or leave rank at null.`,
        { adapter: this.name, rank },
      )
    if (most !== undefined && Number.isInteger(rank) && rank >= 1 && rank <= most) return rank
    const ranks = most === undefined ? 'null' : `an integer from 1 to ${most}, or null`
    throw badArgument(rank, `adapter ${this.name}`, 'rank', `${ranks} for all ranks`)
  }

  /** Marks it as being trained; returns what marks the end. */
  #claim(): () => void {
    if (this.#training)
      throw new ConfigError('this adapter is being trained by another run; finish or leave that one first.')
    if (this.#primitive?.busy)
      throw new ConfigError(
        'forwardBackward() or optimStep() is in progress on this adapter; wait for it before a run.',
      )
    void this.#primitive?.close()
    this.#primitive = undefined
    this.#training = true
    return () => {
      this.#training = false
    }
  }
}

/**
 * The column that names the client of each row, where the strategy has clients; private runs hold out whole clients.
 */
export function groupedBy(strategy: StrategyConfig): Pick<DataSources, 'groupBy' | 'holdOutGroups'> {
  const clients = rulesOf(strategy).privacy?.(strategy)?.clients ?? null
  const groupBy = clientColumn(clients)
  return groupBy === undefined ? {} : { groupBy, holdOutGroups: clients?.partition === null }
}

/** @throws {ConfigError} for anything but a finite number */
export function checkedWeight(weight: unknown, name: string): number {
  if (typeof weight === 'number' && Number.isFinite(weight)) return weight
  throw badArgument(weight, `adapter ${name}`, 'weight', 'a finite number; 0 is off')
}
