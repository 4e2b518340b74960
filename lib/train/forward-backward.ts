/**
 * The primitive beneath every loss: gradients of a batch for any function of its log-probabilities, accumulated
 * in the adapter until an optimizer step. A loss that depends on log-probabilities runs the head twice and the
 * blocks once, so that logits are never stored.
 */
import * as z from 'zod'
import { type AdapterState, type BaseModel, checkWritesText } from '../base/base.js'
import { abortSignal, badArgument, checkedOptions } from '../core/arguments.js'
import { ConfigError, DivergedError, UnsupportedError } from '../core/errors.js'
import { integer, numberWithin } from '../core/schema.js'
import { isRecord } from '../core/schema-shape.js'
import {
  checkNeeds,
  denominatorOf,
  denominatorsOf,
  isWeightless,
  type LossName,
  type LossOptions,
  lossOf,
  lossRulesOf,
  type NamedLoss,
  namedLoss,
  scoresAll,
} from '../losses/index.js'
import { headWeights, inMicroBatches, inRows, type RowBatch, scoredRows } from '../losses/micro-batches.js'
import { lossPasses } from '../losses/passes.js'
import {
  add,
  type Denominators,
  join,
  type LossValue,
  type Metrics,
  means,
  referenceOf,
  sumOf,
} from '../losses/rows.js'
import {
  checkedBatch,
  checkedRows,
  numbersOf,
  type Pair,
  type Row,
  type Split,
  type TokenRow,
} from '../losses/token-rows.js'
import type { NativeSession, PlanOptions, TrainInput } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { Turns } from '../native/handles.js'
import { warnOfRemarks } from '../native/remarks.js'
import { closeSession, openSession } from '../native/session.js'
import { adamWHeld, nativeOptimizer, optimizerState } from '../options/optimizers.js'
import { isPrivate, rulesOf } from '../strategies/index.js'
import type { StepRules } from '../strategies/strategy.js'
import { countedRanks, inUse } from './step.js'

/** A row with its log-probabilities, as passed to a loss function. */
export interface LossRow {
  readonly tokens: Int32Array
  readonly weights: Float64Array
  /** Log-probability of each token, including tokens of weight 0; entry 0 is 0. */
  readonly logprobs: Float64Array
}

/** Result of a custom loss function. */
export interface FunctionLoss {
  loss: number
  /**
   * Derivative of the loss with respect to the log-probability of each token, one array per row, not multiplied
   * by weights.
   */
  gradient: readonly (readonly number[] | Float64Array | Float32Array)[]
  metrics?: Readonly<Record<string, number>>
}

/** Rows or pairs; or a list of micro-batches of them, each of which is computed at once. */
export type TrainBatch =
  | readonly Row[]
  | readonly Pair[]
  | readonly (readonly Row[])[]
  | readonly (readonly Pair[])[]

/** A named loss, with or without options, or a function of the log-probabilities of all rows. */
export type Loss =
  | LossName
  | LossOptions
  | ((rows: readonly LossRow[]) => FunctionLoss | Promise<FunctionLoss>)

/** Options of `forwardBackward`. */
export interface ForwardBackwardOptions {
  /**
   * Divisor of the loss. Default: the count that the loss averages over, summed over all calls since the last step.
   * ORPO has two counts: pairs and tokens.
   */
  normalizer?: number | { pairs: number; tokens: number }
  /** Divisor of the logits. Default 1. */
  temperature?: number
  /**
   * Most tokens in a micro-batch; a longer row or pair gets its own. Default 2048. A batch that is a list of
   * micro-batches keeps them.
   */
  microBatchTokens?: number
  /** Stops between micro-batches and discards the accumulated gradient. */
  signal?: AbortSignal
}

/** Result of `forwardBackward`. */
export interface ForwardBackward {
  /** `lossSum / denominator`. */
  loss: number
  lossSum: number
  denominator: number
  /** Means over the batch. */
  metrics: Record<string, number>
  /** All tokens processed. */
  tokens: number
  /** Rows or pairs that were skipped, because the weights of a row are all 0. */
  skipped: number
}

