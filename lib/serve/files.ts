/** Uploaded files: streamed to disk, checked on arrival as `lowrank inspect` checks data, listed, read, and removed. */
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, type ReadStream } from 'node:fs'
import { link, open, rename, rm, stat } from 'node:fs/promises'
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { breather } from '../core/breather.js'
import { openDataset } from '../data/dataset.js'
import { PRIVATE, writeFileWhole } from '../io/atomic.js'
import { syncFile } from '../io/sync.js'
import { dataset } from '../train/sources/data-sources.js'
import { seconds } from './clock.js'
import { ApiError, asApiError, invalid, unsupported } from './errors.js'
import { isId, newId } from './ids.js'
import { spooled, written } from './multipart.js'
import { type Recorded, Records } from './records.js'

export const CONTENT = 'content.jsonl'
/** Most bytes of a file, as at OpenAI. */
const MOST_BYTES = 512 << 20
/** More bytes than the first line of most files has. */
const LINE_START = 1 << 20
const PAIR = /"(chosen|preferred_output)"\s*:/
const PURPOSES = ['fine-tune', 'fine-tune-results'] as const
type Purpose = (typeof PURPOSES)[number]

/** A file as clients see it. */
export interface FileObject {
  id: string
  object: 'file'
  bytes: number
  /** Seconds since 1970. */
  created_at: number
  filename: string
  purpose: Purpose
  status: 'processed'
}

/** A file with the number of its rows, which were read when it arrived; null for one that the service has made. */
type FileRecord = FileObject & Recorded & { rows: number | null }

export class Files {
  readonly #records: Records<FileRecord>

  private constructor(records: Records<FileRecord>) {
    this.#records = records
  }

  static async open(folder: string): Promise<Files> {
    return new Files(await Records.open<FileRecord>(folder, (name) => isId('file-', name)))
  }

  /** Newest first, unless `order` is `asc`. */
  list({
    order = 'desc',
    purpose,
  }: {
    order?: string | undefined
    purpose?: string | undefined
  }): FileObject[] {
    const all = this.#records.all.filter((file) => purpose === undefined || file.purpose === purpose)
    return (order === 'asc' ? all : all.reverse()).map(shown)
  }

  /** @throws {ApiError} when there is none of that id */
  get(id: string): FileObject {
    const found = this.#records.get(id)
    if (found === undefined) throw new ApiError(404, `No such File object: ${id}`, null, 'id')
    return shown(found)
  }

  has(id: string): boolean {
    return this.#records.get(id) !== undefined
  }

  /** Rows of a file that can be trained on; undefined for any other id. */
  rows(id: string): number | undefined {
    return this.#records.get(id)?.rows ?? undefined
  }

