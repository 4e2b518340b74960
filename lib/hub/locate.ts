/**
 * Resolves a model or adapter name: an existing path, or a repository on the Hugging Face Hub, whose missing files are
 * downloaded into the cache. The commit is pinned before the first file, so all files are from the same version, also
 * when a download is resumed later.
 */
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { ConfigError, FileFormatError, HubError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { INDEX_FILE, readShardIndex } from '../formats/shard-index.js'
import { HubCache, type HubFile, type HubListing } from './cache.js'
import { HubClient } from './client.js'
import { downloadBlob } from './download.js'
import { checkedRevision, type HubName, isCommit, namesFile, parseHubName } from './name.js'
import { type HubKind, type Selection, selectFiles, selectShards } from './select.js'
import { type HubSettings, hubSettings } from './settings.js'

/** Progress of a download. */
export interface DownloadProgress {
  /** `owner/name` */
  repo: string
  /**
   * Bytes present, out of those missing when the call began; bytes left by an earlier partial download count as
   * present.
   */
  doneBytes: number
  totalBytes: number
  /** Bytes received over the network, for computing a transfer rate. */
  receivedBytes: number
  /** Files present, out of those missing when the call began. */
  doneFiles: number
  totalFiles: number
  /** Reason why no data is arriving. */
  waiting?: string
}

export interface LocateOptions {
  /** Branch, tag, or commit on the Hub; default `main`. */
  revision?: string | null | undefined
  signal?: AbortSignal | undefined
  onDownload?: ((progress: DownloadProgress) => void) | undefined
}

/** A located file or folder. */
export interface Located {
  /** A folder or file on disk. */
  path: string
  /** Origin on the Hub; null for local paths. */
  hub: { repo: string; file: string | null; commit: string } | null
}

const DEFAULT_REVISION = 'main'
const AT_ONCE = 4
const TELL_MS = 100

/**
 * Finds a model or adapter and downloads what is missing.
 * @param name a path, or a name on the Hub: `owner/name` or `owner/name/file.gguf`, optionally with `@revision`
 * @throws FileFormatError when it is neither an existing path nor a Hub name; HubError when the download fails;
 * ConfigError for an invalid revision
 */
export async function locate(kind: HubKind, name: string, options: LocateOptions = {}): Promise<Located> {
  options.signal?.throwIfAborted()
  if (typeof name !== 'string' || name === '')
    throw new ConfigError(
      `the name of the ${kind === 'adapter' ? 'adapter' : 'model'} is ${JSON.stringify(name) ?? String(name)}, expected a path or a name on the hub.`,
    )
  if (await stat(name).catch(() => undefined)) {
    if (options.revision)
      throw new ConfigError(
        `a revision (${options.revision}) applies only to names on the hub, but ${name} is a local path; leave it out, or rename the folder.`,
        { name, revision: options.revision },
      )
    return { path: name, hub: null }
  }
  const hubName = parseHubName(name)
  if (hubName === undefined) throw nowhere(kind, name)
  const settings = hubSettings()
  try {
    const { path, commit, file } = await new HubVisit(settings, hubName, kind, options).bring()
    return { path, hub: { repo: hubName.repo, file, commit } }
  } catch (error) {
    throw error instanceof HubError ? alsoAsPath(error, name) : error
  }
}

function nowhere(kind: HubKind, name: string): FileFormatError {
  const what = kind === 'adapter' ? 'adapter' : 'model'
  const path = resolve(name) === name ? name : `${name} (${resolve(name)})`
  const word = /^\w[\w.-]*$/.test(name) && !namesFile(name)
  const advice = word ? '; names on the Hugging Face hub have the form owner/name' : ''
  return new FileFormatError(`there is no ${what} at ${path}${advice}`, { path: name })
}

/** The name may have been meant as a path, so the message must not mention only the Hub. */
function alsoAsPath(error: HubError, name: string): HubError {
  const { reason } = error.details
  if (!['not_found', 'unauthorized', 'offline', 'unreachable'].includes(String(reason))) return error
  return new HubError(
    `${error.message} (The hub was searched because no file or folder ${resolve(name)} exists.)`,
    error.details,
    { cause: error.cause },
  )
}

/** One call for one repository. */
class HubVisit {
  readonly #settings: HubSettings
  readonly #name: HubName
  readonly #revision: string
  readonly #kind: HubKind
  readonly #options: LocateOptions
  readonly #cache: HubCache
  readonly #client: HubClient
  readonly #tally: Tally

  constructor(settings: HubSettings, name: HubName, kind: HubKind, options: LocateOptions) {
    this.#settings = settings
    this.#name = name
    this.#revision = revisionOf(name, options.revision)
    this.#kind = kind
    this.#options = options
    this.#cache = new HubCache(settings.cacheDir, name.repo)
    this.#tally = new Tally(name.repo, options.onDownload)
    this.#client = new HubClient(settings, {
      signal: options.signal,
      onWait: (reason) => this.#tally.wait(reason),
    })
  }

  async bring(): Promise<{ path: string; commit: string; file: string | null }> {
    const commit = await this.#pin()
    const [listing, complete] = await this.#listing(commit)
    const selection = this.#select(listing, complete)
    await this.#fetch(commit, selection.files, complete)
    if (selection.sharded) {
      const shards = await readShardIndex(join(this.#cache.snapshot(commit), INDEX_FILE))
      await this.#fetch(commit, this.#shards(listing, shards.keys(), complete), complete)
    }
    const folder = this.#cache.snapshot(commit)
    return {
      path: selection.main === null ? folder : join(folder, selection.main),
      commit,
      file: selection.main,
    }
  }

  /** The commit to use, from the cache if known. */
  async #pin(): Promise<string> {
    const revision = this.#revision
    if (isCommit(revision)) return revision
    const { offline, refresh } = this.#settings
    const known = refresh && !offline ? undefined : await this.#cache.commitOf(revision)
    if (known !== undefined) return known
    if (offline) throw this.#notCached(`its revision ${revision} is not in the cache`)
    const commit = await this.#client.commitOf(this.#name.repo, revision)
    // Recorded before the first file, so that an interrupted download resumes with the same commit.
    await this.#cache.setCommit(revision, commit)
    return commit
  }

  /** The files of the commit, and whether the list is complete; if the Hub is unreachable, the files in the cache. */
  async #listing(commit: string): Promise<[HubListing, boolean]> {
    const known = await this.#cache.listing(commit)
    if (known) return [known, true]
    const { offline } = this.#settings
    const present = await this.#cache.present(commit)
    if (offline) {
      if (present) return [present, false]
      throw this.#notCached(`the commit ${commit} is not in the cache`)
    }
    try {
      const listing = await this.#client.list(this.#name.repo, commit)
      await this.#cache.setListing(commit, listing)
      return [listing, true]
    } catch (error) {
      // Another tool may have downloaded files there, possibly all that are needed.
      const alone = error instanceof HubError && error.details.reason === 'unreachable'
      if (!alone || !present || !this.#suffices(present)) throw error
      return [present, false]
    }
  }

  #suffices(present: HubListing): boolean {
    try {
      selectFiles(present, this.#kind, this.#name.repo, this.#name.file)
      return true
    } catch {
      return false
    }
  }

  #select(listing: HubListing, complete: boolean): Selection {
    try {
      return selectFiles(listing, this.#kind, this.#name.repo, this.#name.file)
    } catch (error) {
      if (complete) throw error
      throw this.#notCached('not all of its files are in the cache')
    }
  }

  #shards(listing: HubListing, names: Iterable<string>, complete: boolean): HubFile[] {
    if (complete) return selectShards(listing, names, this.#name.repo)
    const missing = [...names].filter((name) => !listing.has(name))
    if (missing.length > 0) throw this.#notCached(`${missing.join(', ')} is not in the cache`)
    return []
  }

  async #fetch(commit: string, files: readonly HubFile[], complete: boolean): Promise<void> {
    // Without a complete listing, `files` are the ones already present.
    if (!complete) return
    const absent: HubFile[] = []
    for (const file of files) if (!(await this.#cache.has(commit, file))) absent.push(file)
    if (absent.length === 0) return
    if (this.#settings.offline) {
      const names = absent.map(({ path }) => path).join(', ')
      throw this.#notCached(`${names} ${absent.length === 1 ? 'is' : 'are'} not in the cache`)
    }
    this.#tally.expect(absent)
    await this.#fetchAll(commit, absent)
    this.#tally.end()
  }

  /** Downloads a few files in parallel; the first failure stops the others. */
  async #fetchAll(commit: string, files: readonly HubFile[]): Promise<void> {
    const failed = new AbortController()
    const { signal } = failed
    const outer = this.#options.signal
    const stop = () => failed.abort(outer?.reason)
    outer?.addEventListener('abort', stop, { once: true })
    const queue = [...files]
    const watch = {
      signal,
      onBytes: (count: number, received: boolean) => this.#tally.bytes(count, received),
      onWait: (reason: string) => this.#tally.wait(reason),
    }
    const client = new HubClient(this.#settings, { signal, onWait: watch.onWait })
    const work = async () => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        await downloadBlob(client, this.#cache, { repo: this.#name.repo, commit, file }, watch)
        await this.#cache.link(commit, file)
        this.#tally.file()
      }
    }
    let first: { error: unknown } | undefined
    const workers = Array.from({ length: AT_ONCE }, () =>
      work().catch((error: unknown) => {
        first ??= { error }
        failed.abort(error)
      }),
    )
    await Promise.all(workers).finally(() => outer?.removeEventListener('abort', stop))
    outer?.throwIfAborted()
    if (first) throw first.error
  }

  #notCached(what: string): HubError {
    const { repo } = this.#name
    return new HubError(
      `${repo} cannot be used offline: ${what} (${this.#cache.folder}). Unset HF_HUB_OFFLINE to download it.`,
      { reason: 'offline', repo, revision: this.#revision, cache: this.#cache.folder },
    )
  }
}