/** Options of `optimStep`. */
export interface OptimStepOptions {
  learningRate: number
  /** Default 0. */
  weightDecay?: number
  /** L2 norm to which the gradient is clipped. Default 0: no clipping. */
  maxGradNorm?: number
  /** Decay rates of AdamW's moments. Default [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Term added to AdamW's denominator. Default 1e-8. */
  eps?: number
}

const PASS = 'pass'
const TWO_PASSES = 'two_passes'
const EVALUATE = 'evaluate'
const MICRO_BATCH_TOKENS = 2048
/** Seed of dropout and of drawn ranks. */
const SEED = 42

/** How a gradient is normalized: by a count at the step, by a given normalizer, or by the counts of its only call. */
type Division = { by: string; count: number } | { by: 'normalizer' } | { by: 'own counts' }

/** Gradient accumulated since the last optimizer step. */
interface Gathered {
  by: string
  /** The count that the gradient is divided by so far; 0 if each call divides by its own. */
  denominator: number
  microBatches: number
}

export class Primitive {
  readonly #base: BaseModel
  readonly #adapter: AdapterState
  readonly #queue = new Turns()
  #calls = 0
  #open: { session: NativeSession; plans: Record<string, PlanOptions>; capacity: number } | undefined
  #gathered: Gathered | undefined
  /** True if a call since the last step skipped all its rows. */
  #skipped = false
  #rules: StepRules = {}
  #steps = 0

  constructor(base: BaseModel, adapter: AdapterState) {
    checkWritesText(base, 'forwardBackward()')
    const { strategy } = adapter.description
    if (isPrivate(strategy) || rulesOf(strategy).steps?.(strategy)?.byLength)
      throw new UnsupportedError(
        `forwardBackward() cannot train strategy ${strategy.name}, whose steps ${isPrivate(strategy) ? 'are private rounds' : 'depend on the length of the run'}; use train().`,
        { strategy: strategy.name },
      )
    this.#base = base
    this.#adapter = adapter
  }

  /** True while calls are waiting or running. */
  get busy(): boolean {
    return this.#calls > 0
  }

