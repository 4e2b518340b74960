/**
 * Trains and compares one job after another, in this process, as `lowrank train` and `lowrank compare` do. The end of the
 * server stops the job at work after its current step, with a checkpoint from which a later server goes on.
 */
import { existsSync } from 'node:fs'
import { Writable } from 'node:stream'
import { type CompareEvent, compareOn } from '../../compare/index.js'
import { BusyError, ConfigError } from '../../core/errors.js'
import { codeOf, fromSystem } from '../../core/system-error.js'
import { Turns } from '../../native/handles.js'
import { listCheckpoints } from '../../train/checkpoints/checkpoint-folder.js'
import { resolveConfig } from '../../train/config/config.js'
import { withLabels } from '../../train/config/labels.js'
import { checkRun } from '../../train/config/preflight.js'
import { foldersAt, foldersOf } from '../../train/folders/output-folder.js'
import { lockRun, type RunLock } from '../../train/folders/run-lock.js'
import { Processes } from '../../train/processes/processes.js'
import type { MetricsLine } from '../../train/records/event-schemas.js'
import { readMetrics } from '../../train/records/metrics-file.js'
import type { TrainingRun } from '../../train/run/run.js'
import { compareText } from '../compare-table.js'
import { InterruptedError } from '../errors.js'
import { Output } from '../output.js'
import type { Printed } from '../schemas.js'
import { train } from '../train.js'
import { FRESH, isAtWork, type JobRecord, JobStore } from './job-store.js'

/** Config errors name keys as clients spell them. */
export const SOURCE = { name: 'config', spelling: 'snake' } as const
const MOST_NOTES = 20
/** Most milliseconds of a timer. */
const LONGEST = 2 ** 31 - 1

/** A job of this server that has not ended. */
interface Active {
  record: JobRecord
  lock: RunLock
  stop: AbortController
  /** Answers prompts between steps. */
  run?: TrainingRun
  ended: Promise<void>
}

export class Jobs {
  readonly store: JobStore
  readonly #active = new Map<string, Active>()
  readonly #turns = new Turns()
  readonly #beforeWork: () => Promise<void>
  #closing = false

  /** @param beforeWork frees memory for a job */
  constructor(folder: string, beforeWork: () => Promise<void>) {
    this.store = new JobStore(folder)
    this.#beforeWork = beforeWork
  }

