/** One job of a text worker from the side that asked for it: answers in order, an end that always comes, no leftovers. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { FileFormatError, InternalError } from '../errors.js'
import { here } from '../here.cjs'
import { packageRoot } from '../root.js'
import { fromPlainError, type TextAnswer, type TextFeed, type TextJob } from './text-jobs.js'

export class TextCall {
  readonly #worker: Worker
  readonly #signal: AbortSignal | undefined
  readonly #answers: TextAnswer[] = []
  #failure: { error: unknown } | undefined
  #wake: (() => void) | undefined
  #closed: Promise<void> | undefined

  /**
   * @param megabytes limit of the worker's heap
   * @param signal ends the job; answers are then rejected with its reason
   */
  constructor(job: TextJob, megabytes: number, signal?: AbortSignal) {
    signal?.throwIfAborted()
    this.#signal = signal
    this.#worker = new Worker(workerFile(), {
      workerData: job,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: megabytes },
    })
    signal?.addEventListener('abort', this.#abort)
    this.#worker.on('message', (answer: TextAnswer) => {
      if (answer.kind === 'error') this.fail(fromPlainError(answer.error))
      else this.#answers.push(answer)
      this.#wake?.()
    })
    this.#worker.on('error', (error) => this.fail(workerError(error, megabytes)))
    // Its last answer may come in the same turn of the event loop: that one still counts.
    this.#worker.on('exit', (code) => {
      this.#failure ??= { error: new InternalError(`the text worker ended early (${code})`, { code }) }
      this.#wake?.()
    })
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
  }

  /** Lets the process end though the job has not. */
  unref(): void {
    this.#worker.unref()
  }

  send(message: TextFeed): void {
    this.#worker.postMessage(message)
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
      this.#signal?.removeEventListener('abort', this.#abort)
      this.#worker.removeAllListeners()
      // Whatever happens to the worker while it is being stopped no longer matters.
      this.#worker.on('error', () => undefined)
      await this.#worker.terminate()
    })()
    return this.#closed
  }

  readonly #abort = () => this.fail(this.#signal?.reason)
}

function workerError(error: Error, megabytes: number): Error {
  if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new FileFormatError(
      `the data, the chat template or the tokenizer needed more than ${megabytes} MiB of memory and was stopped`,
      { megabytes },
      { cause: error },
    )
  }
  return new InternalError(`the text worker failed: ${error.message}`, {}, { cause: error })
}

/** Beside this file when compiled; sources that are run directly use the compiled one. */
function workerFile(): string {
  const beside = join(here, 'files', 'text-worker.js')
  return existsSync(beside) ? beside : join(packageRoot, 'dist', 'esm', 'files', 'text-worker.js')
}
