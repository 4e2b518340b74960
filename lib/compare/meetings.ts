/**
 * Meetings of ranks that compute on their own. Ranks wait for each other at a meeting, so that all learn at the same
 * time that one was asked to stop or has failed. Meetings are short, and go on while the ranks work.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortedError } from '../core/errors.js'
import type { Processes } from '../train/processes/processes.js'

/** Pause between two meetings, which is how long a rank may wait for its next task. */
const PAUSE_MS = 100
const AT = 'meeting of a compare'

/** The message of a rank to the others at a meeting. */
export interface Turn<Said> {
  state: 'working' | 'done' | 'failed'
  said: Said
}

/** Exchange of messages between ranks while they work. */
export interface Talk<Said> {
  say(): Said
  /** @param turns of all ranks, in rank order */
  hear(turns: readonly Turn<Said>[]): void
}

const SILENCE: Talk<null> = { say: () => null, hear: () => undefined }

/** Meetings of several ranks. All ranks must make the same calls. */
export class Meetings {
  readonly #ranks: Processes
  readonly #asked: AbortSignal
  readonly #stop = new AbortController()

  /** @param asked asks this rank to stop */
  constructor(ranks: Processes, asked: AbortSignal | undefined) {
    this.#ranks = ranks
    this.#asked = ranks.joint(asked) as AbortSignal
    ranks.meetsAside = true
  }

  /** Stops the work of this rank, once any rank was asked to stop or has failed. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /**
   * Meets until the work of all ranks is done.
   * @param work must end soon after `signal` aborts, with its reason
   * @returns the result of this rank's work
   * @throws the error of a rank that failed, or the reason of a stop, on all ranks
   */
  async during<T>(work: Promise<T>): Promise<T>
  async during<T, Said>(work: Promise<T>, talk: Talk<Said>): Promise<T>
  async during<T>(work: Promise<T>, talk: Talk<unknown> = SILENCE): Promise<T> {
    let state: Turn<unknown>['state'] = 'working'
    let failure: unknown
    const ended = work.then(
      () => {
        state = 'done'
      },
      (error: unknown) => {
        state = 'failed'
        failure = error
      },
    )
    const stop = async (reason: unknown) => {
      this.#stop.abort(reason)
      await ended
    }
    for (;;) {
      const turns = await this.#meet({ state, said: talk.say() }, stop)
      // Tasks that have just ended count before the stop.
      talk.hear(turns)
      if (this.#asked.aborted) {
        await stop(this.#asked.reason)
        throw this.#asked.reason
      }
      if (turns.some((turn) => turn.state === 'failed')) break
      if (turns.every((turn) => turn.state === 'done')) return work
      await sleep(PAUSE_MS)
    }
    const reason = new AbortedError('another rank has failed.')
    await stop(reason)
    if (failure !== undefined && !(failure instanceof AbortedError)) throw failure
    // The error of the other rank arrives as a failure of this meeting.
    await this.#ranks.meet(AT, { state, said: null })
    throw reason
  }

  async #meet<Said>(turn: Turn<Said>, stop: (reason: unknown) => Promise<void>): Promise<Turn<Said>[]> {
    try {
      return await this.#ranks.meet(AT, turn)
    } catch (error) {
      await stop(error)
      throw error
    }
  }
}