  #turn<T>(work: () => Promise<T>): Promise<T> {
    this.#calls++
    return this.#queue.run(work).finally(() => {
      this.#calls--
    })
  }

  /** Frees the session and discards the accumulated gradient. */
  async close(): Promise<void> {
    await this.#queue.run(async () => {
      const open = this.#open
      this.#open = undefined
      if (open) await closeSession(open.session, open.plans)
    })
  }

  forwardBackward(batch: TrainBatch, loss: Loss, options: ForwardBackwardOptions): Promise<ForwardBackward> {
    const name = 'forwardBackward()'
    const { vocabSize } = this.#base.graph
    const named = typeof loss === 'function' ? null : namedLoss(loss, name)
    const paired = named !== null && lossRulesOf(named).paired
    const settings = checkedSettings(options, name, named)
    const given = checkedBatch(batch, paired, vocabSize, name, settings.microBatchTokens)
    if (named !== null) checkNeeds(named, given.groups, name)
    return this.#turn(() =>
      this.#failing(() =>
        named === null
          ? this.#byFunction(given, loss as Extract<Loss, (...rows: never[]) => unknown>, settings)
          : this.#byName(this.#learned(given), named, settings),
      ),
    )
  }

  /** The rows or pairs that have something to learn. */
  #learned({ groups, split }: Batch): Batch & { skipped: number } {
    const isKept = groups.map((group) => !isWeightless(group))
    const kept = groups.filter((_, index) => isKept[index])
    const skipped = groups.length - kept.length
    if (skipped === 0) return { groups, split, skipped }
    this.#base.warn(
      'forwardBackward(): rows whose weights are all 0 have nothing to learn and are skipped; `skipped` in its result counts them.',
    )
    if (typeof split === 'number') return { groups: kept, split, skipped }
    let from = 0
    const counts = split.map((count) => {
      from += count
      return isKept.slice(from - count, from).filter(Boolean).length
    })
    return { groups: kept, split: counts.filter((count) => count > 0), skipped }
  }

  optimStep(options: OptimStepOptions): Promise<{ gradNorm: number; step: number }> {
    const settings = checkedOptions(stepSchema, options, 'optimStep()')
    return this.#turn(async () => {
      const gathered = this.#gathered
      if (gathered === undefined && this.#skipped) {
        this.#skipped = false
        return { gradNorm: 0, step: this.#steps }
      }
      if (gathered === undefined)
        throw new ConfigError(
          'optimStep(): no gradient has been accumulated since the last step; call forwardBackward() first.',
        )
      return this.#failing(async () => {
        const { native, description } = this.#adapter
        const { learningRate, weightDecay, maxGradNorm, betas, eps } = settings
        const step = this.#steps + 1
        const update = {
          ...nativeOptimizer(adamWHeld({ betas, eps, weightDecay })),
          groups: description.groups.map(({ learningRateFactor, learningRate: own, decays }) => ({
            learningRate: (own ?? learningRate) * learningRateFactor,
            weightDecay: decays === false ? 0 : weightDecay,
          })),
          maxGradNorm,
          step,
          ...countedRanks(this.#rules.ranks?.(step)),
        }
        this.#adapter.version++
        const { gradNorm } = await this.#adapter.turns.run(async () => {
          const made = await native.optimizerStep(update).promise
          await this.#rules.updated?.(step)
          return made
        })
        warnOfRemarks()
        this.#steps = step
        this.#gathered = undefined
        this.#skipped = false
        return { gradNorm, step }
      })
    })
  }

  /** Log-probabilities alone, without dropout. */
  forward(
    batch: readonly Row[],
    options: Omit<ForwardBackwardOptions, 'normalizer'>,
  ): Promise<{ logprobs: Float64Array[] }> {
    const name = 'forward()'
    const groups = checkedRows(batch, this.#base.graph.vocabSize, name).map((row) => [row])
    const { temperature, microBatchTokens, signal } = checkedOptions(forwardSchema, options, name)
    return this.#turn(async () => {
      signal?.throwIfAborted()
      const session = await this.#session(groups, microBatchTokens)
      const logprobs: Float64Array[] = []
      for (const made of inMicroBatches(groups, microBatchTokens, () => true)) {
        signal?.throwIfAborted()
        const input = { ...made.batch, temperature, wantLogProbs: true }
        const { logProbs } = await session.evaluate(EVALUATE, input).promise
        logprobs.push(...inRows(made, logProbs as Float32Array))
      }
      return { logprobs }
    })
  }

  /** Discards the accumulated gradient on failure, since it is incomplete. */
  async #failing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await translatedAsync(work)
    } catch (error) {
      this.#gathered = undefined
      await this.#adapter.native.zeroGradients().promise
      throw error
    }
  }

  async #byName(
    { groups, split, skipped }: Batch & { skipped: number },
    loss: NamedLoss,
    { normalizer, temperature, signal }: Settings,
  ): Promise<ForwardBackward> {
    signal?.throwIfAborted()
    if (groups.length === 0) {
      this.#skipped = true
      return { loss: 0, lossSum: 0, denominator: 0, metrics: {}, tokens: 0, skipped }
    }
    const session = await this.#session(groups, split)
    const kl = await this.#divergence(session, loss, groups, split, temperature, signal)
    const counts = denominatorsOf(loss, groups)
    const count = denominatorOf(loss)
    const division: Division =
      normalizer !== null
        ? { by: 'normalizer' }
        : count === null
          ? { by: 'own counts' }
          : { by: `${count} of ${loss.name}`, count: counts[count] }
    const denominator = 'count' in division ? division.count : 1
    if (!(denominator > 0))
      throw new ConfigError(
        `forwardBackward(): the weights add up to ${denominator}, by which nothing can be divided; give a normalizer.`,
        { denominator },
      )
    const total = await this.#gather(division)
    const per = normalizer ?? (count === null ? counts : { pairs: total, tokens: total, rows: total })
    const metrics: Metrics = {}
    let sum = 0
    for (const made of inMicroBatches(groups, split, scoresAll(loss))) {
      signal?.throwIfAborted()
      const valued = (logProbs: Float32Array): LossValue => {
        const value = lossOf(loss, scoredRows(made, logProbs), per, kl)
        if (!Number.isFinite(value.loss)) throw diverged(value.loss)
        sum += value.loss
        join(metrics, value.metrics)
        return value
      }
      await this.#pass(session, made, temperature, loss, per, valued)
    }
    const lossSum = 'count' in division ? sum * total : sum
    const tokens = tokensOf(groups)
    return { loss: lossSum / denominator, lossSum, denominator, metrics: means(metrics), tokens, skipped }
  }

  /** A gradient that does not depend on log-probabilities is known before the pass that computes the value. */
  async #pass(
    session: NativeSession,
    made: RowBatch,
    temperature: number,
    loss: NamedLoss,
    per: Denominators,
    valued: (logProbs: Float32Array) => LossValue,
  ): Promise<void> {
    const input = this.#input(made, temperature)
    if (lossRulesOf(loss).onePass) {
      const { gradient } = lossOf(loss, scoredRows(made, new Float32Array(made.places.length)), per)
      const weights = headWeights(made, gradient, temperature)
      const { logProbs } = await session.trainStep(PASS, { ...input, lossScale: 1, weights }).promise
      valued(logProbs as Float32Array)
      return
    }
    await lossPasses(session, TWO_PASSES, input, (logProbs) =>
      headWeights(made, valued(logProbs).gradient, temperature),
    )
  }

  /** A function may couple rows of several micro-batches, so all rows are scored first, with training's arithmetic. */
  async #byFunction(
    { groups, split }: Batch,
    loss: Extract<Loss, (...rows: never[]) => unknown>,
    { normalizer, temperature, signal }: Settings,
  ): Promise<ForwardBackward> {
    signal?.throwIfAborted()
    const session = await this.#session(groups, split)
    const batches = inMicroBatches(groups, split, () => true)
    const divisor = normalizer?.tokens ?? 1
    await this.#gather(normalizer === null ? { by: 'functions', count: 0 } : { by: 'normalizer' })
    let found: FunctionLoss | undefined
    const call = async (scored: readonly Float64Array[]) => {
      const rows = groups.flat().map(({ tokens, weights }, index) => ({
        ...{ tokens: tokens.slice(), weights: weights.slice() },
        logprobs: scored[index] as Float64Array,
      }))
      found = checkedFunctionLoss(await loss(rows), rows)
      return found.gradient.map((row) => Float64Array.from(row, (value) => value / divisor))
    }
    const [only] = batches
    if (batches.length === 1 && only !== undefined)
      await lossPasses(session, TWO_PASSES, this.#input(only, temperature), async (logProbs) =>
        headWeights(only, await call(inRows(only, logProbs)), temperature),
      )
    else {
      const inputs = batches.map((made) => this.#input(made, temperature))
      const scored: Float64Array[] = []
      for (const [index, made] of batches.entries()) {
        signal?.throwIfAborted()
        const input = { ...(inputs[index] as TrainInput), lossScale: 1 }
        const { logProbs } = await session.scoreStep(TWO_PASSES, input).promise
        scored.push(...inRows(made, logProbs as Float32Array))
      }
      const gradient = await call(scored)
      let from = 0
      for (const [index, made] of batches.entries()) {
        signal?.throwIfAborted()
        const own = gradient.slice(from, from + made.rows.length)
        from += made.rows.length
        const weights = headWeights(made, own, temperature)
        await session.trainStep(PASS, { ...(inputs[index] as TrainInput), lossScale: 1, weights }).promise
      }
    }
    const { loss: value, metrics = {} } = found as FunctionLoss
    const sum = value / divisor
    const tokens = tokensOf(groups)
    return { loss: sum, lossSum: sum, denominator: 1, metrics: { ...metrics }, tokens, skipped: 0 }
  }

  /** Estimates the divergence of the current model from the reference on mismatched rows, if the loss needs it. */
  async #divergence(
    session: NativeSession,
    loss: NamedLoss,
    groups: readonly (readonly TokenRow[])[],
    split: Split,
    temperature: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    if (!lossRulesOf(loss).measuresDivergence?.(loss)) return 0
    const mismatched = groups.flat().map(({ kl }) => [kl as TokenRow])
    const mean: Metrics = {}
    for (const made of inMicroBatches(mismatched, split)) {
      signal?.throwIfAborted()
      const input = { ...made.batch, temperature, wantLogProbs: true }
      const { logProbs } = await session.evaluate(EVALUATE, input).promise
      for (const row of scoredRows(made, logProbs as Float32Array))
        add(mean, 'kl', sumOf(row) - referenceOf(row))
    }
    return Math.max(0, means(mean).kl as number)
  }

  #input({ batch }: RowBatch, temperature: number): Omit<TrainInput, 'lossScale' | 'weights'> {
    const gathered = this.#gathered as Gathered
    const step = this.#steps + 1
    const microStep = gathered.microBatches++
    return { ...batch, temperature, seed: SEED, step, microStep, ...inUse(this.#rules.ranks?.(step)) }
  }

  /**
   * Makes the gradient so far a part of the mean over all calls since the last step.
   * @returns the divisor of this call
   */
  async #gather(division: Division): Promise<number> {
    const { by } = division
    const count = 'count' in division ? division.count : 0
    const gathered = this.#gathered
    if (gathered !== undefined && (gathered.by !== by || by === 'own counts'))
      throw new ConfigError(
        `forwardBackward(): the gradient since the last step is divided by ${gathered.by}, and that of this call by ${by}; give both a normalizer, or call optimStep() between.`,
      )
    const before = gathered?.denominator ?? 0
    const total = before + count
    if (before > 0) await this.#adapter.native.scaleGradients(before / total).promise
    this.#gathered = { by, denominator: total, microBatches: gathered?.microBatches ?? 0 }
    return total
  }

  /** A session with capacity for these rows; the first call begins training. */
  async #session(groups: readonly (readonly TokenRow[])[], split: Split): Promise<NativeSession> {
    const batches = inMicroBatches(groups, split)
    const mismatched = groups.flat().flatMap(({ kl }) => (kl === undefined ? [] : [[kl]]))
    const others = mismatched.length === 0 ? [] : inMicroBatches(mismatched, split)
    const capacity = Math.max(...[...batches, ...others].map(({ batch }) => batch.tokens.length))
    if (this.#open !== undefined && this.#open.capacity >= capacity) return this.#open.session
    const open = this.#open
    this.#open = undefined
    if (open) await closeSession(open.session, open.plans)
    await this.#begin()
    const { precision } = this.#base
    const size = { tokens: capacity, sequences: Math.ceil(capacity / 2), headRows: capacity, precision }
    const plans: Record<string, PlanOptions> = {
      [PASS]: { mode: 'train', ...size, rowWeights: true },
      [TWO_PASSES]: { mode: 'train', ...size, rowWeights: true, twoPasses: true },
      [EVALUATE]: { mode: 'evaluate', ...size },
    }
    const session = await openSession(this.#base.native, [this.#adapter.native], plans)
    this.#open = { session, plans, capacity }
    return session
  }

  async #begin(): Promise<void> {
    const { native, description, turns } = this.#adapter
    if (this.#begun) return
    const { strategy } = description
    const state = optimizerState({ optimizer: 'adamw', optimizerInBackward: false }, strategy)
    this.#adapter.version++
    await turns.run(() => native.restart(state).promise)
    this.#adapter.optimizer = state
    this.#adapter.privacy = []
    this.#adapter.card = null
    // Strategies whose rules depend on the number of steps are refused.
    this.#rules =
      rulesOf(strategy)
        .steps?.(strategy)
        ?.begin({ seed: SEED, totalSteps: Number.MAX_SAFE_INTEGER, description, native }, undefined) ?? {}
    this.#begun = true
  }
  #begun = false
}

