/**
 * Ctrl-C: the first one asks the work to end well, the second ends the process at once. A SIGTERM does the same, and so
 * does a SIGHUP, which is what a terminal sends that is closed; only that it may send several.
 */
import { endBySignal, stoppingSignals } from '../core/system.js'
import { removeUnfinished } from '../io/temporary.js'
import { InterruptedError } from './errors.js'
import type { Output } from './output.js'

/** Message of a command that was stopped. */
export const STOPPED = 'stopped on request.'

export class Interruption {
  readonly #controller = new AbortController()
  readonly #listener: (name: NodeJS.Signals) => void
  /** Message about the effect of the first signal. */
  promise: string

  constructor(output: Output, promise: string) {
    this.promise = promise
    this.#listener = (name) => {
      if (this.#controller.signal.aborted) {
        if (name === 'SIGHUP') return
        output.live.clear()
        removeUnfinished()
        process.removeAllListeners(name)
        // The default action of the signal: nothing gets in its way, and the shell sees what happened.
        endBySignal(name)
        return
      }
      // The terminal has written ^C: at lines that go away with it, or into text.
      output.note(`${output.live.shown ? '' : '\n'}${this.promise} Press Ctrl-C again to quit at once.`)
      this.#controller.abort(new InterruptedError(STOPPED))
    }
    for (const name of stoppingSignals()) process.on(name, this.#listener)
  }

  /** Its reason is an InterruptedError. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Signals do again what they do by default. */
  dispose(): void {
    for (const name of stoppingSignals()) process.off(name, this.#listener)
  }
}
