/** The events of a job: JSON lines that are appended, of which a torn last one is dropped on start. */
import { appendFile, readFile, truncate } from 'node:fs/promises'
import { seconds } from './clock.js'
import { newId } from './ids.js'

/** An event as clients see it. */
export interface JobEvent {
  object: 'fine_tuning.job.event'
  id: string
  created_at: number
  level: 'info' | 'warn' | 'error'
  message: string
  type: 'message' | 'metrics'
  data: Record<string, unknown> | null
}

export class EventLog {
  readonly #path: string
  readonly #events: JobEvent[]
  readonly #waiting = new Set<() => void>()
  #writing: Promise<void> = Promise.resolve()

  private constructor(path: string, events: JobEvent[]) {
    this.#path = path
    this.#events = events
  }

  static async open(path: string): Promise<EventLog> {
    const text = await readFile(path, 'utf8').catch(() => '')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    if (whole.length < text.length) await truncate(path, Buffer.byteLength(whole))
    return new EventLog(path, whole.split('\n').flatMap(eventIn))
  }

  /** Newest first. */
  get all(): readonly JobEvent[] {
    return [...this.#events].reverse()
  }

  /** The last step of which an event tells this; 0 without any. */
  lastStepWith(key: string): number {
    const last = this.#events.findLast(({ data }) => data !== null && key in data)
    return typeof last?.data?.step === 'number' ? last.data.step : 0
  }

  /** Oldest first; grows. */
  get inOrder(): readonly JobEvent[] {
    return this.#events
  }

  /** Waits for an event, a call of `wake`, or an abort. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiting.add(done)
      signal.addEventListener('abort', done, { once: true })
      if (signal.aborted) done()
    })
  }

  /** Lets those look again that wait for a change. */
  wake(): void {
    for (const done of [...this.#waiting]) done()
  }

  /** True if an event has this message. */
  has(message: string): boolean {
    return this.#events.some((event) => event.message === message)
  }

  message(message: string, level: JobEvent['level'] = 'info'): Promise<void> {
    return this.#append({ level, message, type: 'message', data: null })
  }

  metrics(message: string, data: Record<string, unknown>): Promise<void> {
    return this.#append({ level: 'info', message, type: 'metrics', data })
  }

  #append(event: Pick<JobEvent, 'level' | 'message' | 'type' | 'data'>): Promise<void> {
    const created_at = seconds()
    const whole: JobEvent = { object: 'fine_tuning.job.event', id: newId('ftevent-'), created_at, ...event }
    this.#events.push(whole)
    this.wake()
    // An event that a full disk refuses is lost, and later events are still written.
    this.#writing = this.#writing
      .catch(() => undefined)
      .then(() => appendFile(this.#path, `${JSON.stringify(whole)}\n`, { mode: 0o600 }))
    return this.#writing
  }
}

/** The event of a line; none for a line that a full disk has cut. */
function eventIn(line: string): JobEvent[] {
  try {
    return [JSON.parse(line) as JobEvent]
  } catch {
    return []
  }
}
