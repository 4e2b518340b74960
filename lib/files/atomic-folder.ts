/**
 * Folders appear whole or not at all: their files are written into a temporary folder beside the target, which is then
 * renamed. Into a folder that exists already the finished files are moved one by one, each replacing its predecessor.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { WriteError } from '../errors.js'
import { syncFolder } from './atomic.js'

/**
 * @param write puts the files into the path it is given; an error it throws passes through unchanged and
 * nothing is left behind
 * @throws WriteError when the file system refuses
 */
export async function writeFolder(target: string, write: (folder: string) => Promise<void>): Promise<void> {
  const place = resolve(target)
  const temporary = join(dirname(place), `.lowrank-${randomBytes(8).toString('hex')}.tmp`)
  await makeFolder(temporary)
  try {
    await write(temporary)
    await syncFolder(temporary)
    await attempt(place, async () => {
      if (await exists(place)) await moveFiles(temporary, place)
      else await rename(temporary, place)
    })
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw inPlace(error, temporary, place)
  }
  await syncFolder(dirname(place))
}

/** The temporary name tells nobody anything: the message has the name that the file was to have. */
function inPlace(error: unknown, temporary: string, place: string): unknown {
  if (!(error instanceof WriteError) || typeof error.details.path !== 'string') return error
  const details = { ...error.details, path: error.details.path.replace(temporary, () => place) }
  const message = error.message.replace(temporary, () => place)
  return new WriteError(message, details, { cause: error.cause })
}

/** Creates a folder and those above it. */
export async function makeFolder(path: string): Promise<void> {
  await attempt(path, () => mkdir(path, { recursive: true }))
}

async function moveFiles(from: string, to: string): Promise<void> {
  for (const entry of (await readdir(from, { withFileTypes: true })).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (!entry.isDirectory()) await rename(source, target)
    else {
      await mkdir(target, { recursive: true })
      await moveFiles(source, target)
    }
  }
  await rmdir(from)
  await syncFolder(to)
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}

async function attempt(path: string, action: () => Promise<unknown>): Promise<void> {
  try {
    await action()
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new WriteError(
      `cannot write the folder ${path}: ${(cause as Error).message}`,
      { path, reason },
      { cause },
    )
  }
}
