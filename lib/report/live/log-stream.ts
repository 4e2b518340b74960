/**
 * Streams the log of a run to one client as server-sent events: `lines` with all new lines, whose id is the position
 * after them; `reset` when the log was truncated or replaced; `status` when the run becomes reachable or unreachable.
 */
import type { ServerResponse } from 'node:http'
import { type LogPosition, positionId, positionOf, readLog } from './log.js'
import type { RunStatus } from './protocol.js'

/** Polls without news after which a comment is sent to keep the connection open. */
const IDLE_LOOKS = 60

export class LogStream {
  readonly #response: ServerResponse
  #position: LogPosition
  #told = ''
  #idle = 0
  #looking: Promise<void> | undefined

  /** @param id position of the data that the client already has */
  constructor(response: ServerResponse, id: string | undefined) {
    this.#response = response
    this.#position = positionOf(id)
    // Browsers reconnect after a second.
    response.write('retry: 1000\n\n')
  }

  /** Sends new lines. A slow client gets them at a later poll. */
  async look(log: string | undefined, status: RunStatus): Promise<void> {
    if (this.#looking !== undefined || this.#response.writableNeedDrain || this.#response.writableEnded)
      return
    this.#looking = this.#look(log, status)
    try {
      await this.#looking
    } finally {
      this.#looking = undefined
    }
  }

  /** Sends the last lines, also those that a look under way has missed, and ends. */
  async end(log: string | undefined, status: RunStatus): Promise<void> {
    await this.#looking
    await this.look(log, status)
    this.#response.end()
  }

  async #look(log: string | undefined, status: RunStatus): Promise<void> {
    this.#tell(status)
    if (log !== undefined) await this.#send(log)
    if (++this.#idle >= IDLE_LOOKS) this.#write(': still here\n\n')
  }

  async #send(log: string): Promise<void> {
    for (;;) {
      const { reset, lines, position } = await readLog(log, this.#position)
      this.#position = position
      if (reset) this.#write('event: reset\ndata: {}\n\n')
      if (lines.length === 0) return
      const data = lines.map((line) => `data: ${line}\n`).join('')
      this.#write(`id: ${positionId(position)}\nevent: lines\n${data}\n`)
    }
  }

  #tell(status: RunStatus): void {
    const text = JSON.stringify(status)
    if (text === this.#told) return
    this.#told = text
    this.#write(`event: status\ndata: ${text}\n\n`)
  }

  #write(text: string): void {
    this.#idle = 0
    this.#response.write(text)
  }
}