  /** Newest first, with the progress of those at work. */
  async all(): Promise<JobRecord[]> {
    return (await this.store.all()).map((job) => this.#active.get(job.id)?.record ?? job)
  }

  /** @throws {ConfigError} for an id that no job has */
  async get(id: string): Promise<JobRecord> {
    const active = this.#active.get(id)
    if (active !== undefined) return active.record
    const record = await this.store.get(id)
    // Another server may be at work on it, or may have been killed.
    const last = (await this.metrics(record)).findLast((line) => line.event === 'step')
    if (last === undefined) return record
    const { step, total_steps, loss } = last
    return { ...record, step, total_steps, loss }
  }

  /** The lines of the log of a job's run. */
  async metrics({ id }: Pick<JobRecord, 'id'>): Promise<MetricsLine[]> {
    return readMetrics(foldersAt(this.store.path(id, 'run')).runDir).catch(() => [])
  }

  /** The run of a job at work, once it has begun. */
  runOf(id: string): TrainingRun | undefined {
    return this.#active.get(id)?.run
  }

  /** Begins a job when those before it have ended; one that has stopped goes on. */
  async begin(record: JobRecord): Promise<JobRecord> {
    if (this.#closing) throw new BusyError('the server is ending; start it again.', {})
    const lock = await lockRun(this.store.path(record.id))
    const { step, loss, total_steps, eval_loss } = record
    const queued: JobRecord = { ...record, ...FRESH, ...{ step, loss, total_steps, eval_loss } }
    const active: Active = { record: queued, lock, stop: new AbortController(), ended: Promise.resolve() }
    this.#active.set(record.id, active)
    try {
      await this.store.put(queued)
    } catch (error) {
      this.#active.delete(record.id)
      lock.release()
      throw error
    }
    active.ended = this.#turns.run(() => this.#work(active))
    return queued
  }

  /** Stops a job after its current step. @throws {ConfigError} for one that is not at work here */
  async stop(id: string, reason = 'stopped on request.'): Promise<JobRecord> {
    const active = this.#active.get(id)
    if (active === undefined) {
      const { state } = await this.store.get(id)
      throw new ConfigError(`${id} has ${isAtWork({ state }) ? 'another server' : state}.`, { job: id })
    }
    active.stop.abort(new InterruptedError(reason))
    await active.ended
    return active.record
  }

  /** Waits for the end of a job, or this long. */
  async wait(id: string, milliseconds: number, signal: AbortSignal): Promise<void> {
    const active = this.#active.get(id)
    if (active === undefined || signal.aborted) return
    let wake: () => void = () => undefined
    const slept = new Promise<void>((resolve) => {
      wake = resolve
    })
    const timer = setTimeout(wake, milliseconds)
    signal.addEventListener('abort', wake, { once: true })
    await Promise.race([active.ended, slept])
    clearTimeout(timer)
    signal.removeEventListener('abort', wake)
  }

  /** Stops all jobs, saving checkpoints. */
  async close(): Promise<void> {
    this.#closing = true
    const all = [...this.#active.values()]
    for (const { stop } of all) stop.abort(new InterruptedError('its server was ended.'))
    await Promise.all(all.map(({ ended }) => ended))
  }

  async #work(active: Active): Promise<void> {
    const { record, stop, lock } = active
    const { signal } = stop
    const limit =
      record.minutes === null
        ? undefined
        : setTimeout(
            () => stop.abort(new InterruptedError(`it has used its ${record.minutes} minutes.`)),
            Math.min(LONGEST, record.minutes * 60_000),
          )
    try {
      signal.throwIfAborted()
      await this.#beforeWork()
      await this.#put(active, { state: 'running' })
      if (record.kind === 'train') await this.#train(active)
      else await this.#compare(active)
      active.record = { ...active.record, state: 'succeeded', seconds_left: 0 }
    } catch (caught) {
      const error = fromSystem(caught)
      const { message } = error as Error
      const code = codeOf(error)
      active.record = {
        ...active.record,
        ...(signal.aborted
          ? { state: 'stopped', message: (signal.reason as Error).message, code: null }
          : { state: 'failed', message, code }),
        seconds_left: null,
      }
    }
    clearTimeout(limit)
    // A full disk leaves the record as it was, which then counts as stopped.
    await this.store.put(active.record).catch(() => undefined)
    delete active.run
    this.#active.delete(record.id)
    lock.release()
  }

  async #put(active: Active, changes: Partial<JobRecord>): Promise<void> {
    active.record = { ...active.record, ...changes }
    await this.store.put(active.record)
  }

  async #train(active: Active): Promise<void> {
    const { record, stop } = active
    const { signal } = stop
    const config = await withLabels(resolveConfig(record.config, SOURCE, '/'))
    const { runDir } = foldersOf(config.outputDir, config.strategy)
    const resume = (await listCheckpoints(runDir)).length > 0
    const force = !resume && existsSync(config.outputDir)
    const checkpoint = await checkRun(config, { resume, force, signal })
    const told = linesInto(
      (text) => this.#told(active, JSON.parse(text) as Printed<'train'>),
      (text) => noteOf(active, text),
    )
    const live = {
      async begin(run: TrainingRun) {
        active.run = run
      },
    }
    const call = this.store.path(record.id, 'run', 'config.yaml')
    const interruption = { signal, promise: '' }
    await train(
      config,
      { ...{ checkpoint, force, call, interruption, live }, ranks: Processes.alone() },
      told,
    )
  }

  #told(active: Active, line: Printed<'train'>): void {
    const { record } = active
    if (line.event === 'step') {
      const { step, total_steps, loss, seconds_left } = line
      active.record = { ...record, step, total_steps, loss, seconds_left }
    } else if (line.event === 'eval') active.record = { ...record, eval_loss: line.loss }
    else if (line.event === 'samples') {
      const samples = line.rows.map(({ prompt, expected, base, tuned }) => ({
        prompt,
        expected,
        base,
        tuned,
      }))
      active.record = { ...record, samples }
    }
  }

  async #compare(active: Active): Promise<void> {
    const { record, stop } = active
    const config = await withLabels(resolveConfig(record.config, SOURCE, '/'))
    const outputDir = this.store.path(record.id, 'compare')
    const results = await compareOn(Processes.alone(), config, {
      ...{ outputDir, signal: stop.signal, resume: existsSync(outputDir) },
      ...(record.strategies === null ? {} : { strategies: record.strategies }),
      ...(record.seeds === null ? {} : { seeds: record.seeds }),
      ...(record.minutes === null ? {} : { budget: record.minutes * 60 }),
      onEvent: (event: CompareEvent) => {
        if (event.event === 'begin')
          active.record = { ...active.record, step: event.done, total_steps: event.total }
        else if (event.event === 'warning') noteOf(active, `note: ${event.message}`)
      },
    })
    if (results !== undefined) active.record = { ...active.record, table: compareText(results) }
  }
}

function noteOf(active: Active, text: string): void {
  const note = /^note: (.*)/s.exec(text.trim())?.[1] ?? text
  const { notes } = active.record
  if (text.startsWith('note: ') && notes.length < MOST_NOTES && !notes.includes(note))
    active.record = { ...active.record, notes: [...notes, note] }
}

/** An output that hands over what a command prints. */
function linesInto(line: (text: string) => void, note: (text: string) => void): Output {
  const into = (handle: (text: string) => void) =>
    new Writable({
      decodeStrings: false,
      write: (text: string, _encoding, done) => {
        handle(text)
        done()
      },
    }) as unknown as NodeJS.WriteStream
  return new Output(true, into(line), into(note))
}
