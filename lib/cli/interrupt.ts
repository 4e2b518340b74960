/** Ctrl-C: the first one (or a SIGTERM) asks the work to end well, the second ends the process at once. */
import { removeUnfinished } from '../files/temporary.js'
import { InterruptedError } from './errors.js'
import type { Output } from './output.js'

export class Interruption {
  readonly #controller = new AbortController()
  readonly #listener: (name: NodeJS.Signals) => void

  /** @param promise says what happens now, for the person who pressed the keys */
  constructor(output: Output, promise: string) {
    this.#listener = (name) => {
      if (this.#controller.signal.aborted) {
        output.live.clear()
        removeUnfinished()
        process.removeAllListeners(name)
        // The default action of the signal: nothing gets in its way, and the shell sees what happened.
        process.kill(process.pid, name)
        return
      }
      // The terminal has written ^C: at lines that go away with it, or into text.
      output.note(`${output.live.shown ? '' : '\n'}${promise} Press Ctrl-C again to quit at once.`)
      this.#controller.abort(new InterruptedError('stopped on request.'))
    }
    process.on('SIGINT', this.#listener)
    process.on('SIGTERM', this.#listener)
  }

  /** Its reason is an InterruptedError. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Signals do again what they do by default. */
  dispose(): void {
    process.off('SIGINT', this.#listener)
    process.off('SIGTERM', this.#listener)
  }
}