/** Rows or pairs in groups, and how they share micro-batches. */
interface Batch {
  groups: readonly (readonly TokenRow[])[]
  split: Split
}

interface Settings {
  normalizer: Denominators | null
  temperature: number
  microBatchTokens: number
  signal?: AbortSignal | undefined
}

const tokensOf = (groups: readonly (readonly TokenRow[])[]): number =>
  groups.flat().reduce((sum, { tokens }) => sum + tokens.length, 0)

function diverged(loss: number): DivergedError {
  return new DivergedError(
    `forwardBackward(): the loss is ${loss}. Lower the learning rate, or check the rows and their reference.`,
    { loss: String(loss) },
  )
}

function checkedFunctionLoss(value: unknown, rows: readonly LossRow[]): FunctionLoss {
  const name = 'forwardBackward()'
  const expected = '{ loss, gradient }, the gradient being an array of numbers for each row'
  if (!isRecord(value) || !Array.isArray(value.gradient))
    throw badArgument(value, name, 'the result of the loss function', expected)
  if (typeof value.loss !== 'number' || !Number.isFinite(value.loss)) throw diverged(Number(value.loss))
  if (value.gradient.length !== rows.length)
    throw badArgument(`${value.gradient.length} arrays`, name, 'gradient', `${rows.length}, one for each row`)
  const gradient = rows.map(({ tokens }, index) =>
    numbersOf((value.gradient as unknown[])[index], tokens.length, name, `gradient.${index}`),
  )
  return { ...(value as unknown as FunctionLoss), gradient }
}