  content(id: string): ReadStream {
    this.get(id)
    return createReadStream(this.#path(id))
  }

  async remove(id: string): Promise<void> {
    this.get(id)
    await this.#records.remove(id)
  }

  /** Gives a file a second name, so that it stays when it is removed here. */
  async keepAs(id: string, path: string): Promise<void> {
    await rm(path, { force: true })
    await link(this.#path(id), path)
  }

  /** Keeps a file that the service has made, under an id that was chosen for it. */
  async add(id: string, filename: string, purpose: Purpose, text: string): Promise<FileObject> {
    await this.#records.begin(id)
    await writeFileWhole(this.#path(id), text, PRIVATE)
    return this.#record(id, filename, purpose, null)
  }

  /**
   * Receives an upload. Its parts may come in any order, and its length need not be known.
   * @throws {ApiError} for a body that is no upload, a file that is too large, or rows that cannot be trained on
   */
  receive(body: Readable, headers: IncomingHttpHeaders): Promise<FileObject> {
    return this.#made(newId('file-'), async (path) => {
      const { filename, fields } = await spooled(body, headers, { part: 'file', most: MOST_BYTES, path })
      const purpose = checkedPurpose(fields.get('purpose'))
      const expiry = [...fields.keys()].find((name) => name.startsWith('expires_after'))
      if (expiry !== undefined) throw unsupportedExpiry()
      return { filename, purpose }
    })
  }

  /**
   * Joins the parts of an upload to a file, under an id that was chosen for it.
   * @param md5 hexadecimal digits that the content must have
   * @throws {ApiError} for another content, or rows that cannot be trained on
   */
  join(id: string, filename: string, parts: readonly string[], md5: string | null): Promise<FileObject> {
    return this.#made(id, async (path) => {
      const hash = createHash('md5')
      const content = async function* () {
        for (const part of parts)
          for await (const bytes of createReadStream(part)) {
            hash.update(bytes as Uint8Array)
            yield bytes as Uint8Array
          }
      }
      await written(pipeline(content, createWriteStream(path, { mode: 0o600 })))
      const found = hash.digest('hex')
      if (md5 !== null && md5.toLowerCase() !== found)
        throw invalid('md5', `The parts have the MD5 checksum ${found}, not ${md5}.`)
      return { filename, purpose: 'fine-tune' }
    })
  }

  /** Keeps what was written to a temporary path, once its rows were read. */
  async #made(
    id: string,
    write: (path: string) => Promise<{ filename: string; purpose: Purpose }>,
  ): Promise<FileObject> {
    await this.#records.begin(id)
    try {
      const temporary = this.#records.path(id, 'upload')
      const { filename, purpose } = await write(temporary)
      const handle = await open(temporary, 'r+')
      await syncFile(handle).finally(() => handle.close())
      await rename(temporary, this.#path(id))
      return await this.#record(id, filename, purpose, await checkedRows(this.#path(id), filename))
    } catch (error) {
      await rm(this.#records.path(id), { recursive: true, force: true })
      throw error
    }
  }

  #path(id: string): string {
    return this.#records.path(id, CONTENT)
  }

  async #record(id: string, filename: string, purpose: Purpose, rows: number | null): Promise<FileObject> {
    const { size: bytes } = await stat(this.#path(id))
    const created_at = seconds()
    const file: FileObject = { id, object: 'file', bytes, created_at, filename, purpose, status: 'processed' }
    await this.#records.put({ ...file, sequence: this.#records.nextSequence(), rows })
    return file
  }
}

function shown({ id, object, bytes, created_at, filename, purpose, status }: FileRecord): FileObject {
  return { id, object, bytes, created_at, filename, purpose, status }
}

export const unsupportedExpiry = (): ApiError =>
  unsupported('expires_after', 'a file stays until it is deleted')

/** @throws {ApiError} for what this server keeps no files for */
export function checkedPurpose(purpose: unknown): Purpose {
  if (purpose === 'fine-tune') return purpose
  throw invalid(
    'purpose',
    `Invalid value for 'purpose': expected 'fine-tune'; got ${JSON.stringify(purpose ?? null)}.`,
  )
}

/**
 * Reads all rows as training does, and counts them.
 * @throws {ApiError} that names the first bad row by its file and line
 */
async function checkedRows(path: string, filename: string): Promise<number> {
  const breathe = breather()
  let rows = 0
  try {
    const format = (await hasPairs(path)) ? 'preference' : 'auto'
    for await (const _ of openDataset(path, { ...dataset(path), format })) {
      rows++
      await breathe()
    }
  } catch (error) {
    throw asApiError(error, 'file', (message) => message.replaceAll(path, filename))
  }
  if (rows === 0) throw invalid('file', `${filename} has no rows.`)
  return rows
}

/** True for pairs of answers, which other rows are not mistaken for. */
async function hasPairs(path: string): Promise<boolean> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(LINE_START), 0, LINE_START, 0)
    const [first = ''] = buffer.toString('utf8', 0, bytesRead).split('\n')
    return PAIR.test(first)
  } finally {
    await handle.close()
  }
}
