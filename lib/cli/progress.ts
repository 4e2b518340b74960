/**
 * Shows progress on stderr: a changing line on a terminal, an occasional line elsewhere. It never affects
 * results or stdout.
 */

import { formatBytes } from '../core/bytes.js'
import type { DownloadProgress } from '../hub/locate.js'
import { formatDuration } from './format.js'
import { isScreen } from './live-lines.js'
import type { Output } from './output.js'

/** Time between two lines without a terminal. */
export const LINE_MS = 10_000
/** Shorter waits need no message; timers may fire slightly early. */
const QUICK_MS = 1990
/** The same on a terminal, where the message is erased afterward. */
const GLANCE_MS = 990
/** Least time between two redraws; more frequent ones would only flicker. */
export const DRAW_MS = 50

/**
 * Progress of a wait. On a terminal, a line that is updated and finally erased; elsewhere, for named waits, an
 * occasional line once the wait gets long. The elapsed time advances even without updates.
 */
export class StatusLine {
  readonly #output: Output
  readonly #screen: boolean
  readonly #what: string | undefined
  readonly #begin: number
  readonly #timer: NodeJS.Timeout | undefined
  #detail = ''
  /** Progress and time of the last update. */
  #share: { done: number; at: number } | undefined
  #shown = false
  #drawn = Number.NEGATIVE_INFINITY
  #nextLine = QUICK_MS

  /**
   * @param what name of the wait, such as `Loading`
   * @param begin start of the wait, if it began before this line
   */
  constructor(output: Output, what?: string, begin = performance.now()) {
    this.#begin = begin
    this.#output = output
    this.#screen = isScreen(output.stderr)
    this.#what = what
    if (what !== undefined) this.#timer = setInterval(() => this.#tick(), 1000).unref()
  }

  /**
   * @param detail current progress
   * @param share completed share of the wait, from 0 to 1, to estimate the time left
   */
  update(detail: string, share?: number): void {
    this.#detail = detail
    if (share !== undefined && share !== this.#share?.done)
      this.#share = { done: share, at: performance.now() - this.#begin }
    // Print from here too, since work that blocks the event loop also blocks the timer.
    if (!this.#screen) {
      if (this.#what !== undefined) this.#tick()
      return
    }
    const now = performance.now()
    if (now - this.#drawn < DRAW_MS) return
    this.#drawn = now
    this.#draw()
  }

  /** Removes the line when the wait is over. */
  clear(): void {
    clearInterval(this.#timer)
    if (this.#shown) this.#output.live.clear()
    this.#shown = false
  }

  #tick(): void {
    const elapsed = performance.now() - this.#begin
    if (this.#screen) {
      if (elapsed >= GLANCE_MS) this.#draw()
    } else if (elapsed >= this.#nextLine) {
      this.#nextLine = elapsed + LINE_MS
      this.#output.note(this.#text(elapsed))
    }
  }

  #draw(): void {
    const text = this.#text(performance.now() - this.#begin)
    this.#output.live.show(() => [text])
    this.#shown = true
  }

  #text(elapsed: number): string {
    const words = [this.#what, this.#detail].filter(Boolean).join(': ')
    if (this.#what === undefined || elapsed < QUICK_MS) return words
    return `${words}, ${formatDuration(elapsed / 1000)}${this.#left(elapsed)}`
  }

  /** Extrapolates the time left from the completed share; empty if that time has already passed. */
  #left(elapsed: number): string {
    const { done = 0, at = 0 } = this.#share ?? {}
    const left = at / done - elapsed
    return done > 0 && done < 1 && left > 0 ? `, about ${formatDuration(left / 1000)} left` : ''
  }
}

/** Shows a wait while `work` runs; it can report progress on the line. */
export async function shown<T>(
  output: Output,
  what: string,
  work: (line: StatusLine) => Promise<T>,
  begin?: number,
): Promise<T> {
  const line = new StatusLine(output, what, begin)
  // Draw before the work begins, in case it blocks the timer.
  line.update('')
  try {
    return await work(line)
  } finally {
    line.clear()
  }
}

/** Progress of a download, from the first request to the hub, and its summary. */
export class DownloadShown {
  readonly #output: Output
  readonly #line: StatusLine
  readonly #begin = performance.now()
  #latest: DownloadProgress | undefined

  /** @param name name of the download, as the user gave it */
  constructor(output: Output, name: string) {
    this.#output = output
    this.#line = new StatusLine(output, `Fetching ${name}`)
  }

  update(progress: DownloadProgress): void {
    this.#latest = progress
    this.#line.update(this.#detail(progress))
  }

  /** Ends the display. Must always be called, even after errors or if nothing was downloaded. */
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
