/**
 * Downloads one Hub file into the cache. It grows as a partial file that a later call can resume, is verified against
 * the listed size and hash, and is then renamed into place. Processes that want the same file wait for the one
 * downloading it; even without the lock, concurrent downloads write the same bytes and are verified before use.
 */
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { formatBytes } from '../core/bytes.js'
import { HubError, WriteError } from '../core/errors.js'
import { quote } from '../core/quote.js'
import { syncFolder } from '../io/atomic.js'
import { movedOver } from '../io/move.js'
import { syncFile } from '../io/sync.js'
import { cannotWrite, type HubCache, type HubFile } from './cache.js'
import { type ContentHash, contentHash } from './check.js'
import { type HubClient, pieces } from './client.js'
import { withLock } from './lock.js'

const PIECE = 1 << 20

/** One file of one commit. */
export interface Wanted {
  repo: string
  commit: string
  file: HubFile
}

export interface DownloadWatch {
  signal?: AbortSignal | undefined
  /** Bytes now present beyond those reported before; negative if some had to be discarded. */
  onBytes(count: number, received: boolean): void
  onWait(reason: string): void
}

/**
 * Downloads the blob of a file if it does not exist.
 * @throws HubError when it cannot be downloaded or does not match the listing; WriteError when the disk is full or
 * refuses the write
 */
export async function downloadBlob(
  client: HubClient,
  cache: HubCache,
  wanted: Wanted,
  watch: DownloadWatch,
): Promise<void> {
  const { file } = wanted
  const blob = cache.blob(file)
  const lock = cache.lock(file)
  await mkdir(dirname(blob), { recursive: true }).catch((cause) => {
    throw cannotWrite(blob, cause)
  })
  const waiting = () => watch.onWait(`another process is downloading ${file.path}`)
  await withLock(lock, { signal: watch.signal, onWait: waiting }, async () => {
    if (await cache.checked.isRight(blob, file)) {
      watch.onBytes(file.size, false)
      return
    }
    const partial = `${blob}.lowrank.incomplete`
    await complete(client, wanted, partial, watch)
    await movedOver(partial, blob).catch((cause) => {
      throw cannotWrite(blob, cause)
    })
    await syncFolder(dirname(blob))
    await cache.checked.record(blob, file)
  })
}

async function complete(client: HubClient, wanted: Wanted, path: string, watch: DownloadWatch) {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o666).catch((cause) => {
    throw cannotWrite(path, cause)
  })
  let useless = false
  try {
    const partial = new Partial(handle, path, wanted.file, watch)
    let resumed = await partial.takeUp()
    await checkSpace(path, wanted.file.size - partial.size)
    for (;;) {
      await receive(client, wanted, partial, watch)
      if (partial.isRight()) break
      // Data from an earlier call may have been damaged since, so only newly downloaded data is reported as a mismatch.
      if (!resumed) {
        useless = true
        throw mismatch(client, wanted, partial)
      }
      resumed = false
      await partial.restart()
    }
    await syncFile(handle).catch((cause) => {
      throw cannotWrite(path, cause)
    })
  } finally {
    await handle.close()
    if (useless) await unlink(path).catch(() => undefined)
  }
}

/** Requests the missing bytes until the file is complete. */
async function receive(
  client: HubClient,
  { repo, commit, file }: Wanted,
  partial: Partial,
  watch: DownloadWatch,
) {
  let attempt = 0
  while (partial.size < file.size) {
    const before = partial.size
    const silence = new Silence(client.settings.timeoutMs, watch.signal)
    try {
      const response = await client.file(repo, commit, file.path, before, silence.signal)
      if (!(await startsAt(response, before, file.size))) await partial.restart()
      if (response.status === 416) continue
      for await (const piece of pieces(response, silence.signal)) {
        silence.broken()
        await partial.append(piece)
      }
      if (partial.size < file.size) throw new Error('the response ended early')
    } catch (error) {
      attempt = partial.size > before ? 1 : attempt + 1
      await client.pause(silence.over ?? error, attempt)
    } finally {
      silence.end()
    }
  }
}

