/**
 * Moves and removes files that may be open or memory-mapped, which Windows forbids: a move is retried for about a
 * second; then the file in use is renamed away, which Windows allows.
 */
import { rename, rm, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isInUse } from '../core/system.js'
import { temporaryName } from './temporary.js'

const FIRST_WAIT_MS = 10
const LAST_WAIT_MS = 640

/** For tests: another platform, and a replacement for `rename`. */
export interface MoveOn {
  platform?: NodeJS.Platform
  move?: typeof rename
}

/** Moves a file or folder to an unused name, or a file over another one that is not in use. */
export async function moved(
  from: string,
  to: string,
  { platform, move = rename }: MoveOn = {},
): Promise<void> {
  for (let wait = FIRST_WAIT_MS; ; wait *= 2) {
    try {
      return await move(from, to)
    } catch (error) {
      if (!isInUse(error, platform) || wait > LAST_WAIT_MS) throw error
    }
    await sleep(wait)
  }
}

/** Moves a file over another one, even if that is in use. */
export async function movedOver(from: string, to: string, on: MoveOn = {}): Promise<void> {
  const { platform, move = rename } = on
  try {
    await moved(from, to, on)
  } catch (error) {
    if (!isInUse(error, platform)) throw error
    const there = await stat(to).catch(() => undefined)
    if (there?.isDirectory()) throw Object.assign(error as Error, { code: 'EISDIR' })
    if (!there?.isFile()) throw error
    const aside = await setAside(to, move)
    await move(from, to).catch(async (cause) => {
      await move(aside, to)
      throw cause
    })
    await unlink(aside).catch(() => undefined)
  }
}

/** Removes a file if it exists, even if it is in use. */
export async function removed(path: string, { platform, move = rename }: MoveOn = {}): Promise<void> {
  try {
    await rm(path, { force: true })
  } catch (error) {
    if (!isInUse(error, platform)) throw error
    await unlink(await setAside(path, move)).catch(() => undefined)
  }
}

/** Renames a file away while others keep it open; it is removed once this process has ended, if not before. */
async function setAside(path: string, move: typeof rename): Promise<string> {
  const aside = join(dirname(path), temporaryName())
  await move(path, aside)
  return aside
}
