/**
 * Writes files atomically: the bytes go to a temporary file next to the target, are synced, and renamed over it. On any
 * failure, the temporary file is removed and the target stays unchanged.
 */

import { type FileHandle, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { WriteError } from '../core/errors.js'
import { errnoOf, errnoWords } from '../core/system-error.js'
import { movedOver } from './move.js'
import { syncFile } from './sync.js'
import { finished, temporaryBeside } from './temporary.js'

/** Appends bytes to the file being written. */
export type Append = (bytes: Uint8Array) => Promise<void>

/** The kernel and Node reject single writes of 2 GiB and more. */
const LARGEST_WRITE = 1 << 30

/** Where a file in a folder that exists is written, these mean something more precise. */
const REASONS: Record<string, string> = {
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  ENOENT: 'the folder does not exist; create it first',
  EISDIR: 'a folder stands in its place',
}

/** Permissions of a file readable only by its owner; by default the umask applies. */
export const PRIVATE = 0o600

/**
 * Writes a file of `bytesNeeded` bytes in chunks, so that they need not be in memory at once.
 * @param fill appends all the bytes in order; an error it throws is rethrown unchanged
 * @throws WriteError when the file system refuses; its details contain path, bytesNeeded, and reason (an errno name).
 */
export async function writeFileByPieces(
  path: string,
  bytesNeeded: number,
  fill: (append: Append) => Promise<void>,
  mode = 0o666,
): Promise<void> {
  const refused = (cause: unknown) => writeError(path, bytesNeeded, cause)
  const temporary = temporaryBeside(path)
  const handle = await open(temporary, 'wx', mode).catch((cause) => {
    finished(temporary)
    throw refused(cause)
  })
  try {
    try {
      await fill((bytes) => appendAll(handle, bytes).catch((cause) => Promise.reject(refused(cause))))
      await syncFile(handle).catch((cause) => Promise.reject(refused(cause)))
    } finally {
      await handle.close()
    }
    await movedOver(temporary, path).catch((cause) => Promise.reject(refused(cause)))
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw error
  } finally {
    finished(temporary)
  }
  await syncFolder(dirname(path))
}

/**
 * Writes a small file.
 * @throws WriteError as `writeFileByPieces` does.
 */
export async function writeFileWhole(
  path: string,
  contents: string | Uint8Array,
  mode?: number,
): Promise<void> {
  const bytes = typeof contents === 'string' ? new TextEncoder().encode(contents) : contents
  await writeFileByPieces(path, bytes.length, (append) => append(bytes), mode)
}

async function appendAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, LARGEST_WRITE))
    done += bytesWritten
  }
}

/** Makes the rename durable if folders can be synced (not on Windows and some network file systems). */
export async function syncFolder(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r')
    try {
      await syncFile(handle)
    } finally {
      await handle.close()
    }
  } catch {
    // The file is complete and in place; only its durability across an immediate power loss is not guaranteed.
  }
}

function writeError(path: string, bytesNeeded: number, cause: unknown): WriteError {
  const reason = errnoOf(cause)
  const words = REASONS[reason] ?? errnoWords(cause)
  return new WriteError(
    `cannot write ${path} (${bytesNeeded} bytes): ${words} (${reason}); no partial file was left`,
    { path, bytesNeeded, reason },
    { cause },
  )
}
