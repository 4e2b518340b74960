/** An adapter attached to a loaded model: trained, saved, and detached. Its weights live in native memory. */

import * as z from 'zod'
import { type AdapterState, type BaseModel, type Saved, saveAdapter } from '../base/base.js'
import { badArgument, checkedOptions, checkedPath } from '../core/arguments.js'
import { ConfigError } from '../core/errors.js'
import { integer, word } from '../core/schema.js'
import {
  type ExportOptions,
  exportSchema,
  type SaveOptions,
  saveSchema,
  type Written,
} from '../export/options.js'
import { exportModel, saveModel } from '../export/save.js'
import type { Row } from '../losses/token-rows.js'
import { Lifetime } from '../native/handles.js'
import type { TrainOptions } from '../options/types.js'
import { remarksForOthers } from '../peft/other-programs.js'
import { remarksOn } from '../strategies/describe.js'
import { rulesOf } from '../strategies/index.js'
import type { StrategyConfig } from '../strategies/strategy.js'
import { cardText } from '../train/records/model-card.js'
import { prepareData } from '../train/rows/data.js'
import { Primitive } from '../train/run/forward-backward.js'
import type {
  ForwardBackward,
  ForwardBackwardOptions,
  Loss,
  OptimStepOptions,
  TrainBatch,
} from '../train/run/forward-backward-options.js'
import type { TrainingRun } from '../train/run/run.js'
import type { DatasetArgument } from '../train/sources/data-sources.js'
import { type RunExtras, type TrainControl, trainingRun } from './training.js'

export { groupedBy, type TrainControl } from './training.js'

const saveAdapterSchema = z.strictObject({
  form: word(['own', 'lora']).default('own'),
  rank: integer(1).nullable().default(null),
})

/** An adapter attached to a model, which can be trained, saved, merged, and exported. Holds memory until `detach()`. */
export class Adapter {
  /** Unique among the adapters of the model. */
  readonly name: string
  readonly strategy: StrategyConfig
  /** Paths of the linear layers that the adapter modifies. */
  readonly targets: readonly string[]
  /**
   * Warnings about settings that are valid but rarely intended, such as a rank larger than a layer; one sentence each.
   */
  readonly remarks: readonly string[]
  /** Number of trainable parameters; 0 for an adapter that was loaded for inference. */
  readonly trainableParameters: number
  readonly #base: BaseModel
  readonly #state: AdapterState
  readonly #lifetime: Lifetime
  readonly #detached: (adapter: Adapter) => void
  readonly #begins: () => void
  #training = false
  #primitive: Primitive | undefined
  #weight = 1
  #rank: number | null = null

