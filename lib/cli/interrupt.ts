/**
 * Handles Ctrl-C: the first one asks the work to finish cleanly, the second ends the process at once. SIGTERM
 * and SIGQUIT act the same. So does SIGHUP, sent by a terminal that is closed, but repeated ones are ignored, since a
 * terminal may send several.
 */
import { endBySignal, stoppingSignals } from '../core/system.js'
import { removeUnfinished } from '../io/temporary.js'
import { InterruptedError } from './errors.js'
import type { Output } from './output.js'

/** Message of a command stopped by a signal. */
export const STOPPED = 'stopped on request.'

export class Interruption {
  readonly #controller = new AbortController()
  readonly #listener: (name: NodeJS.Signals) => void
  /** Message that says what the first signal does. */
  promise: string

  constructor(output: Output, promise: string) {
    this.promise = promise
    this.#listener = (name) => {
      if (this.#controller.signal.aborted) {
        if (name === 'SIGHUP') return
        output.live.clear()
        removeUnfinished()
        process.removeAllListeners(name)
        // Use the signal's default action, so that nothing can prevent the exit and the shell sees its cause.
        endBySignal(name)
        return
      }
      // The terminal has printed ^C, either on live lines, which are erased with it, or after text, which needs
      // a line break.
      output.note(`${output.live.shown ? '' : '\n'}${this.promise} Press Ctrl-C again to quit at once.`)
      this.#controller.abort(new InterruptedError(STOPPED))
    }
    for (const name of stoppingSignals()) process.on(name, this.#listener)
  }

  /** Aborts with an InterruptedError as its reason. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Restores the default actions of the signals. */
  dispose(): void {
    for (const name of stoppingSignals()) process.off(name, this.#listener)
  }
}
