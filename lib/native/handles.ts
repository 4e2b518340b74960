/**
 * Lifetimes of native objects: pending work keeps an object alive, and use after disposal throws an error that names
 * it. Turns of training and answers on the engine.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { DisposedError } from '../core/errors.js'
import type { Job } from './addon.js'
import { translatedAsync } from './errors.js'

/** Awaits a job. Aborting cancels it and rejects with the signal's reason. */
export async function settled<T>(start: () => Job<T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted()
  const job = start()
  const stop = () => job.cancel()
  signal?.addEventListener('abort', stop)
  try {
    return await job.promise
  } catch (error) {
    throw signal?.aborted ? signal.reason : error
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/** A mutex: runs one piece of work at a time, in the order requested. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }
}

/** Counts the uses of an object and frees it once, after the last use. */
export class Lifetime {
  #ended = false
  #freed: Promise<void> | undefined
  readonly #pending = new Set<Promise<unknown>>()

  /** @param what names the object in messages, e.g. `Adapter of model.gguf` */
  constructor(
    readonly what: string,
    readonly advice: string,
  ) {}

  /** @throws {DisposedError} after `dispose` was called */
  check(): void {
    if (this.#ended)
      throw new DisposedError(`${this.what} was disposed and cannot be used; ${this.advice}.`, {
        what: this.what,
      })
  }

  /** Runs work that needs the object; disposal waits until it has settled. */
  async use<T>(work: () => Promise<T>): Promise<T> {
    this.check()
    const promise = translatedAsync(work)
    this.#pending.add(promise)
    try {
      return await promise
    } finally {
      this.#pending.delete(promise)
    }
  }

  /** Waits for pending work, then frees the object; repeated calls wait for the same result. */
  dispose(free: () => void | Promise<void>): Promise<void> {
    this.#ended = true
    this.#freed ??= Promise.allSettled(this.#pending).then(free)
    return this.#freed
  }
}

// Shares of the engine, which runs one call at a time for the whole process: while texts are being answered, training lets
// them have as much time as it takes itself.

/** Answers that take no step for so long do not need the engine. */
const IDLE_MS = 10
const POLL_MS = 1

/** Calls that answer now, and the time of the last one's end. */
let answering = 0
let answered = Number.NEGATIVE_INFINITY
/** When answers have had as much time as the last call of training. */
let turnEnds = Number.NEGATIVE_INFINITY

/** Runs a step of answers. */
export async function answeringStep<T>(step: () => Promise<T>): Promise<T> {
  answering++
  try {
    return await step()
  } finally {
    answering--
    answered = performance.now()
  }
}

const isTurnOfAnswers = (now: number) => now < turnEnds && (answering > 0 || now - answered < IDLE_MS)

/** Runs a pass of training after the turn of answers; begins it at once if there are none. */
export function trainingPass<T>(pass: () => Promise<T>): Promise<T> {
  return isTurnOfAnswers(performance.now()) ? afterAnswers().then(() => timed(pass)) : timed(pass)
}

async function afterAnswers(): Promise<void> {
  while (isTurnOfAnswers(performance.now())) await sleep(POLL_MS)
}

function timed<T>(pass: () => Promise<T>): Promise<T> {
  const begin = performance.now()
  return pass().finally(() => {
    const now = performance.now()
    turnEnds = now + (now - begin)
  })
}
