/**
 * Allows one run at a time in an output folder. The operating system holds the lock and releases it when the
 * process ends for any reason, so a killed run blocks nobody. The file names the holder and is touched
 * regularly for other hosts on a network share, where the system's lock may not apply.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  futimesSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BusyError, WriteError } from '../../core/errors.js'
import { errnoOf, errnoWords } from '../../core/system-error.js'
import { bootId } from '../../io/boot-id.js'
import { addon } from '../../native/addon.js'
import { translated } from '../../native/errors.js'

const NAME = '.lowrank.lock'
const TOUCH_MS = 5_000
/** How long a holder that this system cannot see counts as alive after its last touch. */
const SILENT_MS = 30_000
/** The file may vanish, or be open in another process, for a moment. */
const ATTEMPTS = 5
const PAUSE_MS = 20

interface Holder {
  pid: number
  host: string
  /** Boot id: system locks apply to all processes of this boot. */
  boot: string
}

/** A lock that this process holds. */
export interface RunLock {
  release(): void
}

/**
 * @param folder must exist
 * @throws {BusyError} naming the process and host of the holder; WriteError when the file cannot be created
 */
export async function lockRun(folder: string): Promise<RunLock> {
  const path = join(folder, NAME)
  for (let attempt = 1; ; attempt++) {
    const descriptor = opened(path)
    try {
      const lock = translated(() => addon().lockFile(descriptor))
      // A run that ended in the meantime has removed the file opened here.
      const current = isCurrent(descriptor, path)
      const holder = current ? holderOf(descriptor) : undefined
      const busy = lock === 'held' || (holder !== undefined && isAlive(holder, lock, descriptor))
      if (current && !busy) return take(descriptor, path)
      if (attempt === ATTEMPTS) throw refusal(folder, holder, lock, descriptor)
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
    closeSync(descriptor)
    await sleep(PAUSE_MS)
  }
}

/** @throws {BusyError} when a run is active in the folder. Changes nothing; a missing folder is free. */
export async function checkRunLock(folder: string): Promise<void> {
  if (statSync(join(folder, NAME), { throwIfNoEntry: false })) (await lockRun(folder)).release()
}

/** Tells whether a run is active in a folder, on this machine or another one. Changes nothing. */
export function runAtWork(folder: string): 'here' | 'elsewhere' | undefined {
  let descriptor: number
  try {
    descriptor = openSync(join(folder, NAME), constants.O_RDONLY)
  } catch {
    return undefined
  }
  try {
    const holder = holderOf(descriptor)
    if (holder === undefined) return undefined
    // Containers have their own process ids and host name.
    const alive = holder.host === hostname() ? processExists(holder.pid) : silence(descriptor) < SILENT_MS
    if (!alive) return undefined
    return isLocal(holder) ? 'here' : 'elsewhere'
  } finally {
    closeSync(descriptor)
  }
}

function processExists(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // The process exists but belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function opened(path: string): number {
  try {
    // Windows cannot truncate a file opened for appending.
    return openSync(path, constants.O_RDWR | constants.O_CREAT, 0o666)
  } catch (cause) {
    throw cannotLock(path, cause)
  }
}

function cannotLock(path: string, cause: unknown): WriteError {
  const reason = errnoOf(cause)
  return new WriteError(
    `cannot lock the output folder: ${path} cannot be written: ${errnoWords(cause)} (${reason}). Choose another output_dir, or mend this one.`,
    { path, reason },
    { cause },
  )
}

function isCurrent(descriptor: number, path: string): boolean {
  const [own, there] = [fstatSync(descriptor), statSync(path, { throwIfNoEntry: false })]
  return there !== undefined && own.ino === there.ino && own.dev === there.dev
}

function take(descriptor: number, path: string): RunLock {
  const own: Holder = { pid: process.pid, host: hostname(), boot: bootId() }
  try {
    ftruncateSync(descriptor)
    writeSync(descriptor, `${JSON.stringify(own)}\n`, 0)
  } catch (cause) {
    rmSync(path, { force: true })
    throw cannotLock(path, cause)
  }
  const touch = setInterval(() => {
    const now = new Date()
    try {
      futimesSync(descriptor, now, now)
    } catch {
      // Only other hosts use the time, and the system's lock is still held.
    }
  }, TOUCH_MS)
  touch.unref()
  return {
    release() {
      clearInterval(touch)
      try {
        if (isCurrent(descriptor, path)) unlinkSync(path)
      } catch {
        // A leftover lock file blocks nobody.
      } finally {
        closeSync(descriptor)
      }
    },
  }
}

/** Undefined if the file has no holder; a process that has just locked it may not have written it yet. */
function holderOf(descriptor: number): Holder | undefined {
  const bytes = Buffer.alloc(1024)
  const text = bytes.toString('utf8', 0, readSync(descriptor, bytes, 0, bytes.length, 0))
  try {
    const { pid, host, boot } = JSON.parse(text) as Partial<Holder>
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host, boot: String(boot) } : undefined
  } catch {
    return undefined
  }
}

/** True if a holder may still be running although its lock could be taken. */
function isAlive(holder: Holder, lock: 'taken' | 'unsupported', descriptor: number): boolean {
  return !(isLocal(holder) && lock === 'taken') && silence(descriptor) < SILENT_MS
}

function isLocal({ host, boot }: Holder): boolean {
  return host === hostname() || (boot === bootId() && boot !== '')
}

function silence(descriptor: number): number {
  return Math.abs(Date.now() - fstatSync(descriptor).mtimeMs)
}

function refusal(folder: string, holder: Holder | undefined, lock: string, descriptor: number): BusyError {
  const who = holder ? `process ${holder.pid} on ${holder.host}` : 'another process'
  const seconds = Math.round(silence(descriptor) / 1000)
  const until =
    lock === 'held'
      ? ''
      : ` (last seen ${seconds} s ago; if it was killed, the folder is free after ${SILENT_MS / 1000} s)`
  return new BusyError(
    `another run is in progress in ${folder}: ${who}${until}. Wait for it, stop it, or choose another output_dir.`,
    { path: folder, pid: holder?.pid ?? null, host: holder?.host ?? null },
  )
}
