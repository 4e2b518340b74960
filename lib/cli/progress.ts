/**
 * Waits on stderr: a line that changes on a terminal, now and then a line elsewhere. Nothing here changes what is
 * computed or printed on stdout.
 */

import { formatBytes } from '../core/bytes.js'
import type { DownloadProgress } from '../hub/locate.js'
import { formatDuration } from './format.js'
import { isScreen } from './live-lines.js'
import type { Output } from './output.js'

/** Between two lines where there is no terminal to draw a bar on. */
export const LINE_MS = 10_000
/** Shorter waits need no message; timers fire slightly early. */
const QUICK_MS = 1990
/** The same on a terminal, where the word goes away again. */
const GLANCE_MS = 990
/** Between two changes of a line; more often only flickers. */
export const DRAW_MS = 50

/**
 * Progress of a wait. On a terminal, a line that is updated and finally erased; elsewhere, for named waits, a
 * line once it gets long and then now and then. The time advances even without news.
 */
export class StatusLine {
  readonly #output: Output
  readonly #screen: boolean
  readonly #what: string | undefined
  readonly #begin: number
  readonly #timer: NodeJS.Timeout | undefined
  #detail = ''
  /** Progress at the time of the last message. */
  #share: { done: number; at: number } | undefined
  #shown = false
  #drawn = Number.NEGATIVE_INFINITY
  #nextLine = QUICK_MS

  /**
   * @param what names the wait, such as `Loading`
   * @param begin when it began, where this line is not its first
   */
  constructor(output: Output, what?: string, begin = performance.now()) {
    this.#begin = begin
    this.#output = output
    this.#screen = isScreen(output.stderr)
    this.#what = what
    if (what !== undefined) this.#timer = setInterval(() => this.#tick(), 1000).unref()
  }

  /**
   * @param detail how far it is
   * @param share what of the wait is over, from 0 to 1, for the time left
   */
  update(detail: string, share?: number): void {
    this.#detail = detail
    if (share !== undefined && share !== this.#share?.done)
      this.#share = { done: share, at: performance.now() - this.#begin }
    // Work that leaves the timer no room still tells how far it is.
    if (!this.#screen) {
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

  /** As if the rest went on like what is over; a part that takes longer than that has no time left to tell. */
  #left(elapsed: number): string {
    const { done = 0, at = 0 } = this.#share ?? {}
    const left = at / done - elapsed
    return done > 0 && done < 1 && left > 0 ? `, about ${formatDuration(left / 1000)} left` : ''
  }
}

/** Shows a wait while the work lasts, which may tell how far it is. */
export async function shown<T>(
  output: Output,
  what: string,
  work: (line: StatusLine) => Promise<T>,
  begin?: number,
): Promise<T> {
  const line = new StatusLine(output, what, begin)
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
