/**
 * One repository in the cache shared with Hugging Face's Python library: `models--owner--name` with `blobs` named by
 * hash, `snapshots/<commit>` with links to them, and `refs` that record the commit of each branch. Files stored here
 * are found by Python and vice versa. lowrank adds only a separate folder with the file listing of each commit.
 */
import {
  copyFile,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  unlink,
} from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import * as z from 'zod'
import { HubError, WriteError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { writeFileWhole } from '../io/atomic.js'
import { readText } from '../io/input.js'
import { movedOver } from '../io/move.js'
import { temporaryName } from '../io/temporary.js'
import { CheckedFiles } from './check.js'
import { isCommit } from './name.js'

/** A file of a commit, as listed by the Hub. */
export interface HubFile {
  /** Path in the repository, with forward slashes. */
  path: string
  size: number
  /** Content hash: git's blob hash (SHA-1), or SHA-256 for large files. Also the name of the blob. */
  hash: string
}

/** Files of a commit by path. */
export type HubListing = ReadonlyMap<string, HubFile>

/** Errors from systems and file systems that do not allow this user to create symbolic links. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'ENOSYS', 'ENOENT'])

const LISTING_LIMIT = 256 << 20

const listingSchema = z.object({
  format_version: z.literal(1),
  files: z.record(
    z.string(),
    z.object({
      size: z.int().min(0),
      blob_id: z.string(),
      lfs_sha256: z.string().nullish(),
      lfs_size: z.int().min(0).nullish(),
    }),
  ),
})

export class HubCache {
  readonly folder: string
  /** Blobs whose content was verified. */
  readonly checked: CheckedFiles
  readonly #locks: string

  /** @param repo `owner/name`, validated */
  constructor(cacheDir: string, repo: string) {
    const name = `models--${repo.replace('/', '--')}`
    this.folder = join(cacheDir, name)
    this.checked = new CheckedFiles(join(this.folder, '.lowrank', 'checked'))
    this.#locks = join(cacheDir, '.locks', name)
  }

  /** The last known commit of a branch or tag. */
  async commitOf(revision: string): Promise<string | undefined> {
    const text = await readFile(join(this.folder, 'refs', revision), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : undefined
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    await this.#write(join(this.folder, 'refs', revision), commit)
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit)
  }

  /** Path of a file's blob. */
  blob(file: HubFile): string {
    return join(this.folder, 'blobs', file.hash)
  }

  /** Path of the lock that prevents concurrent downloads of the same file. */
  lock(file: HubFile): string {
    return join(this.#locks, `${file.hash}.lowrank`)
  }

  /** The files of a commit as listed by the Hub, from our own record or Python's. */
  async listing(commit: string): Promise<HubListing | undefined> {
    for (const path of [this.#record(commit), join(this.folder, 'trees', `${commit}.json`)]) {
      const text = await readText(path, LISTING_LIMIT).catch(() => undefined)
      const files = text === undefined ? undefined : listingFrom(text)
      if (files) return files
    }
    return undefined
  }

  async setListing(commit: string, listing: HubListing): Promise<void> {
    const files = [...listing.values()].map(({ path, size, hash }) => {
      const large = hash.length === 64 ? { lfs_sha256: hash, lfs_size: size } : {}
      return [path, { size, blob_id: hash, ...large }] as const
    })
    const text = JSON.stringify({ format_version: 1, files: Object.fromEntries(files) })
    await this.#write(this.#record(commit), text)
  }

  /** The files present in a snapshot, whoever downloaded them; undefined if there is no snapshot. */
  async present(commit: string): Promise<HubListing | undefined> {
    const root = this.snapshot(commit)
    const names = await readdir(root, { recursive: true }).catch(() => undefined)
    if (names === undefined) return undefined
    const found = new Map<string, HubFile>()
    for (const name of names) {
      const path = name.split(sep).join('/')
      const stats = await stat(join(root, name)).catch(() => undefined)
      if (stats?.isFile()) found.set(path, { path, size: stats.size, hash: '' })
    }
    return found
  }

  /** True if a snapshot has a complete file with the hash listed by the Hub. */
  async has(commit: string, file: HubFile): Promise<boolean> {
    return this.checked.isRight(join(this.snapshot(commit), file.path), file)
  }

  /** Links a downloaded file into a snapshot. */
  async link(commit: string, file: HubFile): Promise<void> {
    const at = join(this.snapshot(commit), file.path)
    const blob = this.blob(file)
    const target = relative(dirname(at), blob)
    if ((await readlink(at).catch(() => undefined)) === target) return
    const temporary = join(dirname(at), temporaryName())
    try {
      await mkdir(dirname(at), { recursive: true })
      await symlink(target, temporary)
        // Some systems report success without creating a link, so this checks.
        .then(() => lstat(temporary))
        .catch((error: NodeJS.ErrnoException) => {
          if (!NO_LINKS.has(error.code ?? '')) throw error
          // Windows allows symbolic links only for administrators: use a hard link there, else a copy.
          return link(blob, temporary).catch(() => copyFile(blob, temporary))
        })
      await movedOver(temporary, at)
    } catch (cause) {
      throw cannotWrite(at, cause)
    } finally {
      // The temporary link remains after an error, or if both names already pointed to the same content.
      await unlink(temporary).catch(() => undefined)
    }
  }

  #record(commit: string): string {
    return join(this.folder, '.lowrank', `${commit}.json`)
  }

  async #write(path: string, text: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true }).catch((cause) => {
      throw cannotWrite(path, cause)
    })
    await writeFileWhole(path, text)
  }
}

export function cannotWrite(path: string, cause: unknown): WriteError {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
  return new WriteError(
    `cannot write ${path} (${reason}); HF_HOME or HF_HUB_CACHE selects another folder for downloads.`,
    { path, reason },
    { cause },
  )
}

function listingFrom(text: string): HubListing | undefined {
  try {
    const { files } = listingSchema.parse(JSON.parse(text))
    const entries = Object.entries(files).map(([path, { size, blob_id, lfs_sha256, lfs_size }]) => ({
      path,
      size: lfs_size ?? size,
      hash: lfs_sha256 ?? blob_id,
    }))
    return checkedListing(entries)
  } catch {
    // Ignore an invalid record, whoever wrote it, and ask the Hub again.
    return undefined
  }
}

/**
 * Keeps only files whose paths stay inside their folder; models never need others.
 * @throws HubError for an invalid size or a hash that is not a valid file name, since the listing comes from a server
 */
export function checkedListing(files: Iterable<HubFile>): HubListing {
  const listing = new Map<string, HubFile>()
  for (const { path, size, hash } of files) {
    if (!staysInside(path)) continue
    if (!Number.isSafeInteger(size) || size < 0 || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash))
      throw new HubError(`the hub lists ${quote(path)} without a valid size and hash.`, {
        reason: 'bad_answer',
        path,
      })
    listing.set(path, { path, size, hash })
  }
  return listing
}

function staysInside(path: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (path.length > 1024 || /[\\:\u0000-\u001f\u007f]/.test(path)) return false
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}
