/**
 * A training run: an async iterable of optimiser steps that pulls, so a step starts when it is asked for. Between steps
 * it evaluates, saves checkpoints and writes metrics. Leaving the loop or aborting ends it at a step boundary.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type AdapterState, type BaseModel, saveAdapter } from '../base.js'
import { breather } from '../breather.js'
import { ConfigError, DataError, DivergedError } from '../errors.js'
import { PrivateRounds } from '../federated/rounds.js'
import { makeFolder } from '../files/atomic-folder.js'
import { removeLeftovers } from '../files/temporary.js'
import { weightCacheSettings } from '../files/weight-cache.js'
import { MemoryReport } from '../memory.js'
import { addon, type NativeSession, type OptimizerState, type PlanOptions } from '../native/addon.js'
import { translated, translatedAsync } from '../native/errors.js'
import { closeSession, openSession } from '../native/session.js'
import { toFileKeys } from '../schema.js'
import { rulesOf } from '../strategies/index.js'
import type { BatchSource } from './batches.js'
import {
  baseIdentity,
  type Checkpoint,
  latestCheckpoint,
  pruneCheckpoints,
  type RunIdentity,
  readCheckpoint,
  restoreCheckpoint,
  saveCheckpoint,
  type TrainingState,
} from './checkpoint.js'
import type { RunData } from './data.js'
import { type EvaluateProgress, type Evaluation, evaluateBatches } from './evaluate.js'
import type { TrainEvent, TrainStep } from './events.js'
import { MetricsFile } from './metrics.js'
import { optimizerState } from './optimizers.js'
import { type TrainOptions, trainSchema } from './options.js'
import { EVAL_PLAN, inFolder } from './plans.js'
import { lockRun, type RunLock } from './run-lock.js'
import { askRows, type Samples } from './samples.js'
import { GradientSteps, type Steps } from './steps.js'

/** What a run is given; `Adapter.train` puts it together. */
export interface RunSetup {
  base: BaseModel
  adapter: AdapterState
  options: TrainOptions
  plans: Record<string, PlanOptions>
  /** Tokenises, at the first step. `now` is what chat templates take for the time, when a checkpoint says it. */
  data: (now: number | undefined) => Promise<RunData>
  outputDir: string | null
  /** A checkpoint, or true for the newest of the output folder. */
  resume: string | boolean
  signal: AbortSignal | undefined
  onEvalProgress: ((progress: EvaluateProgress) => void) | undefined
  /** Runs native work while the adapter is kept alive. */
  use: <T>(work: () => Promise<T>) => Promise<T>
  /** Claims the adapter; returns what gives it back when the run is over, however it ends. */
  begin: () => () => void
}

/** Options that may change between an interrupted run and its continuation: they do not touch the numbers. */
const FREE = new Set([
  'evalSteps',
  'saveSteps',
  'saveTotalLimit',
  'activationOffloading',
  'keepAttention',
  'optimizerInBackward',
])

/** A run in progress. Iterate over it once: over its steps, or over `events()`, of which steps are a part. */
export class TrainingRun implements AsyncIterable<TrainStep> {
  /** Planned, before anything is allocated: training allocates exactly this. */
  readonly memory: MemoryReport
  /** Evaluations made so far, by step. */
  readonly evaluations: (Evaluation & { step: number })[] = []
  /** Checkpoints saved so far. */
  readonly checkpoints: string[] = []
  readonly #setup: RunSetup
  readonly #breathe = breather()
  #started = false
  #data: RunData['stats'] | undefined
  #format: RunData['format'] | undefined
  #asked: RunData['asked'] | undefined
  #latest: TrainStep | undefined

  /** @internal */
  constructor(setup: RunSetup) {
    this.#setup = setup
    const { base, adapter, plans } = setup
    const trained = { adapter: adapter.native, state: stateOf(setup) }
    this.memory = new MemoryReport(translated(() => base.native.plan([trained], plans)))
  }

  /** The last step made. */
  get latest(): TrainStep | undefined {
    return this.#latest
  }

  /** What was read and dropped; known once the first event or step is there. */
  get data(): RunData['stats'] | undefined {
    return this.#data
  }

  /**
   * Asks the rows that were kept by `sampleRows`: each of the base and with the adapter, by greedy generation of 64 tokens
   * at most, for half a minute at most. To be called when the run is over. An abort rejects with the signal's reason.
   */
  async samples({ signal }: { signal?: AbortSignal } = {}): Promise<Samples> {
    const { base, adapter, use } = this.#setup
    const { rows, heldOut } = this.#asked?.() ?? { rows: [], heldOut: false }
    const format = this.#format?.() ?? null
    const asked = await use(() => askRows(base, adapter, rows, signal))
    return { rows: asked, heldOut, system: format?.system ?? null }
  }