  /** @internal */
  constructor(
    name: string,
    base: BaseModel,
    state: AdapterState,
    detached: (adapter: Adapter) => void,
    begins: () => void,
  ) {
    this.name = name
    const description = state.whole ?? state.description
    const { strategy, targets, spec } = description
    this.strategy = strategy
    this.targets = targets
    const trained = state.trainable ? spec.parameters.filter((parameter) => parameter.trained) : []
    this.remarks = state.trainable ? remarksOn(description, base.sites) : []
    this.trainableParameters = trained.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    this.#base = base
    this.#state = state
    this.#detached = detached
    this.#begins = begins
    this.#lifetime = new Lifetime(
      `The adapter ${name} of ${base.name}`,
      'attach or load it again, on a model that is loaded',
    )
  }

  /**
   * Weight of the adapter's output in `evaluate` and `generate`: 1 by default; 0 turns it off. Training always uses 1.
   * @throws {ConfigError} unless the value is a finite number
   */
  get weight(): number {
    return this.#weight
  }

  set weight(weight: number) {
    this.#weight = checkedWeight(weight, this.name)
  }

  /**
   * Rank at which the adapter is used everywhere except in training, e.g. in `evaluate`, `generate`, and `merge`: only
   * the first `rank` ranks take part. The default, null, uses all of them. Only adapters trained with `dylora()` can be
   * truncated.
   * @throws {ConfigError} for a rank that the adapter does not have
   * @example for (const rank of [1, 2, 4, 8]) { adapter.rank = rank; console.log(rank, await
   * model.evaluate('val.jsonl')) }
   */
  get rank(): number | null {
    return this.#rank
  }

  set rank(rank: number | null) {
    this.#rank = this.#checkedRank(rank)
  }

  /**
   * Creates a run that trains this adapter alone. Training starts when the run is iterated; its memory plan is
   * available immediately.
   * @throws {ConfigError} for an unknown option, a value out of range, or an adapter that was loaded for inference
   * @example for await (const step of adapter.train('train.jsonl', { maxSteps: 100 })) console.log(step.loss)
   */
  train(data: DatasetArgument, options: Partial<TrainOptions> & TrainControl = {}): TrainingRun {
    return this.trainOn(data, options, prepareData)
  }

  /** Like `train`, but with a caller-supplied data reader, schedule, search, or ranks. @internal */
  trainOn(
    data: DatasetArgument,
    options: Partial<TrainOptions> & TrainControl,
    prepare: typeof prepareData,
    more: RunExtras = {},
  ): TrainingRun {
    this.#lifetime.check()
    const trained = {
      ...{ base: this.#base, adapter: this.#state, strategy: this.strategy },
      use: <T>(work: (state: AdapterState) => Promise<T>) => this.use(work),
      begin: () => this.#claim(),
    }
    return trainingRun(trained, data, options, prepare, more)
  }

  /**
   * Saves the adapter as a folder that PEFT can load, with its model card, README.md, unless that of the folder is not
   * by lowrank. During training it saves the state between two steps.
   * @param options.form `own` (default) saves in the format of the adapter's strategy; `lora` saves an equivalent plain
   * LoRA, for programs that support no other kind
   * @param options.rank for adapters trained with `dylora()`: saves a plain LoRA of the first `rank` ranks; default
   * null, all of them regardless of `adapter.rank`. For others, with form `lora`: saves the LoRA of this rank closest
   * to the adapter's weight update; default null, an exactly equivalent LoRA
   * @returns the error of the saved adapter: 0 if exact, else the norm of the difference relative to the norm of the
   * weight update; and remarks on settings that programs other than PEFT ignore or refuse
   * @throws {ConfigError} for a rank that the adapter does not have
   * @throws {UnsupportedError} when no equivalent LoRA exists and no rank is given
   * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
   * @example const { error } = await adapter.save('plain', { form: 'lora', rank: 16 })
   */
  async save(path: string, options: { form?: 'own' | 'lora'; rank?: number | null } = {}): Promise<Saved> {
    this.#lifetime.check()
    const { form, rank } = checkedOptions(saveAdapterSchema, options, 'save()')
    checkedPath(path, 'save()', 'path')
    const near = form === 'lora' && rulesOf(this.strategy).ranked?.(this.strategy) === undefined
    const which = near ? { nearestRank: rank } : { rank: this.#checkedRank(rank) }
    const { error } = await this.use(async (state) => {
      const card = state.card ?? (await cardText(this.#base, state, null))
      return saveAdapter(path, this.#base, state, { form, ...which, card })
    })
    return { error, remarks: await remarksForOthers(path) }
  }

  /**
   * Merges this adapter, at its `rank`, into the model, writes the result as a Hugging Face folder, and compares what
   * was written with the original. Ignores other adapters and all adapter weights.
   * @throws {ConfigError} when the destination exists, or a value does not fit the dtype
   * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
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
   * Exports the model with this adapter merged at its `rank`, or the adapter alone, in a format for other programs, and
   * compares what was written with the original. Ignores other adapters and all adapter weights.
   * @throws {ConfigError} when the destination exists, or options conflict
   * @throws {UnsupportedError} for a model, tokenizer, or adapter that the format cannot represent
   * @throws {WriteError} when the disk is full or refuses the write; no partial file is left behind
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
   * Accumulates the gradient of a loss over a batch of token rows: the building block of custom training loops. Calls
   * run in the order they are made, awaited or not; the same sequence of calls gives bit-identical results.
   * @param batch rows of tokens; for `dpo` and `orpo`, pairs of rows; or a list of micro-batches of them. The rows of
   * one call give bit for bit the gradient of a step of `train` with the same micro-batches
   * @param loss `cross_entropy`, `dpo`, `orpo`, `kto`, `importance_sampling`, or `{ name, …options }`; or a function
   * that receives the log-probability of every token and returns the loss and its gradient. The function must not await
   * another call on this adapter: that call would wait for the function, a deadlock.
   * @throws {ConfigError} for an invalid row or option, naming the row and field, or when accumulated gradients use
   * different normalizers
   * @throws {DivergedError} when the loss is not finite; like any failure, this clears the gradient
   * @throws {UnsupportedError} for private strategies, and strategies whose steps depend on the length of a run
   * @example
   * const { loss } = await adapter.forwardBackward([{ tokens, weights }], 'cross_entropy')
   * const { gradNorm } = await adapter.optimStep({ learningRate: 1e-4 })
   */
  async forwardBackward(
    batch: TrainBatch,
    loss: Loss,
    options: ForwardBackwardOptions = {},
  ): Promise<ForwardBackward> {
    return this.use(() => this.#lowLevel('forwardBackward()').forwardBackward(batch, loss, options))
  }

  /**
   * Updates the adapter with AdamW from the gradients accumulated since the last update, and clears them. If all rows
   * were skipped, nothing changes.
   * @returns the gradient norm before clipping, and the number of steps so far
   * @throws {ConfigError} when no gradient has been accumulated, or for an invalid option
   */
  async optimStep(options: OptimStepOptions): Promise<{ gradNorm: number; step: number }> {
    return this.use(() => this.#lowLevel('optimStep()').optimStep(options))
  }

  /**
   * Log-probability of each token in a batch of rows, using this adapter alone at its full rank and without dropout.
   * @returns one array per row, in nats; entry 0 is always 0, since the first token has no context
   * @throws {ConfigError} for an invalid row or option
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

  /** Detaches the adapter from the model and frees its memory, after pending work has finished. */
  async detach(): Promise<void> {
    this.#detached(this)
    await this.#lifetime.dispose(async () => {
      await this.#primitive?.close()
      await this.#state.native.dispose()
    })
  }

  /** Same as `detach`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach()
  }

  /** Runs native work that needs the adapter, which stays alive until the work is done. @internal */
  use<T>(work: (state: AdapterState) => Promise<T>): Promise<T> {
    return this.#lifetime.use(() => this.#base.lifetime.use(() => work(this.#state)))
  }

  /** Native state, used by the sessions of the model. @internal */
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

  /** Marks the adapter as in training; returns a function that clears the mark. */
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
    this.#begins()
    return () => {
      this.#training = false
    }
  }
}

/** @throws {ConfigError} unless the weight is a finite number */
export function checkedWeight(weight: unknown, name: string): number {
  if (typeof weight === 'number' && Number.isFinite(weight)) return weight
  throw badArgument(weight, `adapter ${name}`, 'weight', 'a finite number; 0 is off')
}
