/**
 * Prevents processes from doing the same work at the same time, using a file that one process creates and touches while
 * it works. A lock not touched for a while was left by a process that has died. This only avoids duplicate work; it
 * does not guarantee correctness, so the guarded work must be safe to do twice.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rename, stat, unlink, utimes } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cannotWrite } from './cache.js'

const TOUCH_MS = 2000
const ABANDONED_MS = 12_000
const LOOK_MS = 200

export interface LockOptions {
  signal?: AbortSignal | undefined
  /** Called once if another process holds the lock. */
  onWait(): void
}

export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true }).catch((cause) => {
    throw cannotWrite(path, cause)
  })
  let told = false
  while (!(await taken(path))) {
    if (!told) options.onWait()
    told = true
    await sleep(LOOK_MS, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined)
    options.signal?.throwIfAborted()
  }
  const touch = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => undefined)
  }, TOUCH_MS)
  touch.unref()
  try {
    return await work()
  } finally {
    clearInterval(touch)
    await unlink(path).catch(() => undefined)
  }
}

async function taken(path: string): Promise<boolean> {
  try {
    await (await open(path, 'wx')).close()
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cannotWrite(path, cause)
  }
  const stats = await stat(path).catch(() => undefined)
  if (stats !== undefined && Date.now() - stats.mtimeMs > ABANDONED_MS) {
    // Several processes may see a stale lock; only one succeeds in renaming it.
    const aside = `${path}.${randomBytes(4).toString('hex')}`
    await rename(path, aside).then(
      () => unlink(aside),
      () => undefined,
    )
  }
  return false
}
