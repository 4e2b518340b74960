/** Sends a text worker the rows and bytes that only this thread can read: a program's iterables and standard input. */
import { DataError, LowrankError } from '../core/errors.js'
import { type RowSource, rowsOf } from './row-source.js'
import type { TextCall } from './text-call.js'
import type { TextFeed } from './text-jobs.js'

/** Most rows sent together, and the longest time that the first of them waits for more. */
const BATCH_ROWS = 64
const BATCH_MILLISECONDS = 20

export class RowFeed {
  readonly #messages: AsyncGenerator<TextFeed, void, void>
  readonly #release: () => void
  #started = false

  private constructor(messages: AsyncGenerator<TextFeed, void, void>, release: () => void) {
    this.#messages = messages
    this.#release = release
  }

  static ofRows(rows: RowSource, name: string): RowFeed {
    return new RowFeed(batched(rows, name), () => undefined)
  }

  /** Reads standard input once the worker requests it. */
  static ofStdin(): RowFeed {
    // Destroyed at the end, because an open pipe would keep the program alive until the writer ends.
    return new RowFeed(stdinBytes(), () => process.stdin.destroy())
  }

  /** Answers a `want` message. An error of the source fails the call. */
  async answer(call: TextCall): Promise<void> {
    this.#started = true
    try {
      const { done, value } = await this.#messages.next()
      call.send(done ? { kind: 'end' } : value)
    } catch (error) {
      call.fail(error)
    }
  }

  /** Releases the source, even while it waits for its next row. */
  close(): void {
    if (!this.#started) return
    this.#release()
    void this.#messages.return?.().catch(() => undefined)
  }
}

async function* batched(rows: RowSource, name: string): AsyncGenerator<TextFeed, void, void> {
  const source = named(rows, name)
  let count = 0
  let coming = source.next()
  try {
    for (let ended = false; !ended; ) {
      const batch: unknown[] = []
      const late = new Promise<undefined>((done) => {
        const begin = () => setTimeout(done, BATCH_MILLISECONDS, undefined).unref()
        coming.then(begin, () => undefined)
      })
      while (batch.length < BATCH_ROWS) {
        const next = await (batch.length === 0 ? coming : Promise.race([coming, late]))
        ended = next?.done === true
        if (next === undefined || ended) break
        batch.push(cloneable(next.value, name, ++count))
        coming = source.next()
        coming.catch(() => undefined)
      }
      if (batch.length > 0) yield { kind: 'rows', rows: batch }
    }
  } finally {
    await source.return()
  }
}

/** The rows; if the source fails, the error says after which row. */
async function* named(rows: RowSource, name: string): AsyncGenerator<unknown, void, void> {
  let count = 0
  try {
    for await (const row of rowsOf(rows)) {
      yield row
      count++
    }
  } catch (cause) {
    if (cause instanceof LowrankError) throw cause
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new DataError(
      `${name}, row ${count + 1}: the source of the rows failed: ${message}`,
      { path: name, row: count + 1 },
      { cause },
    )
  }
}

/** A copy that can be sent to the worker, which requires plain data. */
function cloneable(row: unknown, name: string, line: number): unknown {
  try {
    return structuredClone(row)
  } catch (cause) {
    throw new DataError(
      `${name}, row ${line}: the row is not plain data: ${(cause as Error).message}`,
      { path: name, row: line },
      { cause },
    )
  }
}

async function* stdinBytes(): AsyncGenerator<TextFeed, void, void> {
  for await (const bytes of process.stdin as AsyncIterable<Buffer>) yield { kind: 'bytes', bytes }
}
