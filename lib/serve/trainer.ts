/**
 * Trains one job after another, oldest first, on the models that answer requests meanwhile. What a job has done is in its
 * folder: after any end of the server, its run goes on from its newest checkpoint with the same bits.
 */
import { existsSync } from 'node:fs'
import { cp, mkdir, rename, rm } from 'node:fs/promises'
import { LowrankError } from '../core/errors.js'
import { errnoOf } from '../core/system-error.js'
import type { Model } from '../model/model.js'
import { Turns } from '../native/handles.js'
import { rulesOf } from '../strategies/index.js'
import { listCheckpoints } from '../train/checkpoints/checkpoint-folder.js'
import { type RunConfig, trainOptions } from '../train/config/config.js'
import { foldersOf } from '../train/folders/output-folder.js'
import type { MetricsLine } from '../train/records/event-schemas.js'
import { readMetrics } from '../train/records/metrics-file.js'
import type { EvalEvent, TrainStep } from '../train/steps/events.js'
import { seconds } from './clock.js'
import { ApiError, asApiError } from './errors.js'
import type { EventLog } from './event-log.js'
import type { Files } from './files.js'
import { checkItems, rewardBy } from './graders/grade.js'
import { newId } from './ids.js'
import {
  asGiven,
  graderIn,
  hyperparametersOf,
  type JobRequest,
  jobConfig,
  placesIn,
  stepsPerEpoch,
} from './job-request.js'
import { checkpointName, isOver, type JobCheckpoint, type JobRecord, type Jobs, tunedName } from './jobs.js'
import type { Log } from './log.js'
import { type Memory, type PlannedJob, shown } from './memory.js'
import type { Metrics } from './metrics.js'
import type { Models } from './models.js'

/** Fewer rows than this teach little, which a job is told once. */
const FEW_ROWS = 10
/** How often a job looks whether memory has become free. */
const POLL_MS = 200
/** Files of a checkpoint that only a resumed run reads. */
const NOT_OF_A_MODEL = /[/\\](training_state\.\w+|SHA256SUMS)$/
const CSV = 'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy'
const CSV_OF_REWARDS = `${CSV},train_reward_mean,valid_reward_mean`

/** Numbers of a step, as events and checkpoints have them. */
type StepMetrics = { step: number } & Record<string, number | null>

interface Parts {
  jobs: Jobs
  files: Files
  models: Models
  memory: Memory
  metrics: Metrics
  log: Log
}

interface AtWork {
  id: string
  stop: AbortController
}

export class Trainer {
  readonly #jobs: Jobs
  readonly #files: Files
  readonly #models: Models
  readonly #memory: Memory
  readonly #metrics: Metrics
  readonly #log: Log
  /** Checks of new jobs, one after the other. */
  readonly #checks = new Turns()
  /** The job that waits for memory, and its plan. */
  #waiting: { id: string; planned: PlannedJob } | undefined
  #atWork: AtWork | undefined
  /** Jobs whose failure could not be written, which the next server tries again. */
  readonly #unrecorded = new Set<string>()
  #closing = false
  #wake: () => void = () => undefined
  readonly #done: Promise<void>

  constructor({ jobs, files, models, memory, metrics, log }: Parts) {
    this.#jobs = jobs
    this.#files = files
    this.#models = models
    this.#memory = memory
    this.#metrics = metrics
    this.#log = log
    jobs.changed = (id) => this.#changed(id)
    this.#done = this.#loop()
  }

  /** Ends after the current step, which is saved. */
  async close(): Promise<void> {
    this.#closing = true
    this.#atWork?.stop.abort()
    this.#wake()
    await this.#done
  }

  #changed(id: string): void {
    const { status, paused } = this.#jobs.get(id)
    if (this.#atWork?.id === id && (isOver(status) || paused)) this.#atWork.stop.abort()
    // A failed check is tried again when it is the job's turn.
    if (status === 'validating_files') this.#checked(id).catch(() => undefined)
    this.#wake()
  }

