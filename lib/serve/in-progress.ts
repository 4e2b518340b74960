/** Answers in progress, which a server that stops waits for, and ends when they take too long. */
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError } from './errors.js'

/** Status of a request whose client did not wait for one. */
export const GONE = 499
/** How long answers that are ended may take to tell their clients, in milliseconds. */
const TELL_MS = 1000

export class InProgress {
  readonly #answers = new Set<AbortController>()
  #emptied: () => void = () => undefined

  /** Begins an answer. Its signal aborts when its client has gone, so that nobody's answer is computed. */
  begin(outgoing: Pick<ServerResponse, 'once' | 'writableFinished'>): AbortSignal {
    const answer = new AbortController()
    this.#answers.add(answer)
    outgoing.once('close', () => {
      this.#answers.delete(answer)
      if (!outgoing.writableFinished) answer.abort(new ApiError(GONE, 'The client has gone.'))
      if (this.#answers.size === 0) this.#emptied()
    })
    return answer.signal
  }

  /** Waits until all answers have ended, and ends them after so many milliseconds. */
  async drained(most: number): Promise<void> {
    if (this.#answers.size === 0) return
    const emptied = new Promise<void>((resolve) => {
      this.#emptied = resolve
    })
    const timer = new AbortController()
    const late = sleep(most, undefined, { signal: timer.signal }).then(async () => {
      const error = new ApiError(
        ...([503, 'The server stopped before the answer was whole.', 'overloaded', null] as const),
        { 'retry-after': '5' },
      )
      for (const answer of this.#answers) answer.abort(error)
      await sleep(TELL_MS, undefined, { signal: timer.signal })
    })
    await Promise.race([emptied, late])
    timer.abort()
    late.catch(() => undefined)
  }
}
