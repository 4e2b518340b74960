/**
 * Reads the event log of a run as it grows. A position identifies the file and the bytes already read, so that a reader
 * notices when a resumed run has truncated or replaced the log. Only complete lines are read.
 */
import { type FileHandle, open, stat } from 'node:fs/promises'

/** Maximum bytes per read; a longer log takes several. */
const MOST_BYTES = 1 << 22

const NEWLINE = 10

/** Position in a log. */
export interface LogPosition {
  /** Identifies the file that the bytes were read from; empty before it exists. */
  generation: string
  /** Number of bytes read, up to the end of a line. */
  bytes: number
}

/** Lines added after a position. */
export interface NewLines {
  /** True if the position is in another file or beyond the end, so that earlier data is invalid. */
  reset: boolean
  lines: readonly string[]
  position: LogPosition
}

export const LOG_START: LogPosition = { generation: '', bytes: 0 }

/** A position as an event id, which clients send back. */
export function positionId({ generation, bytes }: LogPosition): string {
  return `${generation}:${bytes}`
}

/** Parses an event id; the start of the log for anything else. */
export function positionOf(id: string | undefined): LogPosition {
  const match = /^([0-9a-z-]+):(\d{1,15})$/.exec(id ?? '')
  return match ? { generation: match[1] as string, bytes: Number(match[2]) } : LOG_START
}

/** Reads the complete lines after a position. A missing log has none. */
export async function readLog(path: string, position: LogPosition): Promise<NewLines> {
  const unchanged = { reset: false, lines: [], position }
  const found = await stat(path, { bigint: true }).catch(() => undefined)
  if (found === undefined) return unchanged
  if (nameOf(found) === position.generation && Number(found.size) === position.bytes) return unchanged
  const file = await open(path, 'r').catch(() => undefined)
  if (file === undefined) return unchanged
  try {
    return await linesAfter(file, position)
  } finally {
    await file.close()
  }
}

async function linesAfter(file: FileHandle, position: LogPosition): Promise<NewLines> {
  const found = await file.stat({ bigint: true })
  const size = Number(found.size)
  const generation = nameOf(found)
  const goesOn = generation === position.generation && size >= position.bytes
  const from = goesOn ? position.bytes : 0
  const buffer = Buffer.allocUnsafe(Math.min(size - from, MOST_BYTES))
  const { bytesRead } = await file.read(buffer, 0, buffer.length, from)
  const read = buffer.subarray(0, bytesRead)
  const end = read.lastIndexOf(NEWLINE) + 1
  const lines = read.toString('utf8', 0, end).split('\n').filter(Boolean)
  const reset = !goesOn && position.generation !== ''
  return { reset, lines, position: { generation, bytes: from + end } }
}

/** An inode number may be reused, but not with the same birth time. */
function nameOf({ ino, birthtimeNs }: { ino: bigint; birthtimeNs: bigint }): string {
  return `${ino.toString(36)}-${birthtimeNs.toString(36)}`
}