  async #loop(): Promise<void> {
    while (!this.#closing) {
      const next = this.#jobs.next(this.#unrecorded)
      if (next === undefined) {
        await this.#woken()
        continue
      }
      const stop = new AbortController()
      this.#atWork = { id: next.id, stop }
      await this.#work(next, stop.signal).catch((error: unknown) => this.#failed(next, error, stop.signal))
      this.#atWork = undefined
      this.#jobs.progress.delete(next.id)
    }
  }

  /** Waits until something has changed. @param most milliseconds */
  #woken(most?: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
      if (most !== undefined) setTimeout(resolve, most).unref()
    })
  }

  async #failed({ id }: JobRecord, error: unknown, signal: AbortSignal): Promise<void> {
    // A run that was told to stop has saved its checkpoint, or its job is over.
    if (error === signal.reason || isOver(this.#jobs.get(id).status)) return
    const full = errnoOf((error as Error).cause ?? error) === 'ENOSPC'
    const { message, param, status } = asApiError(error, 'training_file', (text) => this.#hidden(id, text))
    const code = full ? 'insufficient_storage' : status === 500 ? 'server_error' : codeOf(error)
    if (status === 500) this.#log({ event: 'failure', id, error })
    try {
      await this.#jobs.end(id, { status: 'failed', error: { code, message, param } }, message, 'error')
    } catch (cause) {
      this.#unrecorded.add(id)
      this.#log({ event: 'failure', id, error: cause })
    }
  }

  /** A message without paths of this machine. */
  #hidden(id: string, text: string): string {
    const { request } = this.#jobs.get(id)
    return text
      .replaceAll(this.#jobs.path(id, 'training.jsonl'), request.training_file)
      .replaceAll(this.#jobs.path(id, 'validation.jsonl'), request.validation_file ?? 'validation_file')
      .replaceAll(this.#jobs.path(id), id)
  }

  /** Lets a new job into the queue, and tells it what it waits for. */
  #checked(id: string): Promise<void> {
    return this.#checks.run(async () => {
      const { status, request, rows } = this.#jobs.get(id)
      if (status !== 'validating_files') return
      const log = await this.#jobs.log(id)
      const tell = async (text: string, level?: 'warn') => {
        if (!log.has(text)) await log.message(text, level)
      }
      if (rows < FEW_ROWS)
        await tell(`The training file has ${rows} example(s); at least ${FEW_ROWS} are advised`, 'warn')
      await this.#checkItems(id, request)
      const { reasoning_effort: effort = 'default' } = asGiven(request)
      if (effort !== 'default')
        await tell(`reasoning_effort is ${effort}, which has no effect on this server`, 'warn')
      await tell('Files validated, moving job to queued state')
      const before = this.#atWork?.id
      if (before !== undefined && before !== id) await tell(`Waiting for ${before} to end`)
      await this.#jobs.update(id, { status: 'queued', hyperparameters: hyperparametersOf(request, rows) })
    })
  }

  /** @throws {DataError} for a row that lacks what the grader of the job looks at */
  async #checkItems(id: string, request: JobRequest): Promise<void> {
    const grader = graderIn(request)
    if (grader === undefined) return
    await checkItems(this.#jobs.path(id, 'training.jsonl'), grader)
    if (request.validation_file != null) await checkItems(this.#jobs.path(id, 'validation.jsonl'), grader)
  }

  async #work({ id }: JobRecord, signal: AbortSignal): Promise<void> {
    await this.#checked(id)
    const job = this.#jobs.get(id)
    const { request, rows, seed } = job
    if (isOver(job.status)) return
    const { model } = this.#models.trainable(job.base)
    const log = await this.#jobs.log(id)
    const numbers = job.hyperparameters ?? hyperparametersOf(request, rows)
    const places = placesIn(this.#jobs.path(id), model.path, request, job.start_strategy)
    const config = jobConfig(request, numbers, seed, rows, places)
    const planned =
      this.#waiting?.id === id ? this.#waiting.planned : await this.#memory.planned(model, config)
    this.#memory.expectRoom(model, planned)
    if (!(await this.#hasRoom(id, model, planned, log))) return this.#woken(POLL_MS)
    const { optimizer } = planned
    const given = optimizer === null ? config : { ...config, optimizer }
    await this.#train(job, given, stepsPerEpoch(rows, numbers.batch_size), model, log, signal)
  }

  /** False while answers in progress hold memory that the job needs. */
  async #hasRoom(id: string, model: Model, planned: PlannedJob, log: EventLog): Promise<boolean> {
    const { needed } = planned
    const isFree = () => needed <= this.#memory.freeFor(model)
    if (!isFree()) await this.#models.freeIdle()
    if (isFree() || this.#models.answering === 0) {
      this.#waiting = undefined
      return true
    }
    if (this.#waiting?.id !== id)
      await log.message(
        `Waiting for memory: the job needs ${shown(needed)} beside the models, and ${shown(this.#memory.freeFor(model))} are free until answers in progress end`,
      )
    this.#waiting = { id, planned }
    return false
  }

  async #train(
    job: JobRecord,
    config: RunConfig,
    epochSteps: number,
    model: Model,
    log: EventLog,
    signal: AbortSignal,
  ): Promise<void> {
    const { id } = job
    const { dataset: data, evalDataset, outputDir, learningRate, strategy: given } = config
    const { runDir } = foldersOf(outputDir, given)
    const probes = rulesOf(given).probe?.(given) !== undefined
    const grader = graderIn(job.request)
    const options = {
      ...trainOptions(config),
      ...(grader === undefined ? {} : { rewardFunctions: rewardBy(grader) }),
    }
    const strategy = probes ? await model.probe(given, data, { ...options, evalDataset, signal }) : given
    const adapter = await model.attach(strategy, { seed: job.seed, name: id, from: config.initAdapter })
    let done = false
    let metrics: StepMetrics = { step: 0 }
    try {
      const run = adapter.train(data, {
        ...options,
        ...{ learningRate: learningRate as number, evalDataset, outputDir, report: true, signal },
        resume: (await listCheckpoints(runDir)).length > 0,
        force: existsSync(outputDir),
      })
      for await (const event of run.events()) {
        if (event.event === 'start' && this.#jobs.get(id).status !== 'running') {
          await this.#jobs.update(id, { status: 'running' })
          await log.message('Fine-tuning job started')
        }
        if (event.event === 'step') metrics = await this.#stepped(id, event, log)
        if (event.event === 'eval') metrics = await this.#evaluated(event, metrics, log)
        if (event.event === 'checkpoint' && event.step % epochSteps === 0)
          await this.#keep(id, event.step, event.path, metrics, log)
        if (event.event === 'done') done = true
      }
    } finally {
      await adapter.detach()
    }
    if (done) await this.#succeeded(id, runDir, log)
  }

  async #stepped(id: string, step: TrainStep, log: EventLog): Promise<StepMetrics> {
    const { step: at, totalSteps, secondsLeft } = step
    this.#metrics.trained(step.tokens)
    this.#jobs.progress.set(id, {
      ...{ step: at, total_steps: totalSteps, seconds_left: Math.round(secondsLeft) },
    })
    const loss = rounded(step.loss)
    const accuracy = rounded(step.meanTokenAccuracy)
    const reward = rounded(step.reward)
    const metrics = {
      ...{ step: at, total_steps: totalSteps, train_loss: loss },
      ...(accuracy === null ? {} : { train_mean_token_accuracy: accuracy }),
      ...(reward === null ? {} : { train_reward_mean: reward }),
    }
    const rewarded = reward === null ? '' : `, training reward mean=${reward}`
    // After a kill, steps since the checkpoint are made again, and told once.
    if (at > log.lastStepWith('total_steps'))
      await log.metrics(`Step ${at}/${totalSteps}: training loss=${loss ?? 'NaN'}${rewarded}`, metrics)
    return metrics
  }

  /** The whole validation file is evaluated, so its loss is the one of a batch too. */
  async #evaluated(evaluation: EvalEvent, stepped: StepMetrics, log: EventLog): Promise<StepMetrics> {
    const { step } = evaluation
    const { total_steps: total = step } = stepped
    const loss = rounded(evaluation.loss)
    const accuracy = rounded(evaluation.meanTokenAccuracy)
    const reward = rounded(evaluation.reward)
    const metrics = {
      ...(stepped.step === step ? stepped : { step }),
      // Prompts without answers have a reward alone.
      ...(loss === null && reward !== null ? {} : { valid_loss: loss, full_valid_loss: loss }),
      ...(reward === null ? {} : { valid_reward_mean: reward }),
      ...(accuracy === null
        ? {}
        : { valid_mean_token_accuracy: accuracy, full_valid_mean_token_accuracy: accuracy }),
    }
    const said =
      reward === null ? `full validation loss=${loss ?? 'NaN'}` : `validation reward mean=${reward}`
    if (step > log.lastStepWith(reward === null ? 'full_valid_loss' : 'valid_reward_mean'))
      await log.metrics(`Step ${step}/${total}: ${said}`, metrics)
    return metrics
  }

  /** Keeps the checkpoint of an epoch, of which the run removes all but the last few. */
  async #keep(id: string, step: number, from: string, last: StepMetrics, log: EventLog): Promise<void> {
    const job = this.#jobs.get(id)
    if (job.checkpoints.some(({ step_number }) => step_number === step)) return
    const path = this.#jobs.checkpointPath(id, step)
    await mkdir(this.#jobs.path(id, 'checkpoints'), { recursive: true })
    await rm(`${path}.new`, { recursive: true, force: true })
    await cp(from, `${path}.new`, { recursive: true, filter: (name) => !NOT_OF_A_MODEL.test(name) })
    await rm(path, { recursive: true, force: true })
    await rename(`${path}.new`, path)
    const { total_steps: _, ...metrics } = last.step === step ? last : { step }
    const checkpoint: JobCheckpoint = {
      ...{ id: newId('ftckpt_'), object: 'fine_tuning.job.checkpoint', created_at: seconds() },
      fine_tuned_model_checkpoint: checkpointName(job, step),
      ...{ fine_tuning_job_id: id, step_number: step },
      metrics,
    }
    await this.#jobs.update(id, { checkpoints: [...job.checkpoints, checkpoint] })
    await log.message(`Checkpoint created at step ${step}`)
  }

  async #succeeded(id: string, runDir: string, log: EventLog): Promise<void> {
    const lines = await readMetrics(runDir)
    // Its id is written first, so that a server that is killed here makes no second file.
    const file = this.#jobs.get(id).result_files[0] ?? newId('file-')
    await this.#jobs.update(id, { result_files: [file] })
    const { request } = this.#jobs.get(id)
    const csv = csvOf(lines, graderIn(request) !== undefined)
    await this.#files.add(file, 'step_metrics.csv', 'fine-tune-results', csv)
    if (isOver(this.#jobs.get(id).status)) return
    const name = tunedName(this.#jobs.get(id))
    // A client that sees the end also sees its events, and a server that is killed between them tells each once.
    for (const text of [`New fine-tuned model created: ${name}`, 'The job has successfully completed'])
      if (!log.has(text)) await log.message(text)
    await this.#jobs.update(id, {
      ...{ status: 'succeeded', finished_at: seconds(), fine_tuned_model: name },
      trained_tokens: lines.reduce(
        (sum, line) => sum + (line.event === 'step' ? line.supervised_tokens : 0),
        0,
      ),
    })
  }
}

/** The result file: one line a step, and empty cells for what was not measured there. */
function csvOf(lines: readonly MetricsLine[], rewarded: boolean): string {
  const valid = new Map(lines.flatMap((line) => (line.event === 'eval' ? [[line.step, line]] : [])))
  const rows = lines.flatMap((line) => {
    if (line.event !== 'step') return []
    const held = valid.get(line.step)
    const { loss, mean_token_accuracy: accuracy } = line
    return [
      ...[line.step, loss, accuracy, held?.loss, held?.mean_token_accuracy],
      ...(rewarded ? [line.reward, held?.reward] : []),
    ]
      .map((cell) => cell ?? '')
      .join(',')
  })
  return [rewarded ? CSV_OF_REWARDS : CSV, ...rows, ''].join('\n')
}

function codeOf(error: unknown): string {
  if (error instanceof ApiError) return error.code ?? 'server_error'
  if (!(error instanceof LowrankError)) return 'server_error'
  return error.code === 'DATA' ? 'invalid_training_file' : error.code.toLowerCase()
}

function rounded(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? Number(value.toFixed(6)) : null
}
