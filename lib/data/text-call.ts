/**
 * One job of a text worker from the side that asked for it: answers in order, an end that always comes, no leftovers.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { FileFormatError, InternalError, UnsupportedError } from '../core/errors.js'
import { compiledScript, nodeProgram } from '../core/node-program.js'
import { fromPlainError, type TextAnswer, type TextFeed, type TextJob } from './text-jobs.js'

/**
 * The worker is a process, not a thread: a template or a tokenizer can make V8 end whatever process it runs in, where
 * no limit on a thread's heap helps (one string or array that is too large).
 */
export class TextCall {
  readonly #worker: ChildProcess
  readonly #signal: AbortSignal | undefined
  readonly #answers: TextAnswer[] = []
  #failure: { error: unknown } | undefined
  #wake: (() => void) | undefined
  #closed: Promise<void> | undefined
  #started = false
  #startLimit: NodeJS.Timeout | undefined

  /**
   * @param megabytes limit of the worker's heap
   * @param signal ends the job; answers are then rejected with its reason
   */
  constructor(job: TextJob, megabytes: number, signal?: AbortSignal) {
    signal?.throwIfAborted()
    this.#signal = signal
    this.#worker = started(megabytes)
    signal?.addEventListener('abort', this.#abort)
    this.#worker.on('message', (answer: TextAnswer) => {
      if (answer.kind === 'started') this.#hasStarted()
      else if (answer.kind === 'error') this.fail(fromPlainError(answer.error))
      else this.#answers.push(answer)
      this.#wake?.()
    })
    this.#worker.on('error', (cause) => {
      this.fail(this.#started ? workerFailed(cause) : notStarted(cause.message, { cause }))
    })
    // Comes after its last answer, which still counts.
    this.#worker.on('close', (code, signalName) => {
      const ran = this.#started || signalName !== null
      const error = ran ? endedEarly(code, signalName, megabytes) : notStarted(`it ended with code ${code}`)
      this.#failure ??= { error }
      this.#wake?.()
    })
    // An Electron without its Node.js mode starts the app once more, which never answers.
    if (process.versions.electron)
      this.#startLimit = setTimeout(() => {
        this.fail(notStarted(`it did not answer within ${START_SECONDS} s`))
        this.#worker.kill('SIGKILL')
      }, 1000 * START_SECONDS).unref()
    this.#send(job)
  }

  #hasStarted(): void {
    this.#started = true
    clearTimeout(this.#startLimit)
  }

  /** The next answer. Rejects when the job failed, was aborted or was made to fail. */
  async next(): Promise<TextAnswer> {
    for (;;) {
      const answer = this.#answers.shift()
      if (answer !== undefined) return answer
      if (this.#failure) throw this.#failure.error
      await new Promise<void>((wake) => {
        this.#wake = wake
      })
    }
  }

  /** Keeps the process alive, as it is at first. */
  ref(): void {
    this.#worker.ref()
    // Bun has one thing where Node.js has two.
    this.#worker.channel?.ref?.()
  }

  /** Lets the process end though the job has not. */
  unref(): void {
    this.#worker.unref()
    this.#worker.channel?.unref?.()
  }

  send(message: TextFeed): void {
    this.#send(message)
  }

  /** A worker that is gone says so by its end. */
  #send(message: TextJob | TextFeed): void {
    this.#worker.send(message as object, () => undefined)
  }

  /** Makes the job fail; the first failure counts, and answers that came before are no longer given. */
  fail(error: unknown): void {
    if (this.#failure === undefined) this.#answers.length = 0
    this.#failure ??= { error }
    this.#wake?.()
  }

  /** Ends the worker, whatever it is doing. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      clearTimeout(this.#startLimit)
      this.#signal?.removeEventListener('abort', this.#abort)
      this.#worker.removeAllListeners()
      // Whatever happens to the worker while it is being stopped no longer matters.
      this.#worker.on('error', () => undefined)
      const { pid, exitCode, signalCode } = this.#worker
      if (pid === undefined || exitCode !== null || signalCode !== null) return
      this.ref()
      const ended = new Promise((done) => this.#worker.once('exit', done))
      this.#worker.kill('SIGKILL')
      await ended
    })()
    return this.#closed
  }

  readonly #abort = () => this.fail(this.#signal?.reason)
}

function started(megabytes: number): ChildProcess {
  try {
    return fork(compiledScript('data', 'text-worker.js'), [], {
      ...nodeProgram(),
      serialization: 'advanced',
      execArgv: [`--max-old-space-size=${megabytes}`],
      env: environment(),
      stdio: ['ignore', 'ignore', process.env.LOWRANK_DEBUG ? 'inherit' : 'ignore', 'ipc'],
    })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') throw cause
    throw new UnsupportedError(
      'chat templates and tokenizers run in a child process, which the permissions of Node.js forbid; allow it with --allow-child-process.',
      {},
      { cause },
    )
  }
}

/** Seconds in which a worker under Electron has to start. */
const START_SECONDS = 30

function workerFailed(cause: Error): InternalError {
  return new InternalError(`the text worker failed: ${cause.message}`, {}, { cause })
}

function notStarted(why: string, options?: ErrorOptions): Error {
  const { execPath } = nodeProgram()
  const advice = process.versions.electron
    ? 'This Electron app may have been built without the fuse runAsNode; turn it on, or name a Node.js executable in LOWRANK_NODE.'
    : 'LOWRANK_NODE, if it is set, must name a Node.js executable.'
  const message = `chat templates and tokenizers run in a child process, but ${execPath} did not start as Node.js: ${why}. ${advice}`
  return new UnsupportedError(message, { execPath }, options)
}

/** V8's exit when memory runs out: a signal, or on Windows an exit code. */
function endedEarly(code: number | null, signal: string | null, megabytes: number): Error {
  if (signal === null && (code ?? 0) < 128)
    return new InternalError(`the text worker ended early (${code})`, { code })
  return new FileFormatError(
    `the data, the chat template or the tokenizer needed more than ${megabytes} MiB of memory and was stopped`,
    { megabytes, ended: signal ?? code },
  )
}

/** Options of this process are not the worker's, nor is its token: foreign programs run there. */
function environment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, HF_TOKEN: __, HUGGING_FACE_HUB_TOKEN: ___, ...rest } = nodeProgram().env
  return rest
}
