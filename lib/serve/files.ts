/** Uploaded files: streamed to disk, checked on arrival as `lowrank inspect` checks data, listed, read, and removed. */
import { createReadStream, createWriteStream, type ReadStream } from 'node:fs'
import { link, open, rename, rm, stat } from 'node:fs/promises'
import type { IncomingHttpHeaders } from 'node:http'
import { basename } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Busboy } from '@fastify/busboy'
import { breather } from '../core/breather.js'
import { openDataset } from '../data/dataset.js'
import { PRIVATE, writeFileWhole } from '../io/atomic.js'
import { syncFile } from '../io/sync.js'
import { dataset } from '../train/sources/data-sources.js'
import { seconds } from './clock.js'
import { ApiError, asApiError, invalid } from './errors.js'
import { isId, newId } from './ids.js'
import { type Recorded, Records } from './records.js'

export const CONTENT = 'content.jsonl'
/** Most bytes of a file, as at OpenAI. */
const MOST_BYTES = 512 << 20
const MOST_NAME = 255
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
  async receive(body: Readable, headers: IncomingHttpHeaders): Promise<FileObject> {
    if (!/^multipart\/form-data\b/i.test(headers['content-type'] ?? ''))
      throw new ApiError(415, 'Expected a body of the type multipart/form-data.', 'unsupported_media_type')
    const id = newId('file-')
    await this.#records.begin(id)
    try {
      const { filename, fields } = await this.#spool(id, body, headers)
      const purpose = fields.get('purpose')
      if (purpose !== 'fine-tune')
        throw invalid(
          'purpose',
          `Invalid value for 'purpose': expected 'fine-tune'; got ${JSON.stringify(purpose ?? null)}.`,
        )
      const rows = await checkedRows(this.#path(id), filename)
      return await this.#record(id, filename, purpose, rows)
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

  async #spool(id: string, body: Readable, headers: IncomingHttpHeaders) {
    const fields = new Map<string, string>()
    const temporary = this.#records.path(id, 'upload')
    let filename: string | undefined
    let writing: Promise<void> | undefined
    let refused: ApiError | undefined
    const parser = new Busboy({
      headers: headers as IncomingHttpHeaders & { 'content-type': string },
      limits: { fileSize: MOST_BYTES + 1, files: 1, fields: 16, fieldSize: 4096, parts: 20, headerPairs: 20 },
    })
    parser.on('field', (name, value) => void fields.set(name, value))
    parser.on('file', (name, stream, given) => {
      if (name !== 'file') refused ??= invalid(name, `Expected the file in the part 'file'; got '${name}'.`)
      filename = safeName(given)
      stream.on('limit', () => {
        refused ??= new ApiError(
          413,
          `The file is larger than ${MOST_BYTES} bytes.`,
          'request_too_large',
          'file',
        )
      })
      writing = pipeline(stream, createWriteStream(temporary, { mode: 0o600 }))
      writing.catch(() => undefined)
    })
    try {
      await pipeline(body, parser)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_STREAM')) throw error
      throw new ApiError(400, 'The upload is not valid multipart/form-data.', 'invalid_body')
    }
    if (writing === undefined || filename === undefined)
      throw invalid('file', "Missing required parameter: 'file'.", 'missing_required_parameter')
    await writing.catch((cause) => {
      if ((cause as NodeJS.ErrnoException).code === 'ENOSPC')
        throw new ApiError(503, 'The disk of the server is full.', 'insufficient_storage')
      throw cause
    })
    if (refused !== undefined) throw refused
    const handle = await open(temporary, 'r+')
    await syncFile(handle).finally(() => handle.close())
    await rename(temporary, this.#path(id))
    return { filename, fields }
  }
}

function shown({ id, object, bytes, created_at, filename, purpose, status }: FileRecord): FileObject {
  return { id, object, bytes, created_at, filename, purpose, status }
}

/** A name for people, which never becomes a path. */
function safeName(given: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is removed.
  const plain = basename(given.replaceAll('\\', '/')).replace(/[\u0000-\u001f\u007f]/g, '')
  return plain.slice(0, MOST_NAME) || 'upload.jsonl'
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
