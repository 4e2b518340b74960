/**
 * A training run: an async iterable of optimizer steps, each of which starts when the caller requests it.
 * Between steps it evaluates, saves checkpoints and writes metrics. Leaving the loop or aborting ends the run
 * at a step boundary.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import * as z from 'zod'
import { type AdapterState, checkGenerates, saveAdapter } from '../base/base.js'
import { abortSignal, callback, checkedOptions } from '../core/arguments.js'
import { breather } from '../core/breather.js'
import { ConfigError, DataError, DivergedError, RanksError } from '../core/errors.js'
import { dropoutRemarks } from '../formats/dropout.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import { makeFolder } from '../io/atomic-folder.js'
import { removeLeftovers } from '../io/temporary.js'
import { addon, type NativeSession, type OptimizerState, type StorageFormat } from '../native/addon.js'
import { translated, translatedAsync } from '../native/errors.js'
import { closeSession, openSession } from '../native/session.js'
import { optimizerState } from '../options/optimizers.js'
import type { RunOptions } from '../options/options.js'
import { remarksOnRate } from '../options/rates.js'
import { MemoryReport } from '../planning/memory-report.js'
import { EVAL_PLAN, inFolder } from '../planning/plans.js'
import { checkRoom } from '../planning/room.js'
import { rulesOf, strategyToFile } from '../strategies/index.js'
import { privacyRemarks } from '../strategies/privacy-report.js'
import { weightCacheSettings } from '../weights/cache.js'
import { bestReport, isDue, type RunEvaluation, standing } from './best.js'
import { restoreCheckpoint } from './checkpoint.js'
import { checkpointOf, type Damaged, type Resumable } from './checkpoints.js'
import { type AskOptions, type RunAnswer, RunControl } from './control.js'
import type { RunData } from './data.js'
import { type EvaluateControl, evaluateBatches } from './evaluate.js'
import type { AnswersEvent, DoneEvent, EvalEvent, StartEvent, TrainEvent, TrainStep } from './events.js'
import { gathered } from './gathered.js'
import type { Prompt } from './generate.js'
import { gradientSteps } from './gradient-steps.js'
import { HeldOutAnswers } from './held-out-answers.js'
import {
  canonical,
  checkLength,
  continuedEvaluations,
  factsOf,
  identityOf,
  keyOf,
  type RunIdentity,
} from './identity.js'
import { KeptSteps } from './kept-steps.js'
import { MetricsFile, recordSamples } from './metrics.js'
import { cardText } from './model-card.js'
import { openFolders, outputsOf, type RunFolders, type RunOutputs } from './output-folder.js'
import { LayerPipe } from './pipe.js'
import { checkRanks } from './ranks.js'
import { Recorder, startEvent } from './record.js'
import { readRun } from './run-files.js'
import { lockRun, type RunLock } from './run-lock.js'
import { Outcome, type RunResult } from './run-result.js'
import type { RunSetup } from './run-setup.js'
import { type RunTime, runTime } from './run-time.js'
import { askRows, classifiedRows, type Samples } from './samples.js'
import { agreeOnFolder, programFacts } from './shared.js'
import type { RunPlace, Steps, TrainingState } from './step.js'
import { TensorboardFile } from './tensorboard.js'

/** The checkpoint that a run was resumed from. */
export interface Resumed {
  path: string
  /** Optimizer steps made before the checkpoint. */
  step: number
  /** Later checkpoints that cannot be used. */
  damaged: readonly Damaged[]
}

const samplesSchema = z.strictObject({ signal: abortSignal().optional() })
const timeSchema = z.strictObject({
  signal: abortSignal().optional(),
  onMeasure: callback<() => void>().optional(),
})

/** Steps between two comparisons of the ranks' adapters, at most. */
const COMPARED_STEPS = 50

const NO_TOTALS = { tokens: 0, supervisedTokens: 0, lossSum: 0, seconds: 0 }

const WAYS_ON = {
  resume: 'resume: true',
  force: 'force: true',
  elsewhere: 'another outputDir',
}

/**
 * A training run. Iterate over it once, over its steps or over `events()`, which include the steps; or await it, which
 * trains to the end.
 */