  /** The steps. An abort rejects with the signal's reason after the running step. */
  async *[Symbol.asyncIterator](): AsyncIterator<TrainStep, void, void> {
    for await (const event of this.events()) if (event.event === 'step') yield event
  }

  /** Everything that happens: the plan, steps, evaluations, checkpoints and the end. */
  async *events(): AsyncGenerator<TrainEvent, void, void> {
    if (this.#started)
      throw new ConfigError('this training run has been iterated already; call adapter.train() again.')
    const { outputDir, resume, begin } = this.#setup
    const finished = begin()
    this.#started = true
    let steps: Steps | undefined
    let metrics: MetricsFile | undefined
    let lock: RunLock | undefined
    try {
      this.#setup.signal?.throwIfAborted()
      await this.#breathe()
      // Before the newest checkpoint is looked for, which another run may be writing.
      if (outputDir !== null && existsSync(outputDir)) lock = await lockRun(outputDir)
      const checkpoint = await checkpointOf(resume, outputDir)
      const data = await this.#setup.data(checkpoint?.identity.now)
      this.#setup.signal?.throwIfAborted()
      this.#data = data.stats
      this.#format = data.format
      this.#asked = data.asked
      this.#recordFormat()
      await this.#breathe()
      const identity = this.#identity(data)
      const state = await this.#start(checkpoint, identity)
      steps = stepsOf(this.#setup, state, data)
      if (outputDir !== null) {
        await makeFolder(outputDir)
        lock ??= await lockRun(outputDir)
        // What a killed run left in it may hold the key of its noise; beside it, an adapter.
        for (const folder of [outputDir, dirname(resolve(outputDir))]) await removeLeftovers(folder)
        metrics = await MetricsFile.open(outputDir, checkpoint === null ? null : state.step)
      } else await removeLeftovers(this.#scratch)
      for await (const event of this.#steps(steps, state, identity, data)) {
        await metrics?.append(event)
        yield event
      }
    } finally {
      finished()
      await steps?.close()
      await metrics?.close()
      lock?.release()
    }
  }

  async *#steps(
    steps: Steps,
    state: TrainingState,
    identity: RunIdentity,
    data: RunData,
  ): AsyncGenerator<TrainEvent, void, void> {
    const { base, adapter, options, plans, signal, use } = this.#setup
    yield {
      event: 'plan',
      peakBytes: this.memory.peakBytes,
      rows: this.memory.rows,
      ...(steps.privacy ? { privacy: steps.privacy } : {}),
    }
    if (options.activationOffloading) await makeFolder(this.#scratch)
    const session = await use(() =>
      openSession(base.native, [adapter.native], inFolder(plans, this.#scratch)),
    )
    let [evaluated, saved] = [-1, state.step]
    try {
      await this.#keepStart(steps, state, identity)
      while (state.step < steps.totalSteps && !signal?.aborted) {
        let step: TrainStep
        try {
          step = await use(() => steps.next(session))
        } catch (error) {
          const diverged = error instanceof DivergedError
          // The adapter is between two steps, and no checkpoint may hold it, whatever else ends the run.
          const torn = diverged && error.details.lastGoodStep === null
          if (signal?.aborted && !torn) break
          const keep = ((diverged && !torn) || error instanceof DataError) && saved !== state.step
          const event = keep ? await this.#checkpoint(state, identity) : undefined
          if (event) yield event
          throw error
        }
        this.#latest = step
        // Before the step is told, so that whoever leaves the loop at it keeps its checkpoint.
        const checkpoint = isDue(options.saveSteps, state.step)
          ? await this.#checkpoint(state, identity)
          : undefined
        if (checkpoint) saved = state.step
        yield step
        if (data.evaluation && isDue(options.evalSteps, state.step)) {
          const event = await this.#evaluate(session, data.evaluation, state.step)
          if (event) {
            evaluated = state.step
            yield event
          }
        }
        if (checkpoint) yield checkpoint
      }
      if (signal?.aborted) {
        const event = saved === state.step ? undefined : await this.#checkpoint(state, identity)
        if (event) yield event
        throw signal.reason
      }
      if (data.evaluation && evaluated !== state.step) {
        const event = await this.#evaluate(session, data.evaluation, state.step)
        if (event) yield event
      }
      signal?.throwIfAborted()
      this.#recordFormat()
      await this.#saveAdapter()
      yield this.#done(state, steps)
    } finally {
      await closeSession(session, plans)
    }
  }

  /**
   * What the run trained on goes with the adapter. Of a private run the system prompt does not: it is of the data, and no
   * noise covers it.
   */
  #recordFormat(): void {
    const { adapter } = this.#setup
    const format = this.#format?.() ?? null
    if (format !== null) adapter.format = privacyOf(this.#setup) ? { ...format, system: null } : format
  }

  /** What noise is made from is saved before the first of it, so that a round is never released twice with two. */
  async #keepStart(steps: Steps, state: TrainingState, identity: RunIdentity): Promise<void> {
    const { base, adapter, outputDir, use } = this.#setup
    if (steps.privacy === undefined || state.step > 0 || outputDir === null) return
    await use(() => saveCheckpoint(outputDir, base, adapter, state, identity))
  }

  /** Where files of the run lie that go with it. */
  get #scratch(): string {
    return this.#setup.outputDir ?? weightCacheSettings().folder
  }

  async #start(checkpoint: Checkpoint | null, identity: RunIdentity): Promise<TrainingState> {
    const { base, adapter, use } = this.#setup
    const state = stateOf(this.#setup, this.#scratch)
    if (state.resident !== undefined) await makeFolder(this.#scratch)
    return use(async () => {
      adapter.version++
      await adapter.turns.run(() => translatedAsync(() => adapter.native.restart(state).promise))
      adapter.optimizer = state
      if (checkpoint !== null) return restoreCheckpoint(checkpoint, base, adapter, identity)
      const totals = { tokens: 0, supervisedTokens: 0, lossSum: 0, seconds: 0 }
      return { step: 0, cursor: { epoch: 0, microBatch: 0 }, totals }
    })
  }

  /** Nothing when the run is aborted meanwhile: the step was made all the same. */
  async #evaluate(
    session: NativeSession,
    source: BatchSource,
    step: number,
  ): Promise<TrainEvent | undefined> {
    const { signal, onEvalProgress: onProgress, use } = this.#setup
    try {
      const found = await use(() => evaluateBatches(session, EVAL_PLAN, source, { signal, onProgress }))
      this.evaluations.push({ step, ...found })
      return { event: 'eval', step, ...found }
    } catch (error) {
      if (signal?.aborted) return undefined
      throw error
    }
  }

  /** Nothing without an output folder. */
  async #checkpoint(state: TrainingState, identity: RunIdentity): Promise<TrainEvent | undefined> {
    const { base, adapter, options, outputDir, use } = this.#setup
    if (outputDir === null) return undefined
    this.#recordFormat()
    const path = await use(() => saveCheckpoint(outputDir, base, adapter, state, identity))
    this.checkpoints.push(path)
    if (options.saveTotalLimit !== null) await pruneCheckpoints(outputDir, options.saveTotalLimit)
    return { event: 'checkpoint', step: state.step, path }
  }

  async #saveAdapter(): Promise<void> {
    const { base, adapter, outputDir, use } = this.#setup
    if (outputDir !== null) await use(() => saveAdapter(outputDir, base, adapter))
  }

  #done({ step, totals }: TrainingState, { privacy }: Steps): TrainEvent {
    return {
      event: 'done',
      outputDir: this.#setup.outputDir,
      trainLoss: totals.lossSum / totals.supervisedTokens,
      steps: step,
      peakRssBytes: addon().residentBytes().peak,
      tokensPerSecond: totals.tokens / totals.seconds,
      ...(privacy ? { privacy } : {}),
    }
  }

