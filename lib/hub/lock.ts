/**
 * Keeps processes from doing the same work at the same time: a file that one of them created and touches while it
 * works. A lock that nobody has touched for a while belonged to a process that is gone. This saves work and is not what
 * keeps files right: what it guards must bear being done twice.
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
  /** Told once, when another process has it. */
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
    // Several may see it; one of them succeeds in renaming.
    const aside = `${path}.${randomBytes(4).toString('hex')}`
    await rename(path, aside).then(
      () => unlink(aside),
      () => undefined,
    )
  }
  return false
}
