/**
 * The rounds of private training. Clients or examples are sampled with a secret key and distributed over the
 * ranks. Clients train one after another with the same plan and base, so memory does not grow with their
 * number. Their contributions are clipped and summed natively, and each round releases the sum once, with noise
 * from the same key.
 */
import { randomBytes } from 'node:crypto'
import { ConfigError, DivergedError, FileFormatError } from '../core/errors.js'
import { Batches, type MicroBatch } from '../data/pack.js'
import type { NativeSession, OptimizerStep } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import { scheduleAt } from '../options/schedules.js'
import { apart, TRAIN_PLAN } from '../planning/plans.js'
import type { PrivacyReport } from '../strategies/privacy-report.js'
import type { PrivacyConfig, StepRanks, StepRules } from '../strategies/strategy.js'
import { passAlone } from '../train/engine/gradients.js'
import { type Window, Windows } from '../train/rows/batches.js'
import type { Examples, RunData } from '../train/rows/data.js'
import type { TrainStep } from '../train/steps/events.js'
import {
  countedRanks,
  finished,
  inUse,
  type MakeSteps,
  regularizers,
  type StepSetup,
  type Steps,
  stepRules,
  type TrainingState,
  updateOf,
} from '../train/steps/step.js'
import { clientsOf } from './clients.js'
import { addIntake, emptyIntake, type Intake } from './intake.js'
import { expectedNoise, noiseRemarks } from './noise.js'
import { checkPledge, type Pledge, pledgeOf } from './pledge.js'
import { epsilonOf, type PrivacyPlan, planPrivacy, reportOf } from './privacy.js'
import { drawCohort } from './sampling.js'

/** The server's Adam: betas and epsilon of Reddi et al. 2021, arXiv 2003.00295. */
const FED_ADAM = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-3 } as const
const PLAIN_SUM = { kind: 'sgd', beta1: 0, beta2: 0, epsilon: 0 } as const

/** State of private training between rounds. It is secret: whoever has the key can subtract the noise. */
interface RoundsState {
  key: string
  pledge: Pledge
  spent: PrivacyReport
  /** Privacy spent by earlier trainings of the same adapter. */
  earlier: readonly PrivacyReport[]
  /** State of the wrapped strategy's own rules. */
  rules?: unknown
}

/** Upper bound on a client's micro-batches per round; separates the dropout seeds of clients. */
const CLIENT_MICRO_STEPS = 2 ** 32

/** Steps of a private training run. All ranks use the key of rank 0 for sampling and noise. */
export function privateRounds(config: PrivacyConfig): MakeSteps {
  return async (setup, state, data) => {
    const kept = setup.beginning.resume === false ? undefined : keptState(state.rules)
    const key = kept
      ? Buffer.from(kept.key, 'hex')
      : await setup.ranks.firsts('key of the noise', async () => newKey(config.noiseKey))
    return new PrivateRounds(setup, state, data, config, { kept, key })
  }
}

class PrivateRounds implements Steps {
  readonly #setup: StepSetup
  readonly #state: TrainingState
  readonly #config: PrivacyConfig
  readonly #examples: Examples
  /** Rows of each client; null if examples are protected, since each is one row. */
  readonly #clients: Uint32Array[] | null
  readonly #plan: PrivacyPlan
  readonly #key: Uint8Array
  readonly #pledge: Pledge
  readonly #rules: StepRules
  /** Reports of earlier trainings of the same adapter. */
  readonly #earlier: readonly PrivacyReport[]