const ABOVE_0 = 'a number above 0'
const above0 = () => numberWithin(Number.MIN_VALUE, Number.MAX_VALUE, ABOVE_0)
const NORMALIZERS = `${ABOVE_0}, or { pairs, tokens } for orpo`
const settingsShape = {
  temperature: above0().default(1),
  microBatchTokens: integer(2).default(MICRO_BATCH_TOKENS),
  signal: abortSignal().optional(),
}
const forwardSchema = z.strictObject(settingsShape)
const forwardBackwardSchema = z.strictObject({
  ...settingsShape,
  normalizer: z
    .union([above0(), z.strictObject({ pairs: above0(), tokens: above0() })], { error: NORMALIZERS })
    .optional(),
})
const BETAS = 'two numbers in [0, 1)'
const beta = z.number({ error: BETAS }).min(0, { error: BETAS }).lt(1, { error: BETAS })
const stepSchema = z.strictObject({
  learningRate: above0(),
  weightDecay: numberWithin(0, Number.MAX_VALUE, 'a number from 0').default(0),
  maxGradNorm: numberWithin(0, Number.MAX_VALUE, 'a number from 0 (0 is off)').default(0),
  betas: z.tuple([beta, beta], { error: BETAS }).default([0.9, 0.999]),
  eps: above0().default(1e-8),
})

function checkedSettings(options: unknown, name: string, loss: NamedLoss | null): Settings {
  const { normalizer, ...settings } = checkedOptions(forwardBackwardSchema, options, name)
  if (normalizer === undefined) return { ...settings, normalizer: null }
  if (loss !== null && denominatorOf(loss) === null) {
    if (typeof normalizer === 'number')
      throw badArgument(normalizer, name, 'normalizer', `{ pairs, tokens }: ${loss.name} is a mean over both`)
    return { ...settings, normalizer: { ...normalizer, rows: normalizer.pairs } }
  }
  if (typeof normalizer !== 'number') throw badArgument(normalizer, name, 'normalizer', ABOVE_0)
  return { ...settings, normalizer: { pairs: normalizer, tokens: normalizer, rows: normalizer } }
}
