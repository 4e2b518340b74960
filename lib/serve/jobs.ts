/** Fine-tuning jobs: their records, what clients see of them, and what they may be told. */
import { randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { Turns } from '../native/handles.js'
import type { StrategyOptions } from '../strategies/strategy.js'
import { seconds } from './clock.js'
import { ApiError, asApiError, invalid } from './errors.js'
import { EventLog, type JobEvent } from './event-log.js'
import type { Files } from './files.js'
import { isId, newId } from './ids.js'
import {
  asGiven,
  type Hyperparameters,
  hyperparametersOf,
  type JobRequest,
  jobConfig,
  jobRequest,
  methodOf,
  placesIn,
} from './job-request.js'
import type { Memory } from './memory.js'
import type { Models } from './models.js'
import { indexAfter } from './pages.js'
import { type Recorded, Records } from './records.js'
import { checkStart, keepStart, startOf } from './start.js'

export type JobStatus = 'validating_files' | 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'

/** A status, or that of a paused job, which clients do not know. */
export type JobState = JobStatus | 'paused'

const SEEDS = 2 ** 31 - 1

/** A checkpoint of a job, which answers as a model. */
export interface JobCheckpoint {
  id: string
  object: 'fine_tuning.job.checkpoint'
  created_at: number
  fine_tuned_model_checkpoint: string
  fine_tuning_job_id: string
  step_number: number
  metrics: Record<string, number | null>
}

/** A job as it is kept. */
export interface JobRecord extends Recorded {
  request: JobRequest
  /** Name of the base. */
  base: string
  /** Strategy of the fine-tuned model that the job starts from; null for a job on the base. */
  start_strategy: StrategyOptions | null
  /** Rows of the training file. */
  rows: number
  /** Peak memory of the run with its base, as planned when the job was created. */
  planned_bytes: number
  created_at: number
  finished_at: number | null
  status: JobStatus
  paused: boolean
  seed: number
  hyperparameters: Hyperparameters | null
  fine_tuned_model: string | null
  /** True once its model was deleted. */
  deleted: boolean
  trained_tokens: number | null
  result_files: string[]
  checkpoints: JobCheckpoint[]
  error: { code: string; message: string; param: string | null } | null
}

/** Progress of a running job. */
export interface JobProgress {
  step: number
  total_steps: number
  seconds_left: number
}

export class Jobs {
  readonly #records: Records<JobRecord>
  readonly #files: Files
  readonly #models: Models
  readonly #memory: Memory
  /** Records are changed one at a time, so that no change undoes another one. */
  readonly #turns = new Turns()
  readonly #logs = new Map<string, Promise<EventLog>>()
  /** Jobs that are over, but for their last event. */
  readonly #ending = new Set<string>()
  #closed = false
  /** Progress by the ids of running jobs. */
  readonly progress = new Map<string, JobProgress>()
  /** Called when a job was added or told something. */
  changed: (id: string) => void = () => undefined
  /** Called with a job of another state. */
  told: (job: JobRecord) => void = () => undefined

  private constructor(records: Records<JobRecord>, files: Files, models: Models, memory: Memory) {
    this.#records = records
    this.#files = files
    this.#models = models
    this.#memory = memory
  }

  /** Opens the jobs of a data folder, whose finished ones answer again. */
  static async open(folder: string, files: Files, models: Models, memory: Memory): Promise<Jobs> {
    const jobs = new Jobs(
      await Records.open<JobRecord>(folder, (name) => isId('ftjob-', name)),
      ...([files, models, memory] as const),
    )
    for (const job of jobs.#records.all) jobs.announce(job)
    return jobs
  }

  /** Newest first. */
  get all(): readonly JobRecord[] {
    return [...this.#records.all].reverse()
  }

  /** The job to work on: the oldest that has not ended, does not wait for a resume, and is not one of these. */
  next(but: ReadonlySet<string>): JobRecord | undefined {
    return this.#records.all.find(({ id, status, paused }) => !isOver(status) && !paused && !but.has(id))
  }

  /** @throws {ApiError} for an id that no job has */
  get(id: string): JobRecord {
    const found = this.#records.get(id)
    if (found === undefined)
      throw new ApiError(404, `Could not find fine tune: ${id}`, 'fine_tune_not_found', 'fine_tune_id')
    return found
  }

  path(id: string, ...names: readonly string[]): string {
    return this.#records.path(id, ...names)
  }

  log(id: string): Promise<EventLog> {
    const found = this.#logs.get(id) ?? EventLog.open(this.path(id, 'events.jsonl'))
    this.#logs.set(id, found)
    return found
  }

  async events(id: string): Promise<readonly JobEvent[]> {
    this.get(id)
    return (await this.log(id)).all
  }

  /**
   * Events of a job as they come, oldest first, until it ends.
   * @param after id of the last event that was seen
   * @throws {ApiError} when it has no such event
   */
  async following(
    id: string,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<JobEvent>> {
    this.get(id)
    const log = await this.log(id)
    return this.#follow(id, log, indexAfter(log.inOrder, after), signal)
  }

  async *#follow(id: string, log: EventLog, from: number, signal: AbortSignal): AsyncGenerator<JobEvent> {
    for (let at = from; ; ) {
      while (at < log.inOrder.length) yield log.inOrder[at++] as JobEvent
      const ended = isOver(this.get(id).status) && !this.#ending.has(id)
      if (ended || this.#closed || signal.aborted) return
      await log.changed(signal)
    }
  }

  /** Ends the streams of events. */
  async close(): Promise<void> {
    this.#closed = true
    for (const log of this.#logs.values()) (await log).wake()
  }

  /**
   * Creates a job. Its files get second names in its folder, so that they may be deleted meanwhile.
   * @throws {ApiError} for a request that cannot become a job, also for lack of memory
   */
  async create(body: unknown): Promise<JobRecord> {
    const request = jobRequest(body)
    const { name: base, model, tuned } = this.#models.trainable(request.model)
    for (const param of ['training_file', 'validation_file'] as const) {
      const file = request[param]
      if (file != null && this.#files.rows(file) === undefined)
        throw invalid(param, `No such File object: ${file}`)
    }
    const id = newId('ftjob-')
    const rows = this.#files.rows(request.training_file) as number
    // Keys of the config, and its memory, are checked while the client listens.
    const start = tuned === undefined ? null : await startOf(model, tuned)
    const places = placesIn(this.path(id), model.path, request, start)
    const config = jobConfig(request, hyperparametersOf(request, rows), 0, rows, places)
    if (tuned !== undefined) await checkStart(model, tuned, config)
    const planned = await this.#memory.planned(model, config).catch((error: unknown) => {
      throw asApiError(error, 'lowrank')
    })
    this.#memory.expectRoom(model, planned)
    await this.#records.begin(id)
    await this.#files.keepAs(request.training_file, this.path(id, 'training.jsonl'))
    if (request.validation_file != null)
      await this.#files.keepAs(request.validation_file, this.path(id, 'validation.jsonl'))
    if (tuned !== undefined) await keepStart(tuned, this.path(id, 'start'))
    const job: JobRecord = {
      ...{ id, sequence: this.#records.nextSequence(), request, base, start_strategy: start, rows },
      planned_bytes: planned.plannedBytes,
      created_at: seconds(),
      ...{ finished_at: null, status: 'validating_files', paused: false },
      seed: request.seed ?? randomInt(SEEDS),
      ...{ hyperparameters: null, fine_tuned_model: null, deleted: false, trained_tokens: null },
      ...{ result_files: [], checkpoints: [], error: null },
    }
    await this.#records.put(job)
    this.told(job)
    const log = await this.log(id)
    await log.message(`Created fine-tuning job: ${id}`)
    await log.message(`Validating training file: ${request.training_file}`)
    this.changed(id)
    return job
  }

  /** Changes a record. A job that is over stays as it ended: changes with a status are then dropped. */
  update(id: string, changes: Partial<Omit<JobRecord, 'id' | 'sequence'>>): Promise<JobRecord> {
    return this.#turns.run(async () => {
      const now = this.get(id)
      if (isOver(now.status) && changes.status !== undefined) return now
      const job = { ...now, ...changes }
      await this.#records.put(job)
      if (stateOf(job) !== stateOf(now)) this.told(job)
      this.announce(job)
      ;(await this.log(id)).wake()
      return job
    })
  }

  /** Ends a job with an event that says so, which those who follow its events still see. */
  async end(
    id: string,
    changes: Pick<JobRecord, 'status'> & Partial<Pick<JobRecord, 'error'>>,
    message: string,
    level: JobEvent['level'] = 'info',
  ): Promise<JobRecord> {
    const log = await this.log(id)
    this.#ending.add(id)
    try {
      const job = await this.update(id, { ...changes, finished_at: seconds() })
      await log.message(message, level)
      return job
    } finally {
      this.#ending.delete(id)
      log.wake()
    }
  }

  /** @throws {ApiError} for a job that has ended */
  async cancel(id: string): Promise<JobRecord> {
    this.#expectOpen(id, 'cancel')
    const job = await this.end(id, { status: 'cancelled' }, 'Fine-tuning job cancelled')
    this.changed(id)
    return job
  }

  /** Pauses a job, which leaves its place to others, or lets it go on. @throws {ApiError} for a job that has ended */
  async pause(id: string, paused: boolean): Promise<JobRecord> {
    this.#expectOpen(id, paused ? 'pause' : 'resume')
    if (this.get(id).paused === paused) return this.get(id)
    const job = await this.update(id, { paused })
    await (await this.log(id)).message(paused ? 'The job was paused' : 'The job was resumed')
    this.changed(id)
    return job
  }

  /** Removes the model of a job; the record of the job stays. */
  async deleteModel(name: string): Promise<void> {
    const job = this.#records.all.find(({ fine_tuned_model }) => fine_tuned_model === name)
    if (job === undefined || !this.#models.isTuned(name))
      throw new ApiError(
        this.#models.list.some(({ id }) => id === name) ? 403 : 404,
        `The model '${name}' cannot be deleted; only finished fine-tuned models can.`,
        'model_not_found',
        'model',
      )
    await this.update(job.id, { deleted: true })
    await this.#models.remove(name)
  }

  /** Makes the models of a job answer. */
  announce({ id, base, fine_tuned_model: name, deleted, finished_at, checkpoints }: JobRecord): void {
    for (const { fine_tuned_model_checkpoint: at, step_number, created_at } of checkpoints) {
      const path = this.checkpointPath(id, step_number)
      if (existsSync(path)) this.#models.add({ name: at, base, path, created: created_at })
    }
    if (name === null || deleted) return
    this.#models.add({ name, base, path: this.path(id, 'run'), created: finished_at ?? 0 })
  }

  checkpointPath(id: string, step: number): string {
    return this.path(id, 'checkpoints', `step-${step}`)
  }

  #expectOpen(id: string, verb: string): void {
    const { status } = this.get(id)
    if (isOver(status)) throw new ApiError(400, `Cannot ${verb} a job that has ${status}.`, 'invalid_state')
  }
}

export function isOver(status: JobStatus): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled'
}

export function stateOf({ status, paused }: JobRecord): JobState {
  return paused && !isOver(status) ? 'paused' : status
}

/** Name of the model of a job. Its last part is of the job alone, so that no name is used twice. */
export function tunedName({ id, base, request: { suffix } }: JobRecord): string {
  return `ft:${base}:local:${suffix ?? ''}:${shortId(id)}`
}

export function checkpointName(job: JobRecord, step: number): string {
  return `${tunedName(job)}:ckpt-step-${step}`
}

function shortId(id: string): string {
  return id.slice('ftjob-'.length, 'ftjob-'.length + 8)
}

/** The grader as it was given. */
function graderShown({ method }: JobRequest): { grader?: unknown } {
  return method?.type === 'reinforcement' ? { grader: method.reinforcement.grader } : {}
}

/** A job as clients see it. */
export function jobObject(job: JobRecord, progress: JobProgress | undefined) {
  const { id, request, status, created_at, finished_at, hyperparameters, seed, error } = job
  const state = stateOf(job)
  const type = methodOf(request)
  const shown = hyperparameters ?? asGiven(request)
  return {
    object: 'fine_tuning.job',
    ...{ id, created_at, finished_at, error, seed },
    ...{ model: request.model, fine_tuned_model: job.deleted ? null : job.fine_tuned_model },
    ...{
      organization_id: 'local',
      result_files: isOver(status) ? job.result_files : [],
      trained_tokens: job.trained_tokens,
    },
    // Clients know no other status for a job that waits.
    status: state === 'paused' ? 'running' : state,
    ...{ training_file: request.training_file, validation_file: request.validation_file ?? null },
    hyperparameters: type === 'supervised' ? shown : null,
    method: { type, [type]: { ...graderShown(request), hyperparameters: shown } },
    ...{ user_provided_suffix: request.suffix ?? null, metadata: request.metadata ?? null, integrations: [] },
    estimated_finish: progress === undefined ? null : Math.round(Date.now() / 1000 + progress.seconds_left),
    ...{ usage_metrics: null, shared_with_openai: false },
    lowrank: {
      state,
      planned_bytes: job.planned_bytes,
      ...progress,
    },
  }
}