/** True if the response continues at the end of the partial file; otherwise it starts at the beginning. */
async function startsAt(response: Response, start: number, size: number): Promise<boolean> {
  if (response.status === 416) {
    await response.body?.cancel()
    return false
  }
  if (start === 0) return response.status === 200 || response.status === 206
  if (response.status !== 206) return false
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '')
  if (range && Number(range[1]) === start && (range[2] === '*' || Number(range[2]) === size)) return true
  await response.body?.cancel()
  throw new Error(
    `the response has other bytes than requested: ${quote(response.headers.get('content-range') ?? 'none')}`,
  )
}

function mismatch({ settings }: HubClient, { repo, file }: Wanted, partial: Partial): HubError {
  return new HubError(
    `${quote(file.path)} of ${repo} from ${settings.endpoint} does not match the listed hash: ${partial.found}, expected ${file.hash}. The file was discarded. Try again; if that fails, check mirrors and proxies.`,
    { reason: 'checksum', repo, path: file.path, found: partial.found, expected: file.hash },
  )
}

/** Checks for free space up front: it is cheap, and a full disk affects other programs. */
async function checkSpace(path: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path))
  const free = bavail * bsize
  if (bytes <= free) return
  throw new WriteError(
    `the download needs ${formatBytes(bytes)} in ${dirname(path)}, where only ${formatBytes(free)} are free; free some space, or set HF_HUB_CACHE to another folder.`,
    { path, bytesNeeded: bytes, free, reason: 'ENOSPC' },
  )
}

/** A partially downloaded file, with the hash of its content so far. */
class Partial {
  readonly #handle: FileHandle
  readonly #path: string
  readonly #file: HubFile
  readonly #watch: DownloadWatch
  #hash: ContentHash
  size = 0
  /** Actual hash, set by `isRight`. */
  found = ''

  constructor(handle: FileHandle, path: string, file: HubFile, watch: DownloadWatch) {
    this.#handle = handle
    this.#path = path
    this.#file = file
    this.#watch = watch
    this.#hash = contentHash(this.#file)
  }

  /** Resumes the file left by an earlier call. @returns whether it had any bytes */
  async takeUp(): Promise<boolean> {
    const { size } = await this.#handle.stat()
    if (size > this.#file.size) await this.restart()
    else {
      const buffer = new Uint8Array(PIECE)
      while (this.size < size) {
        const { bytesRead } = await this.#handle.read(buffer, 0, PIECE, this.size)
        if (bytesRead === 0) break
        this.#hash.update(buffer.subarray(0, bytesRead))
        this.size += bytesRead
        this.#watch.onBytes(bytesRead, false)
      }
    }
    return this.size > 0
  }

  async append(piece: Uint8Array): Promise<void> {
    if (this.size + piece.length > this.#file.size)
      throw new HubError(
        `the hub sends more than the ${this.#file.size} bytes that it lists for ${quote(this.#file.path)}.`,
        { reason: 'checksum', path: this.#file.path, expected: this.#file.size },
      )
    for (let done = 0; done < piece.length; ) {
      const { bytesWritten } = await this.#handle
        .write(piece, done, piece.length - done, this.size + done)
        .catch((cause) => {
          throw cannotWrite(this.#path, cause)
        })
      done += bytesWritten
    }
    this.#hash.update(piece)
    this.size += piece.length
    this.#watch.onBytes(piece.length, true)
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#watch.onBytes(-this.size, false)
    this.size = 0
    this.#hash = contentHash(this.#file)
  }

  /** Verifies the hash; call it once all bytes are present. */
  isRight(): boolean {
    this.found = this.#hash.digest('hex')
    return this.found === this.#file.hash
  }
}

/** Aborts a request when no data has arrived for too long, or when the caller aborts. */
class Silence {
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal | undefined
  readonly #timer: NodeJS.Timeout
  readonly #stop = () => this.#controller.abort(this.#outer?.reason)
  /** Error after a timeout. */
  over: Error | undefined

  constructor(ms: number, outer: AbortSignal | undefined) {
    this.#outer = outer
    this.#timer = setTimeout(() => {
      this.over = new Error(`silent for ${ms / 1000} s`)
      this.#controller.abort(this.over)
    }, ms)
    if (outer?.aborted) this.#stop()
    else outer?.addEventListener('abort', this.#stop, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  broken(): void {
    this.#timer.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#outer?.removeEventListener('abort', this.#stop)
    // Discards the unread rest of the response.
    this.#controller.abort()
  }
}
