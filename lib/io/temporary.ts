/**
 * Temporary names for files and folders that are renamed when finished. A name identifies the writing process, so that
 * leftovers of a killed process can be distinguished from files still being written.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync, rmSync } from 'node:fs'
import { lstat, readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'

/** Files being written by this thread. */
const unfinished = new Set<string>()

/** `.lowrank-<process id>-<scope of the process id>-<random>.tmp` */
const NAME = /^\.lowrank-(\d+)-([0-9a-f]{12})-[0-9a-f]{16}\.tmp$/

/** The engine's files, `.paged-<process>-<number>`, which have a name only while they are being created. */
const PAGED = /^\.paged-(\d+)-\d+$/

/** Files unchanged for this long count as abandoned, whichever machine was writing them. */
const ABANDONED_MS = 24 * 3600 * 1000

const MAKING_MS = 10 * 60 * 1000

/** A unique name. */
export function temporaryName(): string {
  return `.lowrank-${process.pid}-${numbering()}-${randomBytes(8).toString('hex')}.tmp`
}

/** A unique name next to a target, for writing before renaming. */
export function temporaryBeside(path: string): string {
  const name = join(dirname(path), temporaryName())
  unfinished.add(name)
  return name
}

/** Records that the temporary name is no longer in use. */
export function finished(temporary: string): void {
  unfinished.delete(temporary)
}

/** For a process about to exit without waiting for its writes. */
export function removeUnfinished(): void {
  for (const path of unfinished) {
    try {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 })
    } catch {
      // The process is ending anyway.
    }
  }
}

/** Removes incomplete files left in a folder by dead processes, as far as possible. */
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
  // The process id may have been reused, and other threads of this process may be writing.
  if (Number(pid) === process.pid) return changed < Date.now() - process.uptime() * 1000
  return !isRunning(Number(pid))
}

/** Creating such a file takes less than ten minutes, whichever process has its id now. */
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

/** Time of the last write inside, in ms. */
async function lastChange(path: string): Promise<number> {
  const stats = await lstat(path)
  if (!stats.isDirectory()) return stats.mtimeMs
  const within = await Promise.all((await readdir(path)).map((name) => lastChange(join(path, name))))
  return Math.max(stats.mtimeMs, ...within)
}

let known: string | undefined

/**
 * Identifies the scope in which process ids are unique, a boot of the system and a container, since folders may be
 * shared between these.
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