export class TrainingRun implements AsyncIterable<TrainStep>, PromiseLike<RunResult> {
  /** Planned memory, known before anything is allocated; training allocates exactly this. */
  readonly memory: MemoryReport
  /** Options of the run, with every default filled in. */
  readonly options: RunOptions
  readonly #setup: RunSetup
  /** Folders of the run. Only rank 0 writes there. */
  readonly #place: RunFolders | null
  readonly #control: RunControl
  readonly #breathe = breather()
  readonly #outcome = new Outcome()
  #started = false
  #state: TrainingState | undefined
  #ended: DoneEvent | undefined
  #startEvent: StartEvent | undefined
  #data: RunData['stats'] | undefined
  #format: RunData['format'] | undefined
  #asked: RunData['asked'] | undefined
  #tools: RunData['tools'] | undefined
  #heldOut: HeldOutAnswers | undefined
  #resumed: Resumed | null = null
  #evaluations: readonly RunEvaluation[] = []
  #kept: KeptSteps | undefined
  #latest: TrainStep | undefined
  /** Name of the run that events are recorded under. */
  #recorded: string | undefined
  #stepsLeft: number | undefined
  readonly #remarks: string[]

  /** @internal */
  constructor(setup: RunSetup) {
    this.#control = new RunControl(setup.signal)
    this.#place = setup.folders
    const { part } = setup.base
    this.#setup = {
      ...setup,
      pipe: part === null ? undefined : new LayerPipe(setup.ranks, part),
      folders: setup.ranks.isFirst ? setup.folders : null,
      signal: setup.ranks.joint(this.#control.signal),
    }
    const { base, adapter, plans } = setup
    this.options = setup.options
    this.#remarks = [
      ...(setup.rateSearch ? [] : remarksOnRate(setup.options, adapter.description.strategy)),
      ...dropoutRemarks(base.files.config),
    ]
    const trained = { adapter: adapter.native, state: stateOf(setup) }
    this.memory = new MemoryReport(translated(() => base.native.plan([trained], plans)))
  }

  /**
   * Warnings about valid but unusual settings, such as a learning rate far from the strategy's usual one; one
   * sentence each. Remarks on the data of private training are known after the first event.
   */
  get remarks(): readonly string[] {
    return this.#remarks
  }

  /** The last completed step. */
  get latest(): TrainStep | undefined {
    return this.#latest
  }

  /** Counts of rows read and dropped; undefined before the first event or step. */
  get data(): RunData['stats'] | undefined {
    return this.#data
  }

  /** Prompt format of the rows read so far; null before the first row. */
  get promptFormat(): PromptFormat | null {
    return this.#format?.() ?? null
  }

  /**
   * Asks the rows kept by `sampleRows`: the base and the adapter each answer by greedy generation, with at most
   * 64 tokens per answer and half a minute in total. Call it when the run is over. An abort rejects with the
   * signal's reason.
   */
  async samples(options: { signal?: AbortSignal } = {}): Promise<Samples> {
    const { signal } = checkedOptions(samplesSchema, options, 'samples()')
    const { base, adapter, use } = this.#setup
    checkGenerates(base, 'samples()')
    const { rows, heldOut } = this.#asked?.() ?? { rows: [], heldOut: false }
    const format = this.promptFormat
    const asked = await use(() =>
      base.labels === null
        ? askRows(base, adapter, rows, signal)
        : classifiedRows(base, adapter, rows, this.options, signal),
    )
    const samples = { ...asked, heldOut, system: format?.system ?? null }
    await this.#recordSamples(samples)
    return samples
  }

  /** Checkpoints saved so far. */
  get checkpoints(): readonly string[] {
    return this.#kept?.paths ?? []
  }

  /** Evaluations so far, including those before the run was resumed. */
  get evaluations(): readonly RunEvaluation[] {
    return this.#evaluations
  }

  /** The checkpoint that the run was resumed from, known once it has begun; null for a run from the start. */
  get resumed(): Resumed | null {
    return this.#resumed
  }

  /**
   * Pauses the run before its next step and emits the event `paused`. A paused run computes nothing and keeps
   * its memory. The steps after it are the same as without a pause.
   */
  pause(): void {
    this.#control.pause()
  }

  /** Ends a pause. */
  resume(): void {
    this.#control.resume()
  }

  /** True from `pause` to `resume`, also while the current step finishes. */
  get paused(): boolean {
    return this.#control.paused
  }

  /**
   * Ends the run after the current step, saves a checkpoint to resume from, and emits the event `stopped`. The
   * iteration ends without an error.
   */
  stop(): void {
    this.#control.stop()
  }

  /**
   * JSON of the tools that all rows of the training data have, as far as they are kept to be asked.
   * @internal
   */
  get sharedTools(): string | undefined {
    return this.#tools?.()
  }

  /**
   * Asks the current adapter. The answer is generated between two steps, or at once while the run is paused;
   * the next step waits for it. Generation temporarily needs memory beyond the run's plan, and does not change
   * the run's results.
   * @throws {ConfigError} before the first event, after the run, and as `model.generate`
   * @example const { text, step } = await run.ask('What is lowrank?', { maxNewTokens: 64 })
   */
  async ask(prompt: Prompt, options: AskOptions = {}): Promise<RunAnswer> {
    checkGenerates(this.#setup.base, 'ask()')
    return this.#control.ask(prompt, options)
  }

  /**
   * Estimated time of the run's steps, known after the first event, or why it is unknown. For a setting that is
   * new to this machine, steps of small models with the same blocks are timed for a few seconds in a separate
   * process. An abort rejects with the signal's reason.
   */
  async time(
    options: {
      signal?: AbortSignal
      /** Called before a measurement. */
      onMeasure?: () => void
    } = {},
  ): Promise<RunTime> {
    const control = checkedOptions(timeSchema, options, 'time()')
    const { base, adapter, options: run } = this.#setup
    const { config } = base.files
    const setting = {
      ...{ config, options: run, precision: base.precision, strategy: adapter.description.strategy },
      formatOf: (name: string) => base.formats[name] as StorageFormat,
    }
    const data = this.#data?.train ?? undefined
    const { threads } = addon().cpu()
    return runTime(setting, run, { ...control, threads, data, steps: this.#stepsLeft })
  }

  /** The steps. An abort rejects with the signal's reason after the current step. */
  async *[Symbol.asyncIterator](): AsyncIterator<TrainStep, void, void> {
    for await (const event of this.events()) if (event.event === 'step') yield event
  }

  /**
   * Result of the run, once it has ended; rejects with the error that ended it. A run that is not iterated by the next
   * turn of the event loop is trained to its end. Inside the loop over the run, await it only after the last step.
   * @example const { best } = await adapter.train('train.jsonl', { evalFraction: 0.1 }).finished
   */
  get finished(): Promise<RunResult> {
    setImmediate(() => void this.#train())
    return this.#outcome.result
  }

  /** Makes `await run` the same as `await run.finished`, so that a run that is awaited is trained. */
  // biome-ignore lint/suspicious/noThenProperty: an awaited run that did nothing would be a silent failure.
  then<Ended = RunResult, Failed = never>(
    ended?: ((result: RunResult) => Ended | PromiseLike<Ended>) | null,
    failed?: ((error: unknown) => Failed | PromiseLike<Failed>) | null,
  ): Promise<Ended | Failed> {
    return this.finished.then(ended, failed)
  }

  /** Trains to the end, unless somebody iterates. */
  async #train(): Promise<void> {
    if (this.#started) return
    try {
      for await (const _ of this.events());
    } catch (error) {
      this.#outcome.reject(error)
    }
  }

  /** All events: the plan, steps, evaluations, checkpoints and the end. */
  async *events(): AsyncGenerator<TrainEvent, void, void> {
    if (this.#started)
      throw new ConfigError(
        'this training run has already been iterated, or awaited; call adapter.train() again.',
      )
    const release = this.#setup.begin()
    this.#started = true
    try {
      for await (const event of this.#run()) {
        if (event.event === 'done') this.#ended = event
        yield event
      }
    } catch (error) {
      this.#outcome.reject(error)
      throw error
    } finally {
      release()
      this.#outcome.resolve(this.#result())
    }
  }

  #result(): RunResult {
    const { step, totals, evaluations } = this.#state ?? { step: 0, totals: NO_TOTALS, evaluations: [] }
    const { options, folders } = this.#setup
    const done = this.#ended
    return {
      ended: done === undefined ? 'stopped' : done.stoppedEarly ? 'early_stopping' : 'completed',
      steps: step,
      trainLoss: totals.supervisedTokens > 0 ? totals.lossSum / totals.supervisedTokens : null,
      best: bestReport(evaluations, options, step) ?? null,
      evaluations,
      checkpoints: this.checkpoints,
      outputDir: folders?.outputDir ?? null,
    }
  }

  async *#run(): AsyncGenerator<TrainEvent, void, void> {
    const { base, adapter, options, evalFraction, folders, beginning, ranks } = this.#setup
    let steps: Steps | undefined
    let metrics: MetricsFile | undefined
    let board: TensorboardFile | undefined
    let written: TrainEvent | undefined
    const record = async (event: TrainEvent) => {
      if (event === written) return
      await metrics?.append(event)
      await board?.append(event)
      written = event
    }
    let lock: RunLock | undefined
    try {
      this.#setup.signal?.throwIfAborted()
      if (!beginning.force) this.#checkRoom()
      await this.#breathe()
      // Lock before looking for the newest checkpoint, which another run may be writing.
      if (folders !== null && existsSync(folders.outputDir)) lock = await lockRun(folders.outputDir)
      if (!ranks.isAlone) await agreeOnFolder(ranks, this.#place?.outputDir)
      const checkpoint = await checkpointOf(this.#place, beginning, this.#outputs, WAYS_ON)
      const then = checkpoint?.identity.now
      const now = ranks.isAlone ? then : await ranks.firsts('time', async () => then ?? Date.now())
      const data = await this.#setup.data(now)
      this.#setup.signal?.throwIfAborted()
      this.#data = data.stats
      this.#format = data.format
      this.#asked = data.asked
      this.#tools = data.tools
      if (data.evaluationExamples !== null)
        this.#heldOut = new HeldOutAnswers(this.#setup, options, data.evaluationExamples)
      if (options.evalGenerate > 0 && data.unseen().length === 0)
        base.warn(
          `eval_generate is ${options.evalGenerate}, but no held-out row begins with a question and an answer, so no answers are shown.`,
        )
      this.#recordFormat()
      await this.#breathe()
      const identity = identityOf(base, options, evalFraction, data)
      const state = await this.#start(checkpoint, identity)
      this.#state = state
      checkRanks(options, state.ranks, ranks)
      if (!ranks.isAlone) await this.#agree(identity, state, checkpoint)
      if (this.#sumsGradients) await ranks.connect(base.device)
      this.#evaluations = state.evaluations
      const { makeSteps = gradientSteps } = this.#setup
      steps = await makeSteps(this.#setup, state, data)
      if (steps.privacy) this.#remarks.push(...privacyRemarks(steps.privacy))
      this.#remarks.push(...(steps.remarks ?? []))
      if (checkpoint !== null)
        checkLength(checkpoint, options, adapter.description.strategy, steps.totalSteps)
      state.totalSteps = steps.totalSteps
      this.#stepsLeft = steps.totalSteps - state.step
      const kept = new KeptSteps(this.#setup, this.#place, state, identity, checkpoint?.path ?? null)
      this.#kept = kept
      await kept.checkBest()
      if (folders !== null) {
        const { outputDir, runDir } = folders
        await makeFolder(outputDir)
        lock ??= await lockRun(outputDir)
        const own = checkpoint !== null && (await readRun(runDir)) === state.run
        await openFolders(folders, state.run)
        metrics = await MetricsFile.open(runDir, own ? state : null)
        if (this.#setup.reportTo === 'tensorboard') board = await TensorboardFile.open(runDir, own)
        this.#recorded = state.run
      } else await removeLeftovers(this.#scratch)
      if (checkpoint !== null) {
        const { path, damaged } = checkpoint
        this.#resumed = { path, step: state.step, damaged }
      }
      this.#control.begin({ base, adapter, state, use: this.#setup.use })
      const start = startEvent(this.#setup, state, data, checkpoint !== null)
      this.#startEvent = start
      await this.#recordCard(state)
      await record(start)
      yield start
      const { rateSearch } = this.#setup
      if (rateSearch !== undefined) {
        const event = { event: 'rate', ...rateSearch } as const
        await record(event)
        yield event
      }
      const resumedFrom = checkpoint === null ? null : dirname(checkpoint.path)
      const place = { key: keyOf(identity), runDir: folders?.runDir ?? null, resumedFrom }
      const covered = async (event: TrainEvent) => {
        await record(event)
        await metrics?.sync()
      }
      for await (const event of this.#steps(steps, state, kept, data, place, covered)) {
        await record(event)
        yield event
      }
    } catch (caught) {
      if (this.#control.isStop(caught)) return
      const together = this.#setup.signal?.aborted && caught === this.#setup.signal.reason
      const error = together ? caught : await ranks.failed(caught)
      if (!this.#setup.signal?.aborted)
        await metrics?.fail(error, this.#latest?.step ?? this.#resumed?.step ?? 0)
      throw error
    } finally {
      this.#control.end()
      await steps?.close()
      await metrics?.close()
      await board?.close()
      if (metrics !== undefined) await this.#report()
      lock?.release()
    }
  }

  /** @throws {OutOfMemoryError} when the run needs far more memory than there is, beside the loaded model */
  #checkRoom(): void {
    const { base, adapter } = this.#setup
    const held = new MemoryReport(translated(() => base.native.plan([], {})))
    const needed =
      base.device === 'cpu'
        ? this.memory.peakBytes - held.peakBytes
        : this.memory.pinnedBytes - held.pinnedBytes
    checkRoom(
      this.memory,
      { needed, available: process.availableMemory() },
      {
        ...this.options,
        strategy: adapter.description.strategy,
        quantization: base.quantization.type,
        embeddingQuantization: base.embeddingQuantization.type,
      },
      'force: true trains all the same.',
    )
  }

  /** @param covered writes an event to the disk before the checkpoint that covers it */
  async *#steps(
    steps: Steps,
    state: TrainingState,
    kept: KeptSteps,
    data: RunData,
    place: Omit<RunPlace, 'control'>,
    covered: (event: TrainEvent) => Promise<void>,
  ): AsyncGenerator<TrainEvent, void, void> {
    const { base, adapter, options, plans, signal, use } = this.#setup
    const control = this.#control
    yield {
      event: 'plan',
      peakBytes: this.memory.peakBytes,
      ...(this.memory.pinnedBytes > 0 ? { pinnedBytes: this.memory.pinnedBytes } : {}),
      runtimeBytes: base.runtimeBytes,
      rows: this.memory.rows,
      ...(steps.privacy ? { privacy: steps.privacy } : {}),
    }
    if (options.activationOffloading) await makeFolder(this.#scratch)
    const session = await use(() =>
      openSession(base.native, [adapter.native], inFolder(plans, this.#scratch)),
    )
    this.#setup.pipe?.open(session)
    const begun = state.step
    const recorder = new Recorder(steps)
    /** A saved checkpoint whose event has not been emitted yet. */
    let untold: TrainEvent | undefined
    try {
      await use(async () => steps.prepare?.(session, { ...place, control: this.#evaluateControl }))
      yield* recorder.after(begun, true)
      for (;;) {
        yield* control.waits(state.step)
        yield* await this.#evaluate(session, data, state, steps)
        if (untold) yield untold
        untold = undefined
        const over = state.step >= state.totalSteps || standing(state.evaluations, options).stops
        if (over || signal?.aborted) break
        this.#recordFormat()
        const best = await kept.saveBest()
        if (best) yield best
        if (steps.privacy) await kept.saveStart()
        yield* control.waits(state.step)
        if (signal?.aborted) break
        let step: TrainStep
        try {
          step = await control.alone(() => use(() => steps.next(session)))
        } catch (error) {
          const diverged = error instanceof DivergedError
          // The adapter is between two steps, so it must not be saved in a checkpoint, whatever else ends the run.
          const torn = diverged
            ? error.details.lastGoodStep === null
            : options.optimizerInBackward && error instanceof RanksError
          if (signal?.aborted && !torn) break
          const whole = (diverged && !torn) || error instanceof DataError || error instanceof RanksError
          const event = whole && state.step > begun ? await kept.save() : undefined
          if (event) yield event
          throw error
        }
        this.#latest = step
        this.#recordFormat()
        const due = isDue(options.saveSteps, state.step)
        if (due || state.step >= state.totalSteps || state.step % COMPARED_STEPS === 0) await this.#compare()
        // Save before yielding the step, so that a caller who leaves the loop here keeps the checkpoint.
        if (due) {
          await covered(step)
          untold = await kept.save()
        }
        yield step
        yield* recorder.after(state.step)
      }
      if (signal?.aborted) {
        const event = state.step > begun ? await kept.save() : undefined
        if (event) yield event
        const path = kept.paths.at(-1) ?? this.#resumed?.path ?? null
        yield { event: 'stopped', step: state.step, path }
        throw signal.reason
      }
      try {
        await control.alone(() => kept.loadBest())
      } catch (error) {
        const event = await kept.save()
        if (event) yield event
        throw error
      }
      this.#recordFormat()
      await this.#recordCard(state)
      await this.#saveAdapter()
      yield this.#done(state, steps)
    } finally {
      await closeSession(session, plans)
    }
  }

  get #evaluateControl(): EvaluateControl {
    const { signal, onEvalProgress: onProgress, ranks, pipe } = this.#setup
    return { signal, onProgress, ranks, pipe }
  }

  /** Adds samples to the record of the run, unless another run has begun in its folder. */
  async #recordSamples(samples: Samples): Promise<void> {
    const { folders } = this.#setup
    const { rows, classified = [] } = samples
    const ended = this.#recorded !== undefined && rows.length + classified.length > 0
    if (folders === null || !ended || (await readRun(folders.runDir)) !== this.#recorded) return
    await recordSamples(folders.runDir, samples)
    await this.#report()
  }

  /** Writes the page of the run. A failure is only a warning, since the run's result does not depend on the page. */
  async #report(): Promise<void> {
    const { folders, report } = this.#setup
    if (folders === null || report === undefined) return
    try {
      await report(folders)
    } catch (error) {
      process.emitWarning(`the report of the run could not be written: ${(error as Error).message}`, {
        code: 'LOWRANK_REPORT',
      })
    }
  }

  /**
   * Stores the run's prompt format in the adapter. A private run omits the system prompt, which is part of the
   * data and not protected by noise.
   */
  #recordFormat(): void {
    const { adapter } = this.#setup
    const format = this.promptFormat
    if (format !== null) adapter.format = privacyOf(this.#setup) ? { ...format, system: null } : format
  }

  /** Stores the model card in the adapter, which is saved with it. */
  async #recordCard({ step: steps, evaluations }: TrainingState): Promise<void> {
    const { base, adapter, options } = this.#setup
    const start = this.#startEvent as StartEvent
    adapter.card = await cardText(base, adapter, { start, options, steps, evaluations })
  }

  /** The files that the run itself writes; the command line saves the config. */
  get #outputs(): RunOutputs {
    const { adapter, options, report } = this.#setup
    return outputsOf(adapter.description.strategy, options.task, {
      config: false,
      report: report !== undefined,
    })
  }

  /** Folder for temporary files of the run. */
  get #scratch(): string {
    return scratchFolder(this.#setup.folders)
  }

  async #start(checkpoint: Resumable | null, identity: RunIdentity): Promise<TrainingState> {
    const { base, adapter, options, use } = this.#setup
    const state = stateOf(this.#setup, this.#scratch)
    if (state.resident !== undefined) await makeFolder(this.#scratch)
    return use(async () => {
      adapter.version++
      await adapter.turns.run(() => translatedAsync(() => adapter.native.restart(state).promise))
      adapter.optimizer = state
      if (checkpoint !== null) {
        const state = await restoreCheckpoint(checkpoint, base, adapter, identity)
        return { ...state, evaluations: continuedEvaluations(checkpoint, identity, options) }
      }
      const totals = { ...NO_TOTALS }
      const cursor = { epoch: 0, microBatch: 0 }
      const { ranks, pipe } = this.#setup
      const size = pipe === undefined ? ranks.size : 1
      // Ranks with a part of the layers all read the checkpoints of the run, which contain its id.
      const run = await ranks.firsts('id of the run', async () => randomUUID())
      return { run, step: 0, totalSteps: 0, cursor, evaluations: [], totals, ranks: size }
    })
  }

  /** True if each step sums the gradients of all ranks at its end. */
  get #sumsGradients(): boolean {
    const { makeSteps, options, pipe } = this.#setup
    return makeSteps === undefined && pipe === undefined && !options.optimizerInBackward
  }

  /** Rejects ranks that would compute different results, before anything is written. */
  async #agree(identity: RunIdentity, state: TrainingState, checkpoint: Resumable | null): Promise<void> {
    const { base, adapter, options, ranks, pipe, use } = this.#setup
    const { strategy } = adapter.description
    await ranks.agree('start', {
      ...programFacts(base),
      ...factsOf(identity, options),
      strategy: canonical(strategyToFile(strategy)),
      checkpoint: checkpoint === null ? 'none' : `${state.run} at step ${state.step}`,
      ...(pipe === undefined
        ? { adapter: await use(() => translatedAsync(() => adapter.native.digest().promise)) }
        : {}),
    })
  }

  /** Every rank makes the same updates, so their adapters must stay bit-identical. */
  async #compare(): Promise<void> {
    const { adapter, ranks, pipe, use } = this.#setup
    if (ranks.isAlone || pipe !== undefined) return
    const digests = await ranks.together('comparison', () =>
      use(() => translatedAsync(() => adapter.native.digest().promise)),
    )
    const other = digests.findIndex((digest) => digest !== digests[0])
    if (other < 0) return
    throw new RanksError(
      `the adapter of ${ranks.name(other)} is no longer that of ${ranks.name(0)}: a processor or its memory may be faulty. Resume from the newest checkpoint without that machine.`,
      { rank: other },
    )
  }

  /**
   * Evaluates before the first step, after the steps set by `evalSteps`, and after the last one; never twice at
   * a step. Returns nothing if the run is aborted meanwhile, since the step itself is complete.
   */
  async #evaluate(
    session: NativeSession,
    { evaluation: source, unseen }: RunData,
    state: TrainingState,
    steps: Steps,
  ): Promise<(EvalEvent | AnswersEvent)[]> {
    const { options, signal, use, ranks } = this.#setup
    const { step, evaluations } = state
    const due = step === 0 || step >= state.totalSteps || isDue(options.evalSteps, step)
    if (source === null || !due || evaluations.at(-1)?.step === step) return []
    const control = this.#evaluateControl
    try {
      const found = await use(
        () =>
          steps.evaluate?.(session, source, control) ?? evaluateBatches(session, EVAL_PLAN, source, control),
      )
      const measured = await use(async () => this.#heldOut?.measure(session, control))
      // Taken from rank 0, because it may decide which step is the best and when the run ends.
      const evaluation = await ranks.firsts('evaluation', async () => ({ step, ...found, ...measured }))
      const answered = async () =>
        ranks.isFirst && options.evalGenerate > 0 ? this.#heldOut?.answers(session, unseen(), control) : []
      const rows = await ranks.firsts('answers', async () => (await use(answered)) ?? [])
      const { confusionMatrix: _, ...kept } = evaluation
      evaluations.push(kept)
      const told: AnswersEvent[] = rows.length > 0 ? [{ event: 'answers', step, rows }] : []
      return [{ event: 'eval', ...evaluation }, ...told]
    } catch (error) {
      if (signal?.aborted) return []
      throw error
    }
  }

  async #saveAdapter(): Promise<void> {
    const { base, adapter, folders, pipe, use } = this.#setup
    const place = pipe === undefined ? folders : this.#place
    if (place === null) return
    const { card } = adapter
    const more = card === null ? {} : { card }
    const save = (whole: AdapterState) => saveAdapter(place.outputDir, base, whole, more)
    await use<unknown>(() => (pipe === undefined ? save(adapter) : gathered(this.#setup, save)))
  }

  #done({ step, totals, totalSteps, evaluations }: TrainingState, { privacy }: Steps): TrainEvent {
    const { options, folders } = this.#setup
    const best = bestReport(evaluations, options, step)
    return {
      event: 'done',
      outputDir: folders?.outputDir ?? null,
      trainLoss: totals.lossSum / totals.supervisedTokens,
      steps: step,
      ...(step < totalSteps ? { stoppedEarly: true as const } : {}),
      ...(best ? { best } : {}),
      peakRssBytes: addon().residentBytes().peak,
      tokensPerSecond: totals.tokens / totals.seconds,
      ...(privacy ? { privacy } : {}),
    }
  }
}

/** The strategy's privacy guarantee. */
function privacyOf({ adapter }: RunSetup) {
  const { strategy } = adapter.description
  return rulesOf(strategy).privacy?.(strategy)
}

/** Folder for temporary files of a run. */
export function scratchFolder(folders: RunFolders | null): string {
  return folders?.runDir ?? weightCacheSettings().folder
}

function stateOf({ adapter, options }: RunSetup, folder?: string): OptimizerState {
  return optimizerState(options, adapter.description.strategy, folder)
}
