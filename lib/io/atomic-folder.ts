/**
 * Writes folders atomically: files go into a temporary folder next to the target, which is then renamed. If the target
 * exists, the finished files are moved into it one by one, each replacing its predecessor, or the folder is replaced as
 * a whole.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { WriteError } from '../core/errors.js'
import { isInUse } from '../core/system.js'
import { errnoWords } from '../core/system-error.js'
import { syncFolder } from './atomic.js'
import { moved, movedOver } from './move.js'
import { finished, temporaryBeside, temporaryName } from './temporary.js'

/** Suffix of a folder while it is being replaced; a process killed during the replacement leaves it under that name. */
export const REPLACED = '.lowrank-replaced'

/**
 * Writes a folder.
 * @param write writes the files to the given path; an error it throws is rethrown unchanged and nothing is left behind
 * @param options.replace replace an existing folder instead of adding files to it
 * @throws WriteError when the file system refuses
 */
export async function writeFolder(
  target: string,
  write: (folder: string) => Promise<void>,
  { replace = false }: { replace?: boolean } = {},
): Promise<void> {
  const place = resolve(target)
  const temporary = temporaryBeside(place)
  await makeFolder(temporary).catch((error) => {
    finished(temporary)
    throw inPlace(error, temporary, place)
  })
  try {
    await write(temporary)
    await syncFolder(temporary)
    await attempt(place, async () => {
      if (!(await exists(place))) await movedWhereNothingIs(temporary, place)
      else if (replace) await replaceFolder(temporary, place)
      else await moveFiles(temporary, place)
    })
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined)
    throw inPlace(error, temporary, place)
  } finally {
    finished(temporary)
  }
  await syncFolder(dirname(place))
}

/** Replaces the temporary path in an error message with the intended path. */
function inPlace(error: unknown, temporary: string, place: string): unknown {
  if (!(error instanceof WriteError) || typeof error.details.path !== 'string') return error
  const details = { ...error.details, path: error.details.path.replace(temporary, () => place) }
  const message = error.message.replace(temporary, () => place)
  return new WriteError(message, details, { cause: error.cause })
}

/**
 * Creates a folder and its parents.
 * @param mode permissions of the folder itself, if it is created
 */
export async function makeFolder(path: string, mode?: number): Promise<void> {
  await attempt(path, () => makeFolders(resolve(path), mode))
}

/** Node's recursive mkdir loops forever in places such as /proc, where no folder can be created. */
async function makeFolders(path: string, mode?: number): Promise<void> {
  if (await exists(path)) return
  const above = dirname(path)
  if (above !== path) await makeFolders(above)
  await mkdir(path, { mode }).catch(async (cause) => {
    // Another process may have created it first.
    if (!(await exists(path))) throw cause
  })
}

/**
 * Checks that a folder can be written to or created; leaves nothing behind.
 * @throws WriteError otherwise
 */
export async function checkFolder(path: string): Promise<void> {
  let there = resolve(path)
  // A drive that does not exist has no parent.
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there)
  await attempt(path, async () => {
    const probe = join(there, temporaryName())
    await mkdir(probe)
    await rmdir(probe)
  })
}

/** A folder cannot be renamed over another, so at every moment one of the two is complete under a recognizable name. */
async function replaceFolder(from: string, to: string): Promise<void> {
  const earlier = to + REPLACED
  await discard(earlier)
  await moved(to, earlier)
  try {
    await moved(from, to)
  } catch (error) {
    await moved(earlier, to)
    throw error
  }
  await syncFolder(dirname(to))
  await discard(earlier)
}

/** Removes a replaced folder. On Windows, a folder with open files remains for now. */
async function discard(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true }).catch((error) => {
    if (!isInUse(error)) throw error
  })
}

/** Actual location of a folder: its path, or the backup next to it if a process was killed while replacing it. */
export function placeOf(path: string): string {
  return !existsSync(path) && existsSync(path + REPLACED) ? path + REPLACED : path
}

/** Restores folders whose replacement was interrupted, and removes leftover replaced ones. */
export async function restoreReplaced(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.endsWith(REPLACED)) continue
    const path = join(folder, name)
    const place = path.slice(0, -REPLACED.length)
    if (existsSync(place)) await discard(path)
    else await attempt(place, () => moved(path, place))
  }
}

async function moveFiles(from: string, to: string): Promise<void> {
  for (const entry of (await readdir(from, { withFileTypes: true })).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (!entry.isDirectory()) await movedOver(source, target)
    else {
      await mkdir(target, { recursive: true })
      await moveFiles(source, target)
    }
  }
  await rmdir(from)
  await syncFolder(to)
}

/** Windows would replace a file with the folder. */
async function movedWhereNothingIs(from: string, to: string): Promise<void> {
  if (existsSync(to)) throw Object.assign(new Error('a file is there'), { code: 'EEXIST' })
  await moved(from, to)
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}

const NO_FOLDER = 'a file stands in its place or above it; choose another place'
const NOT_ALLOWED = 'this user may not write there; choose another place'
const REASONS: Record<string, string> = {
  EEXIST: NO_FOLDER,
  ENOTDIR: NO_FOLDER,
  ENOENT: 'no folders can be made there; choose another place',
  EACCES: NOT_ALLOWED,
  EPERM: NOT_ALLOWED,
  EROFS: 'the file system is read-only; choose another place',
}

/** True if the existing part of a path ends in something other than a folder. */
async function hasFileAbove(path: string): Promise<boolean> {
  let there = resolve(path)
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there)
  return existsSync(there) && !(await exists(there))
}

async function attempt(path: string, action: () => Promise<unknown>): Promise<void> {
  try {
    await action()
  } catch (cause) {
    const { code = 'unknown error' } = cause as NodeJS.ErrnoException
    // Windows reports a file in the path as a missing folder.
    const reason = code === 'ENOENT' && (await hasFileAbove(path)) ? 'ENOTDIR' : code
    throw new WriteError(
      `cannot write the folder ${path}: ${REASONS[reason] ?? errnoWords(cause)}`,
      { path, reason },
      { cause },
    )
  }
}
