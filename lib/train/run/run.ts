/**
 * A training run: an async iterable of optimizer steps, each of which starts when the caller requests it. Its parts are
 * the start, the loop, and the recorder.
 */
import * as z from 'zod'
import { checkGenerates } from '../../base/base.js'
import { abortSignal, callback, checkedOptions } from '../../core/arguments.js'
import { ConfigError } from '../../core/errors.js'
import type { PromptFormat } from '../../formats/prompt-format.js'
import type { RunOptions } from '../../options/options.js'
import type { MemoryReport } from '../../planning/memory-report.js'
import type { Prompt } from '../answers/generate.js'
import { type Samples, samplesOf } from '../answers/samples.js'
import type { RunData } from '../rows/data.js'
import type { RunEvaluation } from '../steps/best.js'
import type { DoneEvent, TrainEvent, TrainStep } from '../steps/events.js'
import type { AskOptions, RunAnswer } from './control.js'
import { RunLoop } from './run-loop.js'
import { partsOf, type RunParts } from './run-parts.js'
import { Outcome, type RunResult, resultOf } from './run-result.js'
import type { RunSetup } from './run-setup.js'
import type { Resumed } from './run-start.js'
import { type RunTime, timeOf } from './run-time.js'

const samplesSchema = z.strictObject({ signal: abortSignal().optional() })
const timeSchema = z.strictObject({
  signal: abortSignal().optional(),
  onMeasure: callback<() => void>().optional(),
})

/**
 * A training run. Iterate over it once, over its steps or over `events()`, which include the steps; or await it, which
 * trains to the end.
 */
export class TrainingRun implements AsyncIterable<TrainStep>, PromiseLike<RunResult> {
  /** Planned memory, known before anything is allocated; training allocates exactly this. */
  readonly memory: MemoryReport
  /** Options of the run, with every default filled in. */
  readonly options: RunOptions
  readonly #parts: RunParts
  readonly #loop: RunLoop
  readonly #outcome = new Outcome()
  #started = false
  #ended: DoneEvent | undefined

  /** @internal */
  constructor(setup: RunSetup) {
    this.#parts = partsOf(setup)
    this.#loop = new RunLoop(this.#parts)
    this.options = setup.options
    this.memory = this.#parts.memory
  }

  /**
   * Warnings about valid but unusual settings, such as a learning rate far from the strategy's usual one; one
   * sentence each. Remarks on the data of private training are known after the first event.
   */
  get remarks(): readonly string[] {
    return this.#parts.start.remarks
  }

  /** The last completed step. */
  get latest(): TrainStep | undefined {
    return this.#loop.latest
  }

  /** Counts of rows read and dropped; undefined before the first event or step. */
  get data(): RunData['stats'] | undefined {
    return this.#parts.start.data?.stats
  }

  /** Prompt format of the rows read so far; null before the first row. */
  get promptFormat(): PromptFormat | null {
    return this.#parts.start.data?.format() ?? null
  }

  /**
   * Asks the rows kept by `sampleRows`: the base and the adapter each answer by greedy generation, with at most
   * 64 tokens per answer and half a minute in total. Call it when the run is over. An abort rejects with the
   * signal's reason.
   */
  async samples(options: { signal?: AbortSignal } = {}): Promise<Samples> {
    const { signal } = checkedOptions(samplesSchema, options, 'samples()')
    const { setup, start, recorder } = this.#parts
    checkGenerates(setup.base, 'samples()')
    const samples = await samplesOf(setup, start.data, signal)
    await recorder.samples(samples)
    return samples
  }

  /** Checkpoints saved so far. */
  get checkpoints(): readonly string[] {
    return this.#parts.start.kept?.paths ?? []
  }

  /** Evaluations so far, including those before the run was resumed. */
  get evaluations(): readonly RunEvaluation[] {
    return this.#parts.start.state?.evaluations ?? []
  }

  /** The checkpoint that the run was resumed from, known once it has begun; null for a run from the start. */
  get resumed(): Resumed | null {
    return this.#parts.start.resumed
  }

  /**
   * Pauses the run before its next step and emits the event `paused`. A paused run computes nothing and keeps
   * its memory. The steps after it are the same as without a pause.
   */
  pause(): void {
    this.#parts.control.pause()
  }

  /** Ends a pause. */
  resume(): void {
    this.#parts.control.resume()
  }

  /** True from `pause` to `resume`, also while the current step finishes. */
  get paused(): boolean {
    return this.#parts.control.paused
  }

  /**
   * Ends the run after the current step, saves a checkpoint to resume from, and emits the event `stopped`. The
   * iteration ends without an error.
   */
  stop(): void {
    this.#parts.control.stop()
  }

  /**
   * JSON of the tools that all rows of the training data have, as far as they are kept to be asked.
   * @internal
   */
  get sharedTools(): string | undefined {
    return this.#parts.start.data?.tools()
  }

  /**
   * Asks the current adapter. The answer is generated between two steps, or at once while the run is paused;
   * the next step waits for it. Generation temporarily needs memory beyond the run's plan, and does not change
   * the run's results.
   * @throws {ConfigError} before the first event, after the run, and as `model.generate`
   * @example const { text, step } = await run.ask('What is lowrank?', { maxNewTokens: 64 })
   */
  async ask(prompt: Prompt, options: AskOptions = {}): Promise<RunAnswer> {
    checkGenerates(this.#parts.setup.base, 'ask()')
    return this.#parts.control.ask(prompt, options)
  }

  /**
   * Estimated time of the run's steps, known after the first event, or why it is unknown. For a setting that is
   * new to this machine, steps of small models with the same blocks are timed for a few seconds in a separate
   * process. An abort rejects with the signal's reason.
   */
  async time(
    options: {
      signal?: AbortSignal | undefined
      /** Called before a measurement. */
      onMeasure?: () => void
    } = {},
  ): Promise<RunTime> {
    const control = checkedOptions(timeSchema, options, 'time()')
    const { setup, start } = this.#parts
    return timeOf(setup, { ...control, data: start.data?.stats.train ?? undefined, steps: start.stepsLeft })
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
    const release = this.#parts.setup.begin()
    this.#started = true
    try {
      for await (const event of this.#loop.events()) {
        if (event.event === 'done') this.#ended = event
        yield event
      }
    } catch (error) {
      this.#outcome.reject(error)
      throw error
    } finally {
      release()
      const { setup, start } = this.#parts
      this.#outcome.resolve(resultOf(setup, start.state, this.checkpoints, this.#ended))
    }
  }
}
