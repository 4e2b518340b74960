/**
 * Progress on stderr: a bar on a terminal, now and then a line elsewhere. Nothing here changes what is computed or
 * printed on stdout.
 */
import { SingleBar } from 'cli-progress'
import type { DownloadProgress } from '../files/hub.js'
import { formatBytes } from '../memory.js'
import type { EvaluateProgress } from '../train/evaluate.js'
import { digits, formatDuration } from './format.js'
import type { Output } from './output.js'

/** Between two lines where there is no terminal to draw a bar on. */
const LINE_MS = 10_000
/** What takes no longer needs no word; timers come a little early. */
const QUICK_MS = 1990
/** The same on a terminal, where the word goes away again. */
const GLANCE_MS = 990
/** Between two changes of a line; more often only flickers. */
const DRAW_MS = 50

/**
 * What is waited for. On a terminal, a line that changes and goes away in the end; elsewhere, if the wait has a name, a
 * line when it gets long and then now and then. The time ticks even while there is nothing new to tell.
 */
export class StatusLine {
  readonly #stream: NodeJS.WriteStream
  readonly #what: string | undefined
  readonly #begin = performance.now()
  readonly #timer: NodeJS.Timeout | undefined
  #detail = ''
  #shown = false
  #drawn = Number.NEGATIVE_INFINITY
  #nextLine = QUICK_MS

  /** @param what names the wait, such as `Loading` */
  constructor({ stderr }: Output, what?: string) {
    this.#stream = stderr
    this.#what = what
    if (what !== undefined) this.#timer = setInterval(() => this.#tick(), 1000).unref()
  }

