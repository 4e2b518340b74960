/**
 * Names under which files and folders are written before they are renamed. A name says which process writes, so that
 * what a killed one has left can be told from what another one is writing.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync, rmSync } from 'node:fs'
import { lstat, readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'

/** Files that this thread is writing. */
const unfinished = new Set<string>()

/** `.lowrank-<process>-<where that number counts>-<random>.tmp` */
const NAME = /^\.lowrank-(\d+)-([0-9a-f]{12})-[0-9a-f]{16}\.tmp$/

/** The engine's files, `.paged-<process>-<number>`, which have a name only while they are made. */
const PAGED = /^\.paged-(\d+)-\d+$/

/** After so long without a change nobody writes it, wherever that may have been. */
const ABANDONED_MS = 24 * 3600 * 1000

const MAKING_MS = 10 * 60 * 1000

/** A name that nobody else takes. */
export function temporaryName(): string {
  return `.lowrank-${process.pid}-${numbering()}-${randomBytes(8).toString('hex')}.tmp`
}

/** A name beside a target that nobody else takes, for what is written there before it is renamed. */
export function temporaryBeside(path: string): string {
  const name = join(dirname(path), temporaryName())
  unfinished.add(name)
  return name
}

/** Says that nothing has the temporary name any more. */
export function finished(temporary: string): void {
  unfinished.delete(temporary)
}

/** For a process that is about to end without waiting for what it writes. */
export function removeUnfinished(): void {
  for (const path of unfinished) {
    try {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 })
    } catch {
      // It is the end of the process in any case.
    }
  }
}

/** Removes what processes that are gone have left half written in a folder. What cannot be removed stays. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    if (await isLeftover(path, name)) await rm(path, { recursive: true, force: true }).catch(() => undefined)
  }
}

async function isLeftover(path: string, name: string): Promise<boolean> {
  const paged = PAGED.exec(name)?.[1]
  if (paged !== undefined) return isLeftoverOfEngine(path, Number(paged))
  const [, pid, where] = NAME.exec(name) ?? []
  if (pid === undefined || unfinished.has(path)) return false
  const changed = await lastChange(path).catch(() => Date.now())
  if (where !== numbering()) return Date.now() - changed > ABANDONED_MS
  // Another process may have had this one's number; other threads of this one may be writing.
  if (Number(pid) === process.pid) return changed < Date.now() - process.uptime() * 1000
  return !isRunning(Number(pid))
}

/** Whoever makes such a file has done so after ten minutes, whatever process has its number now. */
async function isLeftoverOfEngine(path: string, pid: number): Promise<boolean> {
  const changed = await lastChange(path).catch(() => Date.now())
  return Date.now() - changed > MAKING_MS || (pid !== process.pid && !isRunning(pid))
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Time of the last write within, ms. */
async function lastChange(path: string): Promise<number> {
  const stats = await lstat(path)
  if (!stats.isDirectory()) return stats.mtimeMs
  const within = await Promise.all((await readdir(path)).map((name) => lastChange(join(path, name))))
  return Math.max(stats.mtimeMs, ...within)
}

let known: string | undefined

/**
 * Identifies the scope in which a process id is unique: a boot of the system, and a container.
 * Folders are shared among those.
 */
function numbering(): string {
  const attempt = (read: () => string) => {
    try {
      return read()
    } catch {
      return ''
    }
  }
  known ??= createHash('sha256')
    .update(hostname())
    .update(attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')))
    .update(attempt(() => readlinkSync('/proc/self/ns/pid')))
    .digest('hex')
    .slice(0, 12)
  return known
}