  #identity({ fingerprint, now }: RunData): RunIdentity {
    const kept = Object.entries(this.#setup.options).filter(([key]) => !FREE.has(key))
    const options = toFileKeys(trainSchema, Object.fromEntries(kept)) as Record<string, unknown>
    return { base: baseIdentity(this.#setup.base), data: fingerprint, now, options }
  }
}

/** What its strategy promises of the privacy of the data. */
function privacyOf({ adapter }: RunSetup) {
  const { strategy } = adapter.description
  return rulesOf(strategy).privacy?.(strategy)
}

function stateOf({ adapter, options }: RunSetup, folder?: string): OptimizerState {
  return optimizerState(options, adapter.description.strategy, folder)
}

/** The checkpoint that a run is to go on from: the named one, or with true the newest of its folder. */
export async function checkpointOf(
  resume: string | boolean,
  outputDir: string | null,
): Promise<Checkpoint | null> {
  if (resume === false) return null
  if (resume !== true) return readCheckpoint(resume)
  if (outputDir === null)
    throw new ConfigError(
      'resume: true means the newest checkpoint of outputDir, and no outputDir was given.',
    )
  return readCheckpoint(await latestCheckpoint(outputDir))
}

/** What makes the steps of a run, as its strategy wants them made. */
function stepsOf(setup: RunSetup, state: TrainingState, data: RunData): Steps {
  const privacy = privacyOf(setup)
  return privacy ? new PrivateRounds(setup, state, data, privacy) : new GradientSteps(setup, state, data)
}

function isDue(every: number | null, step: number): boolean {
  return every !== null && step % every === 0
}
