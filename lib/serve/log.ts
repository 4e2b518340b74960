/**
 * The log of the server. Lines in JSON have no keys and no texts of clients. The message of an unexpected error may quote
 * such a text, so these lines have only the place in the code.
 */
import { codeOf } from '../core/system-error.js'
import type { JobState } from './jobs.js'
import type { RequestSeen } from './metrics.js'

export type LogEntry =
  /** A request is over. */
  | ({ event: 'request'; id: string; code: string | null } & RequestSeen)
  /** A job has another status. */
  | { event: 'job'; id: string; status: JobState }
  /** A request or a job met an error of the server. */
  | { event: 'failure'; id: string; error: unknown }

export type Log = (entry: LogEntry) => void

/** A failure for people, with its whole error; undefined for what they see elsewhere. */
export function textOf(entry: LogEntry): string | undefined {
  if (entry.event !== 'failure') return undefined
  const { id, error } = entry
  return `error: ${id}: ${error instanceof Error ? (error.stack ?? error.message) : error}`
}

/** Any line of the log in JSON. */
export function jsonLine(level: 'info' | 'warning' | 'error', entry: object): string {
  return JSON.stringify({ time: new Date().toISOString(), level, ...entry })
}

export function jsonOf(entry: LogEntry): string {
  if (entry.event === 'request') {
    const { event, id, method, route, status, milliseconds, code } = entry
    const level = status >= 500 ? 'error' : 'info'
    return jsonLine(level, { event, id, method, route, status, ms: Math.round(milliseconds), code })
  }
  if (entry.event === 'job') return jsonLine('info', entry)
  const { event, id, error } = entry
  if (!(error instanceof Error)) return jsonLine('error', { event, id, error: typeof error })
  return jsonLine('error', { event, id, error: error.name, code: codeOf(error), at: framesOf(error) })
}

/** The calls that led to an error, without its message, which may have lines that look like calls. */
function framesOf({ stack = '', message }: Error): string[] {
  const begin = stack.indexOf(message)
  if (begin < 0) return []
  const lines = stack.slice(begin + message.length).split('\n')
  return lines.flatMap((line) => /^ +at (.+)$/.exec(line)?.[1] ?? [])
}
