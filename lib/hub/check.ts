/**
 * Checks that a file of the hub's cache has its hash. The file is read once; then a record stores the
 * size and time at which it was right, so that later checks are cheap.
 */
import { createHash } from 'node:crypto'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { writeFileWhole } from '../io/atomic.js'
import { makeFolder } from '../io/atomic-folder.js'
import { cleanUp } from '../io/cleanup.js'

const PIECE = 1 << 20

/** A hash of bytes that come in pieces. Not by Node's types: programs may compile without them. */
export interface ContentHash {
  update(bytes: Uint8Array): unknown
  digest(encoding: 'hex'): string
}

/** Expected size and hash of the content: git's blob hash (SHA-1) or, for large files, SHA-256. */
export interface Expected {
  size: number
  hash: string
}

/** Takes the content of a file; large files are known by their SHA-256, others as git knows them. */
export function contentHash({ hash, size }: Expected): ContentHash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

/** Reads a file and says whether its content is right. */
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

/** Records of verified files, in a folder with one file each. */
export class CheckedFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** True if a file exists and is right: unchanged since it was verified, or verified now by reading it. */
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

  /** Notes that a file is right now. A cache that cannot be written is checked each time. */
  async record(path: string, expected: Expected): Promise<void> {
    try {
      const { mtimeMs } = await stat(path)
      const record = this.#record(expected)
      await makeFolder(dirname(record))
      await writeFileWhole(record, JSON.stringify({ mtimeMs }))
    } catch {
      // Nothing is lost but the time to look again.
    }
  }

  /** Takes back what was noted, so that a file whose size and time are as they were is read again. */
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
