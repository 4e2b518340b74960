/**
 * The caller's side of a text worker's job: answers arrive in order, the job always ends, and nothing is left
 * behind.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { FileFormatError, InternalError, SystemError, UnsupportedError } from '../core/errors.js'
import { compiledScript, type NodeProgram, nodeProgram, permitted } from '../core/node-program.js'
import { errnoWords } from '../core/system-error.js'
import { fromPlainError, type TextAnswer, type TextFeed, type TextJob } from './text-jobs.js'

/**
 * The worker is a process rather than a thread, because a template or a tokenizer can make V8 abort its whole
 * process, e.g. with one string or array that is too large, despite a limit on a thread's heap.
 */
export class TextCall {
  readonly #worker: ChildProcess
  readonly #signal: AbortSignal | undefined
  readonly #answers: TextAnswer[] = []
  #failure: { error: unknown } | undefined
  #wake: (() => void) | undefined
  #closed: Promise<void> | undefined
  #started = false
  /** Messages for after the start, so that a process that the job ends is not taken for one that did not start. */
  readonly #waiting: (TextJob | TextFeed)[] = []
  #startLimit: NodeJS.Timeout | undefined

  /**
   * @param megabytes limit of the worker's heap
   * @param signal ends the job; pending answers reject with its reason
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
      this.fail(this.#started ? workerFailed(cause) : notStartedBy(cause))
    })
    // `close` comes after the last answer, which is still delivered.
    this.#worker.on('close', (code, signalName) => {
      const error = this.#started ? endedEarly(code, signalName, megabytes) : endedAtStart(code, signalName)
      this.#failure ??= { error }
      this.#wake?.()
    })
    // An Electron app without its Node.js mode would start itself again, and never answer. Nor may Node.js, where it can
    // start only some of its threads.
    const seconds = startSeconds()
    this.#startLimit = setTimeout(() => {
      this.fail(
        process.versions.electron ? notStarted(unanswered(seconds)) : endedAtStart(null, unanswered(seconds)),
      )
      this.#worker.kill('SIGKILL')
    }, 1000 * seconds).unref()
    this.#send(job)
  }

  #hasStarted(): void {
    this.#started = true
    clearTimeout(this.#startLimit)
    for (const message of this.#waiting.splice(0)) this.#send(message)
  }

  /** The next answer. Rejects if the job has failed or was aborted. */
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

  /** Lets the worker keep this process alive, as it initially does. */
  ref(): void {
    this.#worker.ref()
    // Under Bun, one call covers both.
    this.#worker.channel?.ref?.()
  }

  /** Lets this process end before the job does. */
  unref(): void {
    this.#worker.unref()
    this.#worker.channel?.unref?.()
  }

  send(message: TextFeed): void {
    this.#send(message)
  }

  /** A failed send is ignored, since the exit of the worker is reported anyway. */
  #send(message: TextJob | TextFeed): void {
    if (!this.#started) this.#waiting.push(message)
    else this.#worker.send(message as object, () => undefined)
  }

  /** True once the job has failed, or its process has ended. */
  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** Fails the job. Only the first failure counts, and it discards undelivered answers. */
  fail(error: unknown): void {
    if (this.#failure === undefined) this.#answers.length = 0
    this.#failure ??= { error }
    this.#wake?.()
  }

  /** Kills the worker, whatever it is doing. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      clearTimeout(this.#startLimit)
      this.#signal?.removeEventListener('abort', this.#abort)
      this.#worker.removeAllListeners()
      // Errors while the worker is being stopped no longer matter.
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
  const program = nodeProgram()
  return permitted('chat templates and tokenizers', () =>
    fork(compiledScript('data', 'text-worker.js'), [], {
      ...program,
      serialization: 'advanced',
      execArgv: [...program.execArgv, `--max-old-space-size=${megabytes}`],
      env: environment(program),
      stdio: ['ignore', 'ignore', process.env.LOWRANK_DEBUG ? 'inherit' : 'ignore', 'ipc'],
    }),
  )
}

/** Time limit in seconds for the start of a worker, which usually takes a tenth of one. */
const startSeconds = () => (process.versions.electron ? 30 : 120)
const unanswered = (seconds: number) => `it did not answer within ${seconds} s`

function workerFailed(cause: Error): InternalError {
  return new InternalError(`the text worker failed: ${cause.message}`, {}, { cause })
}

/** The operating system started no process, for want of processes, files, or memory; or LOWRANK_NODE is no program. */
function notStartedBy(cause: Error): Error {
  const { code = '' } = cause as NodeJS.ErrnoException
  if (['ENOENT', 'EACCES', 'ENOEXEC', 'EPERM'].includes(code)) return notStarted(cause.message, { cause })
  return new SystemError(
    `chat templates and tokenizers run in a child process, which could not be started: ${errnoWords(cause)} (${code}).`,
    { reason: code },
    { cause },
  )
}

/** Node.js aborts where it can start no thread, and ends by itself where it is another program. */
function endedAtStart(code: number | null, signal: string | null): Error {
  if (signal === null && (code ?? 0) < 128) return notStarted(`it ended with code ${code}`)
  return new SystemError(
    `chat templates and tokenizers run in a child process, which ended at its start (${signal ?? code}): the system gives it too few threads or too little memory. Raise the limit on processes (\`ulimit -u\`) or on memory (\`ulimit -v\`), or that of the container.`,
    { reason: signal ?? code },
  )
}

function notStarted(why: string, options?: ErrorOptions): Error {
  const { execPath } = nodeProgram()
  const advice = process.versions.electron
    ? 'This Electron app may have been built without the fuse runAsNode; turn it on, or name a Node.js executable in LOWRANK_NODE.'
    : 'LOWRANK_NODE, if it is set, must name a Node.js executable.'
  const message = `chat templates and tokenizers run in a child process, but ${execPath} did not start as Node.js: ${why}. ${advice}`
  return new UnsupportedError(message, { execPath }, options)
}

/** The error for V8's exit when memory runs out: a signal, or an exit code on Windows. */
function endedEarly(code: number | null, signal: string | null, megabytes: number): Error {
  if (signal === null && (code ?? 0) < 128)
    return new InternalError(`the text worker ended early (${code})`, { code })
  return new FileFormatError(
    `the data, the chat template or the tokenizer needed more than ${megabytes} MiB of memory and was stopped`,
    { megabytes, ended: signal ?? code },
  )
}

/** The worker does not inherit Node options or tokens, since it runs untrusted programs. */
function environment({ env }: NodeProgram): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, HF_TOKEN: __, HUGGING_FACE_HUB_TOKEN: ___, ...rest } = env
  return rest
}