function revisionOf({ repo, revision }: HubName, option: string | null | undefined): string {
  if (revision !== null && option && revision !== option)
    throw new ConfigError(
      `two revisions are given for ${repo}: ${quote(revision)} after its name and ${quote(option)} as an option; leave one out.`,
      { repo, revision, option },
    )
  return checkedRevision(revision ?? option ?? DEFAULT_REVISION)
}

/** Sums up the progress of several downloads and reports it periodically. */
class Tally {
  readonly #progress: DownloadProgress
  readonly #tell: ((progress: DownloadProgress) => void) | undefined
  #told = Number.NEGATIVE_INFINITY

  constructor(repo: string, tell: ((progress: DownloadProgress) => void) | undefined) {
    const none = { doneBytes: 0, totalBytes: 0, receivedBytes: 0, doneFiles: 0, totalFiles: 0 }
    this.#progress = { repo, ...none }
    this.#tell = tell
  }

  expect(files: readonly HubFile[]): void {
    this.#progress.totalFiles += files.length
    this.#progress.totalBytes += files.reduce((sum, { size }) => sum + size, 0)
    this.end()
  }

  bytes(count: number, received: boolean): void {
    this.#progress.doneBytes += count
    if (received) this.#progress.receivedBytes += count
    if (performance.now() - this.#told >= TELL_MS) this.end()
  }

  file(): void {
    this.#progress.doneFiles++
  }

  wait(reason: string): void {
    this.#tell?.({ ...this.#progress, waiting: reason })
  }

  /** Reports the current state. */
  end(): void {
    this.#told = performance.now()
    this.#tell?.({ ...this.#progress })
  }
}
