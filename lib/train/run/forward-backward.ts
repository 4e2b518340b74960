/**
 * The steps of programs that compute their own losses: gradients of a batch for any function of its log-probabilities,
 * accumulated in the adapter until an optimizer step.
 */
import { type AdapterState, type BaseModel, checkWritesText } from '../../base/base.js'
import { checkedOptions } from '../../core/arguments.js'
import { ConfigError, UnsupportedError } from '../../core/errors.js'
import { mean } from '../../core/mean.js'
import type { PromptFormat } from '../../formats/prompt-format.js'
import {
  checkNeeds,
  denominatorOf,
  denominatorsOf,
  lossOf,
  lossRulesOf,
  type NamedLoss,
  namedLoss,
  scoresAll,
} from '../../losses/index.js'
import { headWeights, inMicroBatches, inRows, type RowBatch, scoredRows } from '../../losses/micro-batches.js'
import { type Denominators, join, type Metrics, means, referenceOf, sumOf } from '../../losses/rows.js'
import {
  checkedBatch,
  checkedRows,
  type Pair,
  type Row,
  type Split,
  type TokenRow,
} from '../../losses/token-rows.js'
import type { NativeSession } from '../../native/addon.js'
import { translatedAsync } from '../../native/errors.js'
import { Turns } from '../../native/handles.js'
import { adamWHeld, optimizerState } from '../../options/optimizers.js'
import { isPrivate, rulesOf } from '../../strategies/index.js'
import type { StepRules } from '../../strategies/strategy.js'
import { Gradients, type Work } from '../engine/gradients.js'
import { ALONE, type Made } from '../engine/passes.js'
import { scoredBy } from '../engine/scored-rows.js'
import { formatOfRows } from '../rows/prompting.js'
import { countedRanks, inUse, updateOf } from '../steps/step.js'
import {
  type Batch,
  checkedFunctionLoss,
  checkedSettings,
  diverged,
  type ForwardBackward,
  type ForwardBackwardOptions,
  type FunctionLoss,
  forwardSchema,
  type Loss,
  type LossFunction,
  learned,
  type OptimStepOptions,
  type Settings,
  stepSchema,
  type TrainBatch,
} from './forward-backward-options.js'
import { EVALUATE, PLANS, RowSession } from './row-session.js'

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

/** The training that has begun. */
interface Begun {
  rules: StepRules
  gradients: Gradients
}