  /** @param detail how far it is */
  update(detail: string): void {
    this.#detail = detail
    // Work that leaves the timer no room still tells how far it is.
    if (!this.#stream.isTTY) {
      if (this.#what !== undefined) this.#tick()
      return
    }
    const now = performance.now()
    if (now - this.#drawn < DRAW_MS) return
    this.#drawn = now
    this.#draw()
  }

  /** Takes the line away; the wait is over. */
  clear(): void {
    clearInterval(this.#timer)
    if (this.#shown) this.#stream.write('\r\u001b[K')
    this.#shown = false
  }

  #tick(): void {
    const elapsed = performance.now() - this.#begin
    if (this.#stream.isTTY) {
      if (elapsed >= GLANCE_MS) this.#draw()
    } else if (elapsed >= this.#nextLine) {
      this.#nextLine = elapsed + LINE_MS
      this.#stream.write(`${this.#text(elapsed)}\n`)
    }
  }

  #draw(): void {
    const text = this.#text(performance.now() - this.#begin)
    this.#stream.write(`\r${text.slice(0, (this.#stream.columns || 80) - 1)}\u001b[K`)
    this.#shown = true
  }

  #text(elapsed: number): string {
    const words = [this.#what, this.#detail].filter(Boolean).join(': ')
    return this.#what !== undefined && elapsed >= QUICK_MS
      ? `${words}, ${formatDuration(elapsed / 1000)}`
      : words
  }
}

/** Shows a wait while the work lasts, which may tell how far it is. */
export async function shown<T>(
  output: Output,
  what: string,
  work: (line: StatusLine) => Promise<T>,
): Promise<T> {
  const line = new StatusLine(output, what)
  // Work that leaves the timer no room is named before it begins.
  line.update('')
  try {
    return await work(line)
  } finally {
    line.clear()
  }
}

/** A download, from the first question to the hub on, and what it came to. */
export class DownloadShown {
  readonly #output: Output
  readonly #line: StatusLine
  readonly #begin = performance.now()
  #latest: DownloadProgress | undefined

  /** @param name what is downloaded, as it was named */
  constructor(output: Output, name: string) {
    this.#output = output
    this.#line = new StatusLine(output, `Fetching ${name}`)
  }

  update(progress: DownloadProgress): void {
    this.#latest = progress
    this.#line.update(this.#detail(progress))
  }

  /** To be called when it is over, whatever its end, and also when there was nothing to download. */
  end(): void {
    this.#line.clear()
    const latest = this.#latest
    this.#latest = undefined
    if (!latest || latest.receivedBytes === 0) return
    const { receivedBytes, repo } = latest
    this.#output.note(
      `Downloaded ${formatBytes(receivedBytes)} of ${repo} in ${formatDuration(this.#seconds())}`,
    )
  }

  #detail({ doneBytes, totalBytes, receivedBytes, totalFiles, waiting }: DownloadProgress): string {
    if (waiting !== undefined) return waiting
    const files = `${totalFiles} ${totalFiles === 1 ? 'file' : 'files'}`
    const done = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} in ${files}`
    if (receivedBytes === 0) return done
    const rate = receivedBytes / this.#seconds()
    const left = formatDuration((totalBytes - doneBytes) / rate)
    return `${done}, ${formatBytes(Math.round(rate))}/s, ${left} left`
  }

  #seconds(): number {
    return Math.max((performance.now() - this.#begin) / 1000, 1e-3)
  }
}

/** What a training step shows. */
export interface StepShown {
  step: number
  totalSteps: number
  /** null for a round of private training that drew nobody. */
  loss: number | null
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
  /** The wait for the first step, while it lasts. */
  #first: StatusLine | undefined
  #timer: NodeJS.Timeout | undefined
  /** When there was something to show. */
  #latest = 0
  /** What is waited for. */
  #next = ''

  /**
   * @param plannedBytes what the plan says
   * @param nodeBytes what the process held before, which the plan knows nothing of
   */
  constructor(output: Output, plannedBytes: number, nodeBytes: number) {
    this.#output = output
    this.#plannedBytes = plannedBytes
    this.#nodeBytes = nodeBytes
  }

  /** The steps begin; from now on there is no long silence until `stop`. */
  begin(): void {
    this.#first = new StatusLine(this.#output, 'First step')
    this.#timer = setInterval(() => this.#tick(), 1000).unref()
  }

  update(shown: StepShown): void {
    this.#first?.clear()
    this.#first = undefined
    this.#latest = performance.now()
    this.#next = shown.step < shown.totalSteps ? `step ${shown.step + 1}` : 'finishing'
    if (this.#output.stderr.isTTY) this.#draw(shown)
    else this.#line(shown)
  }

  /** How far the evaluation is that comes between two steps. */
  evaluating({ batches, totalBatches }: EvaluateProgress): void {
    const text = `evaluating ${batches}/${totalBatches}`
    this.#latest = performance.now()
    this.#bar?.update({ left: text })
    const now = performance.now()
    if (this.#output.stderr.isTTY || now - this.#lastLine < LINE_MS) return
    this.#lastLine = now
    this.#output.note(text)
  }

  /** A line that stays, above the bar. */
  note(text: string): void {
    if (this.#bar || (this.#first && this.#output.stderr.isTTY)) this.#output.stderr.write('\r\u001b[K')
    this.#output.note(text)
    this.#bar?.render()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#first?.clear()
    this.#first = undefined
    this.#bar?.stop()
    this.#bar = undefined
  }

  /** Says of a step, or of a save, that takes long how long it has been. */
  #tick(): void {
    const now = performance.now()
    if (this.#first || now - this.#latest < GLANCE_MS) return
    const text = `${this.#next}, ${formatDuration((now - this.#latest) / 1000)}`
    if (this.#bar) this.#bar.update({ left: text })
    else if (!this.#output.stderr.isTTY && now - this.#lastLine >= LINE_MS) {
      this.#lastLine = now
      this.#output.note(text)
    }
  }

  #draw(shown: StepShown): void {
    const values = {
      loss: lossText(shown.loss),
      speed: digits(shown.tokensPerSecond),
      left: `${formatDuration(shown.secondsLeft)} left`,
      memory: this.#memory(shown),
    }
    if (this.#bar) {
      this.#bar.update(shown.step, values)
      return
    }
    this.#bar = new SingleBar({
      format: '{bar} {value}/{total} | loss {loss} | {speed} tokens/s | {left} | {memory}',
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
      `step ${step}/${totalSteps}: loss ${lossText(loss)}, ${digits(tokensPerSecond)} tokens/s, ` +
        `${formatDuration(secondsLeft)} left, ${this.#memory(shown)}`,
    )
  }

  #memory({ residentBytes }: StepShown): string {
    const planned = `plan ${formatBytes(this.#plannedBytes)} + Node ${formatBytes(this.#nodeBytes)}`
    return `memory ${formatBytes(residentBytes)} (${planned})`
  }
}

function lossText(loss: number | null): string {
  return loss === null ? 'none' : loss.toFixed(4)
}