  /**
   * @param state position of the run, advanced by each round
   * @throws {ConfigError} when the settings are inconsistent or do not suit the data
   */
  constructor(
    setup: StepSetup,
    state: TrainingState,
    data: RunData,
    config: PrivacyConfig,
    { kept, key }: { kept: RoundsState | undefined; key: Uint8Array },
  ) {
    this.#setup = setup
    this.#state = state
    this.#config = config
    this.#examples = examplesOf(data, setup)
    const { data: rows, rows: chosen } = this.#examples
    this.#clients =
      config.clients === null ? null : clientsOf(rows, chosen, config.clients, setup.options.seed)
    this.#plan = planPrivacy(config, this.#clients?.length ?? chosen.length)
    this.#key = key
    this.#pledge = pledgeOf(this.#plan, chosen, this.#clients, this.#key)
    if (kept) {
      checkPledge(kept.pledge, this.#pledge)
      this.#checkSpent(kept.spent)
    }
    this.#rules = stepRules(setup, this.#plan.rounds, kept?.rules)
    this.#earlier = kept?.earlier ?? setup.adapter.privacy
    this.#record()
  }

  get totalSteps(): number {
    return this.#plan.rounds
  }

  get privacy(): PrivacyReport {
    return reportOf(this.#plan, this.#state.step)
  }

  get remarks(): readonly string[] {
    const noise = expectedNoise(this.#plan, this.#config, this.#setup.adapter.description.spec)
    return (noise && noiseRemarks(noise, this.#plan.rounds)) ?? []
  }

  async next(session: NativeSession): Promise<TrainStep> {
    const { options, adapter } = this.#setup
    const begin = performance.now()
    this.#checkSpent((this.#state.rules as RoundsState).spent)
    const round = this.#state.step + 1
    const ranks = this.#rules.ranks?.(round)
    const { population, samplingRate } = this.#plan.real
    const drawn = drawCohort(this.#key, round, population, samplingRate)
    const schedule = scheduleAt(options, this.#state.step, this.#plan.rounds)
    const intake = emptyIntake()
    const context = { session, round, ranks, schedule }
    // During a round the adapter holds a client's values, so saving it waits for the end of the round.
    const gradNorm = await adapter.turns.run(async () => {
      await this.#native(({ native }) => native.beginRound())
      try {
        const parts =
          this.#clients === null
            ? this.#examplesIn(drawn, context)
            : this.#clientsIn(this.#rowsOf(drawn, this.#clients), context)
        for await (const part of parts) addIntake(intake, part)
        await this.#release(this.#plan.real.deviation, this.#plan.real.cohort, context)
        const update = this.#clients === null ? this.#ownUpdate(context) : this.#serverUpdate(round, ranks)
        const made = await this.#native(({ native }) => native.optimizerStep(update))
        await this.#rules.updated?.(round)
        return made.gradNorm
      } catch (error) {
        // Undo the round.
        await this.#release(0, 1, context)
        await this.#native(({ native }) => native.zeroGradients())
        throw error
      } finally {
        adapter.version++
      }
    })
    const step = finished(this.#state, { ...intake, begin }, this.#plan.rounds)
    this.#record()
    return {
      ...step,
      epoch: round * this.#plan.real.samplingRate,
      gradNorm,
      learningRate: options.learningRate * schedule,
      privacy: {
        epsilon: epsilonOf(this.#plan, round),
        rank: ranks?.active ?? null,
        cohort: drawn.length,
        clipped_share: drawn.length === 0 ? null : intake.clipped / drawn.length,
      },
    }
  }

  async close(): Promise<void> {}

  /** The recorded epsilon must equal the accountant's for the completed rounds; otherwise neither can be trusted. */
  #checkSpent(recorded: Partial<PrivacyReport> | undefined): void {
    const counted = epsilonOf(this.#plan, this.#state.step)
    if (recorded?.epsilon === counted) return
    throw new FileFormatError(
      `the checkpoint records that ${this.#state.step} rounds spent an epsilon of ${recorded?.epsilon}, and the accountant counts ${counted}; it was changed or damaged. Resume from another one, or start a new run in another output_dir.`,
      { recorded: recorded?.epsilon, counted },
    )
  }

  /** The report is saved with the adapter; the key only in checkpoints. */
  #record(): void {
    const spent = this.privacy
    const rules = this.#rules.state?.()
    this.#setup.adapter.privacy = [...this.#earlier, spent]
    const kept: RoundsState = {
      key: Buffer.from(this.#key).toString('hex'),
      pledge: this.#pledge,
      spent,
      earlier: this.#earlier,
      ...(rules === undefined ? {} : { rules }),
    }
    this.#state.rules = kept
  }

  /** Rows of the clients, largest client first, so that clients training at the same time take about as long. */
  #rowsOf(drawn: readonly number[], clients: readonly Uint32Array[]): Uint32Array[] {
    const rows = drawn.map((client) => clients[client] as Uint32Array)
    return rows.filter(({ length }) => length > 0).sort((a, b) => b.length - a.length)
  }

  /** Trains the clients, one per rank at a time, and adds up their contributions in the order of clients. */
  async *#clientsIn(clients: readonly Uint32Array[], context: RoundContext): AsyncGenerator<Intake> {
    const { ranks, signal } = this.#setup
    for (let begin = 0; begin < clients.length; begin += ranks.size) {
      signal?.throwIfAborted()
      const place = begin + ranks.rank
      const rows = clients[place]
      yield* await ranks.together('clients of a round', async () =>
        rows === undefined ? emptyIntake() : this.#clientIn(rows, place, context),
      )
      const isLast = begin + ranks.size >= clients.length
      if (!ranks.isAlone) await this.#native(({ native }) => native.sumContributions(isLast))
    }
  }

  /** Trains a client from the adapter at the start of the round, and adds its change to the sum. */
  async #clientIn(rows: Uint32Array, place: number, context: RoundContext): Promise<Intake> {
    const { options } = this.#setup
    const { round, ranks, schedule } = context
    const intake = emptyIntake()
    await this.#native(({ native }) => native.beginClient())
    const { localEpochs, localSteps, clippingNorm } = this.#config
    const batches = new Batches(this.#examples.data, { ...options, rows })
    const windows = new Windows(batches, options.gradientAccumulationSteps)
    const first = (round - 1) * localEpochs
    let cursor = { epoch: first, microBatch: 0 }
    const steps = Math.min(windows.steps(localEpochs), localSteps ?? Number.POSITIVE_INFINITY)
    let microStep = place * CLIENT_MICRO_STEPS
    try {
      for (let step = 1; step <= steps; step++) {
        const window = await windows.at(cursor)
        cursor = window.next
        if (window.supervised === 0) continue
        await this.#gradients(window, microStep, intake, context)
        microStep += window.batches.length
        const update = {
          ...updateOf(this.#setup, schedule, step),
          maxGradNorm: options.maxGradNorm,
          ...ranksOf(ranks, step),
        }
        await this.#native(({ native }) => native.optimizerStep(update))
      }
    } catch (error) {
      if (!(error instanceof DivergedError)) throw error
      // A client whose update diverged contributes nothing. Ending the run would reveal that there is such a client.
      intake.clipped++
      return intake
    }
    const norm = await this.#native(({ native }) => native.addClient({ clippingNorm, ...trained(ranks) }))
    if (!(norm <= clippingNorm)) intake.clipped++
    return intake
  }

  async #gradients(
    window: Window,
    first: number,
    intake: Intake,
    { session, round, ranks }: RoundContext,
  ): Promise<void> {
    for (const [index, batch] of window.batches.entries()) {
      const { lossSum } = await passAlone(session, TRAIN_PLAN, batch, {
        ...{ seed: this.#setup.options.seed, step: round, microStep: first + index },
        lossScale: 1 / window.supervised,
        ...inUse(ranks),
        ...regularizers(this.#setup.options),
      })
      if (!Number.isFinite(lossSum)) throw new DivergedError(`the loss of a client is ${lossSum}`, {})
      intake.lossSum += lossSum
      intake.tokens += batch.tokens.length
      intake.supervised += batch.nSupervised
    }
  }

  /**
   * Computes the gradients of the sampled examples, each clipped separately; micro-batches are distributed over
   * the ranks.
   */
  async *#examplesIn(drawn: readonly number[], context: RoundContext): AsyncGenerator<Intake> {
    if (drawn.length === 0) return
    const { options, signal, ranks, adapter } = this.#setup
    const { data, rows } = this.#examples
    const own = Uint32Array.from(drawn, (member) => rows[member] as number)
    const { spec } = adapter.description
    const batches = new Batches(data, { ...apart(spec, options), rows: own, shuffle: false })
    const count = batches.count(0)
    const found = await ranks.together('examples of a round', async () => {
      const parts: [index: number, part: Intake][] = []
      for (let index = ranks.rank; index < count; index += ranks.size) {
        signal?.throwIfAborted()
        parts.push([index, await this.#batchIn(batches.get(0, index), index, context)])
      }
      return parts
    })
    if (!ranks.isAlone) await this.#native(({ native }) => native.sumContributions(true))
    for (const [, part] of found.flat().sort(([a], [b]) => a - b)) yield part
  }

  async #batchIn(
    batch: MicroBatch,
    microStep: number,
    { session, round, ranks }: RoundContext,
  ): Promise<Intake> {
    const { options } = this.#setup
    const { clippingNorm } = this.#config
    const { lossSum, norms } = await passAlone(session, TRAIN_PLAN, batch, {
      ...{ seed: options.seed, step: round, clippingNorm, microStep, lossScale: 1 },
      ...inUse(ranks),
      ...regularizers(options),
    })
    const clipped = norms?.reduce((sum, norm) => sum + (norm <= clippingNorm ? 0 : 1), 0) ?? 0
    const counted = Number.isFinite(lossSum)
      ? { lossSum, supervised: batch.nSupervised }
      : { lossSum: 0, supervised: 0 }
    return { ...counted, tokens: batch.tokens.length, clipped }
  }

  async #release(deviation: number, cohort: number, { round, ranks }: RoundContext): Promise<void> {
    const options = { key: this.#key, round, deviation, cohort, ...trained(ranks) }
    await this.#native(({ native }) => native.release(options))
  }

  /** An update by the run's optimizer. */
  #ownUpdate({ round, ranks, schedule }: RoundContext): OptimizerStep {
    return { ...updateOf(this.#setup, schedule, round), ...countedRanks(ranks) }
  }

  #serverUpdate(round: number, ranks: StepRanks | undefined): OptimizerStep {
    const { serverOptimizer, serverLearningRate: learningRate } = this.#config
    return {
      ...(serverOptimizer === 'adam' ? FED_ADAM : PLAIN_SUM),
      groups: this.#setup.adapter.description.groups.map(() => ({ learningRate, weightDecay: 0 })),
      maxGradNorm: 0,
      step: round,
      ...countedRanks(ranks),
    }
  }

  #native<Result>(job: (adapter: StepSetup['adapter']) => { promise: Promise<Result> }): Promise<Result> {
    return translatedAsync(() => job(this.#setup.adapter).promise)
  }
}

interface RoundContext {
  session: NativeSession
  round: number
  ranks: StepRanks | undefined
  /** Fraction of the peak learning rate in this round. */
  schedule: number
}

function trained(ranks: StepRanks | undefined) {
  return ranks ? { active: ranks.active, lastOnly: ranks.lastOnly } : {}
}

/** A client's own optimizer has made `step` updates of the ranks in use, and none of the others. */
function ranksOf(ranks: StepRanks | undefined, step: number): Pick<OptimizerStep, 'ranks'> {
  if (ranks?.draws === undefined) return {}
  const draws = ranks.draws.map((_, index) => (index === ranks.active - 1 ? step : 0))
  return countedRanks({ ...ranks, draws })
}

function newKey(given: string | null): Uint8Array {
  return given === null ? randomBytes(32) : Buffer.from(given, 'hex')
}

/** @throws {FileFormatError} when a checkpoint lacks the key; without it, rounds would be released twice */
function keptState(rules: unknown): RoundsState {
  const { key, earlier } = (rules ?? {}) as Partial<RoundsState>
  const lacks = (what: string) =>
    new FileFormatError(`the checkpoint has no ${what}, so it cannot be resumed.`, {})
  if (typeof key !== 'string' || !/^[0-9a-f]{64}$/.test(key)) throw lacks('key for the noise of its rounds')
  if (!Array.isArray(earlier)) throw lacks('list of what its adapter had spent before')
  return rules as RoundsState
}

function examplesOf({ examples }: RunData, { options }: StepSetup): Examples {
  if (examples === null)
    throw new ConfigError('dataset.streaming is true, but private training samples from the whole dataset.')
  if (options.maxSteps !== null)
    throw new ConfigError(
      `max_steps is ${options.maxSteps}, but strategy.rounds sets the rounds of private training; leave it null.`,
    )
  return examples
}
