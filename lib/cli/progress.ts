/**
 * Progress on stderr: a bar on a terminal, now and then a line elsewhere. Nothing here changes what is computed or
 * printed on stdout.
 */
import { SingleBar } from 'cli-progress'
import { formatBytes } from '../memory.js'
import { digits, formatDuration } from './format.js'
import type { Output } from './output.js'

/** Between two lines where there is no terminal to draw a bar on. */
const LINE_MS = 10_000

/** A line that changes while something is loaded, read or written; elsewhere than on a terminal, a line now and then. */
export class StatusLine {
  readonly #stream: NodeJS.WriteStream
  #shown = false
  #lastLine = performance.now()

  constructor({ stderr }: Output) {
    this.#stream = stderr
  }

  update(text: string): void {
    if (!this.#stream.isTTY) {
      if (performance.now() - this.#lastLine < LINE_MS) return
      this.#lastLine = performance.now()
      this.#stream.write(`${text}\n`)
      return
    }
    this.#stream.write(`\r${text.slice(0, this.#stream.columns - 1)}\u001b[K`)
    this.#shown = true
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K')
    this.#shown = false
  }
}

/** What a training step shows. */
export interface StepShown {
  step: number
  totalSteps: number
  loss: number
  tokensPerSecond: number
  secondsLeft: number
  /** Resident bytes now. */
  residentBytes: number
}

export class TrainProgress {
  readonly #output: Output
  readonly #plannedBytes: number
  readonly #nodeBytes: number
  #bar: SingleBar | undefined
  #lastLine = Number.NEGATIVE_INFINITY

  /**
   * @param plannedBytes what the plan says
   * @param nodeBytes what the process held before, which the plan knows nothing of
   */
  constructor(output: Output, plannedBytes: number, nodeBytes: number) {
    this.#output = output
    this.#plannedBytes = plannedBytes
    this.#nodeBytes = nodeBytes
  }

  update(shown: StepShown): void {
    if (this.#output.stderr.isTTY) this.#draw(shown)
    else this.#line(shown)
  }

  /** A line that stays, above the bar. */
  note(text: string): void {
    if (this.#bar) this.#output.stderr.write('\r\u001b[K')
    this.#output.note(text)
    this.#bar?.render()
  }

  stop(): void {
    this.#bar?.stop()
    this.#bar = undefined
  }

  #draw(shown: StepShown): void {
    const values = {
      loss: shown.loss.toFixed(4),
      speed: digits(shown.tokensPerSecond),
      left: formatDuration(shown.secondsLeft),
      memory: this.#memory(shown),
    }
    if (this.#bar) {
      this.#bar.update(shown.step, values)
      return
    }
    this.#bar = new SingleBar({
      format: '{bar} {value}/{total} | loss {loss} | {speed} tokens/s | {left} left | {memory}',
      barsize: 20,
      stream: this.#output.stderr,
      hideCursor: true,
      // Ctrl-C is ours: it saves a checkpoint first.
      gracefulExit: false,
    })
    this.#bar.start(shown.totalSteps, shown.step, values)
  }

  #line(shown: StepShown): void {
    const now = performance.now()
    if (now - this.#lastLine < LINE_MS && shown.step < shown.totalSteps) return
    this.#lastLine = now
    const { step, totalSteps, loss, tokensPerSecond, secondsLeft } = shown
    this.#output.note(
      `step ${step}/${totalSteps}: loss ${loss.toFixed(4)}, ${digits(tokensPerSecond)} tokens/s, ` +
        `${formatDuration(secondsLeft)} left, ${this.#memory(shown)}`,
    )
  }

  #memory({ residentBytes }: StepShown): string {
    const planned = `plan ${formatBytes(this.#plannedBytes)} + Node ${formatBytes(this.#nodeBytes)}`
    return `memory ${formatBytes(residentBytes)} (${planned})`
  }
}
