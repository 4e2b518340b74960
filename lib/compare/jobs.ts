/** Runs cells in parallel: one process per job, each with its own copy of the base model, as many as fit in memory. */
import { type ChildProcess, fork } from 'node:child_process'
import { ConfigError, InternalError, LowrankError, SystemError } from '../core/errors.js'
import { compiledScript, nodeProgram, permitted } from '../core/node-program.js'
import { errnoOf, errnoWords } from '../core/system-error.js'
import { strategyToFile } from '../strategies/index.js'
import type { RunConfig } from '../train/config/config.js'
import { type CompareTask, type Outcome, type Runner, taskContext } from './cells.js'
import type { ChildAnswer, ChildRequest } from './child.js'
import type { RowOptions } from './data.js'
import type { Metric } from './metrics.js'
import type { CompareResults } from './results.js'
import { settingsOf } from './settings.js'

/** Memory of a process beyond the plan of its largest run: Node.js, the addon, and the tokenized data. */
const PROCESS_BYTES = 200 << 20

/**
 * Number of processes that fit in memory, at least one.
 * @param asked maximum number
 * @param available free bytes, not counting memory this process already uses
 */
export function fittingJobs(asked: number, entries: CompareResults['entries'], available: number): number {
  const largest = Math.max(0, ...entries.map(({ planned }) => planned.bytes))
  return Math.max(1, Math.min(asked, 1 + Math.floor(available / (largest + PROCESS_BYTES))))
}

/** @throws {ConfigError} for metrics that are functions, which cannot be sent to other processes */
export function checkJobs(jobs: number, metrics: readonly Metric[]): void {
  const own = metrics.find(({ score }) => score !== undefined)
  if (jobs === 1 || own === undefined) return
  throw new ConfigError(
    `compare: jobs is ${jobs}, but the metric ${own.name} is a function, which other processes do not have; leave jobs at 1.`,
    { jobs, metric: own.name },
  )
}

function notStarted(cause: Error): SystemError {
  const reason = errnoOf(cause)
  return new SystemError(
    `a process of a compare could not be started: ${errnoWords(cause)} (${reason}). Fewer --jobs (jobs) need fewer.`,
    { reason },
    { cause },
  )
}

/** A process that ends by itself has a defect; one that a signal ends was refused memory or threads, or was killed. */
function endedEarly(code: number | null, signal: string | null): LowrankError {
  if (signal === null) return new InternalError(`a process of a compare ended with ${code}`)
  return new SystemError(
    `a process of a compare was ended by ${signal}: somebody killed it, or the machine has too little memory for it. Finished runs are kept; continue with --resume and fewer --jobs (jobs).`,
    { reason: signal },
  )
}

/** Settings sent to a child process. */
export interface ChildSettings extends RowOptions {
  config: RunConfig
  threads: number
  metrics: readonly Metric[]
  now: number
  signal?: AbortSignal | undefined
}

/** Runs tasks in a child process, started on the first task. */
export class ChildRunner implements Runner {
  readonly #settings: ChildSettings
  #child: ChildProcess | undefined

  constructor(settings: ChildSettings) {
    this.#settings = settings
  }

  async run(task: CompareTask, results: CompareResults): Promise<Outcome> {
    const answer = await this.#ask(this.#started(), { task, about: taskContext(task, results) })
    if ('outcome' in answer) return answer.outcome
    const { code, message, details } = answer.error
    throw new LowrankError(code, message, details)
  }

  async close(): Promise<void> {
    this.#child?.kill('SIGKILL')
    this.#child = undefined
  }

  #started(): ChildProcess {
    if (this.#child !== undefined) return this.#child
    const child = permitted('trainings side by side', () =>
      fork(compiledScript('compare', 'child.js'), [], {
        ...nodeProgram(),
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      }),
    )
    const { config, metrics, signal: _, ...rest } = this.#settings
    const request: ChildRequest = {
      open: {
        ...rest,
        config: { ...settingsOf(config), strategy: strategyToFile(config.strategy) },
        metrics: metrics.map(({ name }) => name),
      },
    }
    child.send(request)
    this.#child = child
    return child
  }

  #ask(child: ChildProcess, request: ChildRequest): Promise<ChildAnswer> {
    const { signal } = this.#settings
    return new Promise((done, failed) => {
      const settle = (how: () => void) => {
        child.off('message', answered).off('exit', ended).off('error', refused)
        signal?.removeEventListener('abort', aborted)
        how()
      }
      const answered = (answer: ChildAnswer) => settle(() => done(answer))
      const ended = (code: number | null, name: string | null) => settle(() => failed(endedEarly(code, name)))
      const refused = (cause: Error) => settle(() => failed(notStarted(cause)))
      const aborted = () => settle(() => failed(signal?.reason))
      child.on('message', answered).on('exit', ended).on('error', refused)
      signal?.addEventListener('abort', aborted, { once: true })
      child.send(request)
    })
  }
}
