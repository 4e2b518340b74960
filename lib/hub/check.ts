/**
 * Verifies the hashes of files in the Hub cache. A file is read once; a record then stores its size and modification
 * time, so that later checks are cheap.
 */
import { createHash } from 'node:crypto'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { writeFileWhole } from '../io/atomic.js'
import { makeFolder } from '../io/atomic-folder.js'
import { cleanUp } from '../io/cleanup.js'

const PIECE = 1 << 20

/** A hash of streamed bytes. Defined here because programs may compile without Node's types. */
export interface ContentHash {
  update(bytes: Uint8Array): unknown
  digest(encoding: 'hex'): string
}

/** Expected size and hash of the content: git's blob hash (SHA-1) or, for large files, SHA-256. */
export interface Expected {
  size: number
  hash: string
}

/** Creates the hash for a file: SHA-256 for large files, git's blob hash for others. */
export function contentHash({ hash, size }: Expected): ContentHash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

/** Reads a file and compares its content with the expected hash. */
export async function hasContent(path: string, expected: Expected): Promise<boolean> {
  const handle = await open(path)
  try {
    if ((await handle.stat()).size !== expected.size) return false
    const hash = contentHash(expected)
    const buffer = new Uint8Array(PIECE)
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, PIECE)
      if (bytesRead === 0) return hash.digest('hex') === expected.hash
      hash.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await handle.close()
  }
}

/** Records of verified files, one file per record. */
export class CheckedFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** True if a file exists and is valid: unchanged since it was verified, or verified now by reading it. */
  async isRight(path: string, expected: Expected): Promise<boolean> {
    const stats = await stat(path).catch(() => undefined)
    if (!stats?.isFile() || stats.size !== expected.size) return false
    if ((await this.#recorded(expected)) === stats.mtimeMs) return true
    if (await hasContent(path, expected)) {
      await this.record(path, expected)
      return true
    }
    process.emitWarning(
      `${path} of the cache is damaged: its content does not match the hash ${expected.hash}. It is not used.`,
      { code: 'LOWRANK_HUB_CACHE' },
    )
    return false
  }

  /** Records that a file is valid. If the cache is not writable, the file is verified on every use. */
  async record(path: string, expected: Expected): Promise<void> {
    try {
      const { mtimeMs } = await stat(path)
      const record = this.#record(expected)
      await makeFolder(dirname(record))
      await writeFileWhole(record, JSON.stringify({ mtimeMs }))
    } catch {
      // Only costs the time to verify the file again.
    }
  }

  /** Deletes a record, so that the file is read again even if its size and time have not changed. */
  async forget(expected: Expected): Promise<void> {
    const record = this.#record(expected)
    await cleanUp(record, () => rm(record, { force: true }))
  }

  async #recorded(expected: Expected): Promise<number | undefined> {
    try {
      return (JSON.parse(await readFile(this.#record(expected), 'utf8')) as { mtimeMs?: number }).mtimeMs
    } catch {
      return undefined
    }
  }

  #record({ hash }: Expected): string {
    return join(this.#folder, basename(hash))
  }
}