export class Primitive {
  readonly #base: BaseModel
  readonly #adapter: AdapterState
  readonly #session: RowSession
  readonly #queue = new Turns()
  #calls = 0
  #begun: Begun | undefined
  #gathered: Gathered | undefined
  /** True if a call since the last step skipped all its rows. */
  #skipped = false
  #steps = 0
  /** Prompt format of the rows so far. */
  #format: PromptFormat | null = null

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
    this.#session = new RowSession(base, adapter)
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
    await this.#queue.run(() => this.#session.close())
  }

  forwardBackward(batch: TrainBatch, loss: Loss, options: ForwardBackwardOptions): Promise<ForwardBackward> {
    const name = 'forwardBackward()'
    const { vocabSize } = this.#base.graph
    const named = typeof loss === 'function' ? null : namedLoss(loss, name)
    const paired = named !== null && lossRulesOf(named).paired
    const settings = checkedSettings(options, name, named)
    const given = checkedBatch(batch, paired, vocabSize, name, settings.microBatchTokens)
    if (named !== null) checkNeeds(named, given.groups, name)
    return this.#turn(async () => {
      const made = await this.#failing(() =>
        named === null
          ? this.#byFunction(given, loss as LossFunction, settings)
          : this.#byName(given, named, settings),
      )
      this.#format = formatOfRows(this.#format, batch.flat() as (Row | Pair)[])
      if (this.#format !== null) this.#adapter.format = this.#format
      return made
    })
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
      return this.#failing(() => this.#update(settings))
    })
  }

  async #update(settings: Required<OptimStepOptions>): Promise<{ gradNorm: number; step: number }> {
    const { rules, gradients } = this.#begun as Begun
    const step = this.#steps + 1
    const options = { ...settings, optimizer: adamWHeld(settings) }
    const { gradNorm } = await gradients.update(this.#session.current, {
      ...updateOf({ adapter: this.#adapter, options }, 1, step),
      maxGradNorm: settings.maxGradNorm,
      ...countedRanks(rules.ranks?.(step)),
    })
    this.#steps = step
    this.#gathered = undefined
    this.#skipped = false
    return { gradNorm, step }
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
      const session = await this.#sessionOf(groups, microBatchTokens)
      const batches = inMicroBatches(groups, microBatchTokens, () => true)
      const rows = await scoredBy(session, EVALUATE, batches, { temperature, signal })
      return { logprobs: rows.map(({ logprobs }) => logprobs) }
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

  async #byName(given: Batch, loss: NamedLoss, settings: Settings): Promise<ForwardBackward> {
    const { normalizer, temperature, signal } = settings
    signal?.throwIfAborted()
    const { groups, split } = learned(given)
    const skipped = given.groups.length - groups.length
    if (skipped > 0)
      this.#base.warn(
        'forwardBackward(): rows whose weights are all 0 have nothing to learn and are skipped; `skipped` in its result counts them.',
      )
    if (groups.length === 0) {
      this.#skipped = true
      return { loss: 0, lossSum: 0, denominator: 0, metrics: {}, tokens: 0, skipped }
    }
    const session = await this.#sessionOf(groups, split)
    const kl = await this.#divergence(session, loss, groups, split, settings)
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
    const works = inMicroBatches(groups, split, scoresAll(loss)).map((made) =>
      workOf(made, loss, per, kl, temperature),
    )
    const metrics: Metrics = {}
    let sum = 0
    for (const made of await this.#add(session, works, settings)) {
      sum += made.loss as number
      join(metrics, made.metrics)
    }
    const lossSum = 'count' in division ? sum * total : sum
    const tokens = tokensOf(groups)
    return { loss: lossSum / denominator, lossSum, denominator, metrics: means(metrics), tokens, skipped }
  }

  /** A function may couple rows of several micro-batches, so all rows are scored first, with training's arithmetic. */
  async #byFunction(
    { groups, split }: Batch,
    loss: LossFunction,
    settings: Settings,
  ): Promise<ForwardBackward> {
    const { normalizer, temperature, signal } = settings
    signal?.throwIfAborted()
    const session = await this.#sessionOf(groups, split)
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
    if (batches.length === 1 && only !== undefined) {
      const value = async (logProbs: Float32Array) => {
        const weights = headWeights(only, await call(inRows(only, logProbs)), temperature)
        return { loss: (found as FunctionLoss).loss, weights }
      }
      await this.#add(session, [{ batch: only.batch, head: { kind: 'scored', value } }], settings)
    } else {
      const gradient = await call(await this.#score(session, batches, settings))
      let from = 0
      const works = batches.map((made): Work => {
        const own = gradient.slice(from, from + made.rows.length)
        from += made.rows.length
        return { batch: made.batch, head: { kind: 'weighted', weights: headWeights(made, own, temperature) } }
      })
      await this.#add(session, works, settings)
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
    { temperature, signal }: Settings,
  ): Promise<number> {
    if (!lossRulesOf(loss).measuresDivergence?.(loss)) return 0
    const mismatched = groups.flat().map(({ kl }) => [kl as TokenRow])
    const batches = inMicroBatches(mismatched, split)
    const rows = await scoredBy(session, EVALUATE, batches, { temperature, signal })
    return Math.max(0, mean(rows.map((row) => sumOf(row) - referenceOf(row))))
  }

  /** Adds the gradients of micro-batches to those since the last step. */
  async #add(session: NativeSession, works: readonly Work[], settings: Settings): Promise<readonly Made[]> {
    const { gradients } = this.#begun as Begun
    const gathered = this.#gathered as Gathered
    const before = gathered.microBatches
    gathered.microBatches += works.length
    const { signal } = settings
    return gradients.add(session, works.length, (index) => works[index] as Work, this.#inputOf(settings), {
      before,
      signal,
    })
  }

  /** Log-probabilities of all rows of some micro-batches whose gradients are added next. */
  async #score(
    session: NativeSession,
    made: readonly RowBatch[],
    settings: Settings,
  ): Promise<Float64Array[]> {
    const { gradients } = this.#begun as Begun
    const { signal } = settings
    const before = (this.#gathered as Gathered).microBatches
    const batches = made.map(({ batch }) => batch)
    const scored = await gradients.score(session, batches, this.#inputOf(settings), { before, signal })
    return made.flatMap((one, index) => inRows(one, scored[index] as Float32Array))
  }

  #inputOf({ temperature }: Settings) {
    const step = this.#steps + 1
    return { temperature, seed: SEED, step, ...inUse(this.#begun?.rules.ranks?.(step)) }
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
  #sessionOf(groups: readonly (readonly TokenRow[])[], split: Split): Promise<NativeSession> {
    return this.#session.of(groups, split, () => this.#begin())
  }

  async #begin(): Promise<void> {
    if (this.#begun) return
    const { native, description, turns } = this.#adapter
    const { strategy } = description
    const state = optimizerState({ optimizer: 'adamw', optimizerInBackward: false }, strategy)
    this.#adapter.version++
    await turns.run(() => native.restart(state).promise)
    this.#adapter.optimizer = state
    this.#adapter.privacy = []
    this.#adapter.card = null
    // Strategies whose rules depend on the number of steps are refused.
    const run = { seed: SEED, totalSteps: Number.MAX_SAFE_INTEGER, description, native }
    const rules = rulesOf(strategy).steps?.(strategy)?.begin(run, undefined) ?? {}
    const gradients = new Gradients({
      ...{ adapter: this.#adapter, plans: PLANS, passes: ALONE, rules },
      diverged: (found) => ('loss' in found ? diverged(found.loss) : found.gradient),
    })
    this.#begun = { rules, gradients }
  }
}

/** A micro-batch with a named loss. A gradient that does not depend on log-probabilities is known before the pass. */
function workOf(made: RowBatch, loss: NamedLoss, per: Denominators, kl: number, temperature: number): Work {
  const { batch } = made
  const valued = (logProbs: Float32Array) => lossOf(loss, scoredRows(made, logProbs), per, kl)
  if (lossRulesOf(loss).onePass) {
    const { gradient } = valued(new Float32Array(made.places.length))
    const weights = headWeights(made, gradient, temperature)
    return { batch, head: { kind: 'weighted', weights, value: valued } }
  }
  const value = (logProbs: Float32Array) => {
    const found = valued(logProbs)
    return { ...found, weights: headWeights(made, found.gradient, temperature) }
  }
  return { batch, head: { kind: 'scored', value } }
}

const tokensOf = (groups: readonly (readonly TokenRow[])[]): number =>
  groups.flat().reduce((sum, { tokens }) => sum + tokens.length, 0)
