/**
 * Control of a run from outside its loop: pause, resume, stop, and questions to the current adapter. Steps and
 * questions take turns, so a question is answered between two steps and does not change the run's results.
 */
import type { AdapterState, BaseModel } from '../../base/base.js'
import { callback, checkedOptions } from '../../core/arguments.js'
import { ConfigError } from '../../core/errors.js'
import { Turns } from '../../native/handles.js'
import {
  checkedPrompt,
  type GenerateControl,
  type GenerateOptions,
  type Generation,
  generateText,
  type Prompt,
  textSchema,
} from '../answers/generate.js'
import type { PromptOptions } from '../rows/prompting.js'
import type { PausedEvent, ResumedEvent } from '../steps/events.js'

/** Options of `TrainingRun.ask`. */
export interface AskOptions extends Partial<GenerateOptions>, GenerateControl, PromptOptions {
  /** Called with each piece of the answer as it is generated. */
  onText?: (text: string) => void
}

/** An answer of the adapter in its state after some step. */
export interface RunAnswer extends Generation {
  /** Optimizer steps made before the answer. */
  step: number
}

const askSchema = textSchema.extend({ onText: callback<(text: string) => void>().optional() })

/** The model, adapter, and run position used to answer questions. */
export interface Asked {
  base: BaseModel
  adapter: AdapterState
  state: { readonly step: number }
  /** Runs native work while the adapter is kept alive. */
  use: <T>(work: () => Promise<T>) => Promise<T>
}

export class RunControl {
  readonly #turns = new Turns()
  readonly #stop = new AbortController()
  #pausing = false
  #resumed: (() => void) | undefined
  #asked: Asked | undefined
  readonly #over = new AbortController()
  /** Aborts when the caller's signal does, and on `stop`. */
  readonly signal: AbortSignal

  /** @param signal the caller's abort signal */
  constructor(signal: AbortSignal | undefined) {
    this.signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal
  }

  pause(): void {
    if (!this.#over.signal.aborted) this.#pausing = true
  }

  resume(): void {
    this.#pausing = false
    this.#resumed?.()
  }

  stop(): void {
    if (!this.#stop.signal.aborted) this.#stop.abort(new StoppedRun())
  }

  /** True from `pause` to `resume`, also while the current step finishes. */
  get paused(): boolean {
    return this.#pausing
  }

  /** True if `reason`, which ended the run, came from `stop`. */
  isStop(reason: unknown): boolean {
    return reason instanceof StoppedRun && this.#stop.signal.aborted
  }

  /** Called when the steps begin; questions are answered from now on. */
  begin(asked: Asked): void {
    this.#asked = asked
  }

  /** Ends the run; pending questions reject. */
  end(): void {
    this.#pausing = false
    this.#over.abort(
      new ConfigError('ask(): the run is over; ask with model.generate(), or load the adapter first.'),
    )
  }

  /** Runs a step, or another change of the adapter, while no question is being answered. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(work)
  }

  /** Waits while the run is paused, yielding events. A stop or an abort ends the wait. */
  async *waits(step: number): AsyncGenerator<PausedEvent | ResumedEvent, void, void> {
    while (this.#pausing && !this.signal.aborted) {
      yield { event: 'paused', step }
      await this.#resumption()
      if (!this.signal.aborted) yield { event: 'resumed', step }
    }
  }

  async ask(prompt: unknown, options: unknown): Promise<RunAnswer> {
    const { onText, signal: given, ...rest } = checkedOptions(askSchema, options, 'ask()')
    const text = checkedPrompt(prompt, 'ask()')
    if (this.#asked === undefined && !this.#over.signal.aborted)
      throw new ConfigError('ask(): the run has not begun; ask after its first event.')
    const signal = AbortSignal.any([...(given ? [given] : []), this.#over.signal, this.signal])
    signal.throwIfAborted()
    return this.#turns.run(async () => {
      signal.throwIfAborted()
      return this.#answer(this.#asked as Asked, text, { ...rest, signal }, onText)
    })
  }

  async #answer(
    { base, adapter, state, use }: Asked,
    prompt: Prompt,
    options: GenerateOptions & GenerateControl & PromptOptions,
    onText: AskOptions['onText'],
  ): Promise<RunAnswer> {
    const { step } = state
    const acting = [{ state: adapter, weight: 1, rank: null }]
    return use(async () => {
      const parts = generateText(base, acting, prompt, options)
      for (;;) {
        const { done, value } = await parts.next()
        if (done) return { ...value, step }
        onText?.(value)
      }
    })
  }

  async #resumption(): Promise<void> {
    const { signal } = this
    if (!this.#pausing || signal.aborted) return
    await new Promise<void>((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#resumed = wake
      signal.addEventListener('abort', wake)
    })
  }
}

/** Abort reason when `stop` ends the run. It does not leave the run. */
class StoppedRun extends Error {
  override message = 'the run was stopped; ask with model.generate(), or resume the run first.'
}
