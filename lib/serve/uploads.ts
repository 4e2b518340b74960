/** Uploads in parts, which are joined to a file in an order that the client gives. Those that are not completed within an hour expire. */
import { existsSync } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import * as z from 'zod'
import { Turns } from '../native/handles.js'
import { seconds } from './clock.js'
import { ApiError, checked, invalid } from './errors.js'
import { checkedPurpose, type FileObject, type Files, unsupportedExpiry } from './files.js'
import { isId, newId } from './ids.js'
import { safeName, spooled } from './multipart.js'
import { type Recorded, Records } from './records.js'

/** Limits as at OpenAI. */
const MOST_BYTES = 8 * 2 ** 30
const MOST_PART = 64 << 20
const LIFE_SECONDS = 3600

const createSchema = z.strictObject({
  bytes: z
    .int({ error: `expected a number from 1 to ${MOST_BYTES}` })
    .min(1)
    .max(MOST_BYTES),
  filename: z.string({ error: 'expected a name' }).min(1),
  mime_type: z.string({ error: 'expected a type' }),
  purpose: z.string({ error: "expected 'fine-tune'" }),
  expires_after: z.unknown().optional(),
})
const completeSchema = z.strictObject({
  part_ids: z.array(z.string(), { error: 'expected a list of ids, in the order of the parts' }).min(1),
  md5: z
    .string()
    .regex(/^[0-9a-f]{32}$/i, { error: 'expected 32 hexadecimal digits' })
    .nullish(),
})

/** An upload as clients see it. */
export interface UploadObject {
  id: string
  object: 'upload'
  bytes: number
  /** Seconds since 1970. */
  created_at: number
  expires_at: number
  filename: string
  purpose: 'fine-tune'
  status: 'pending' | 'completed' | 'cancelled' | 'expired'
  /** The file that it has become. */
  file: FileObject | null
}

/** An upload with the id of its file, which is chosen before the file is made, so that none is made twice. */
type UploadRecord = Omit<UploadObject, 'file'> & Recorded & { file_id: string | null }

/** A part as clients see it. */
export interface PartObject {
  id: string
  object: 'upload.part'
  created_at: number
  upload_id: string
}

export class Uploads {
  readonly #records: Records<UploadRecord>
  readonly #files: Files
  /** Uploads end one at a time. */
  readonly #turns = new Turns()

  private constructor(records: Records<UploadRecord>, files: Files) {
    this.#records = records
    this.#files = files
  }

  /** Opens the uploads of a data folder, without the parts of those that are over. */
  static async open(folder: string, files: Files): Promise<Uploads> {
    const records = await Records.open<UploadRecord>(folder, (name) => isId('upload_', name))
    const uploads = new Uploads(records, files)
    for (const { id } of records.all) await uploads.#current(id)
    return uploads
  }

  /** @throws {ApiError} for wrong parameters */
  async create(body: unknown): Promise<UploadObject> {
    const { bytes, filename, purpose, expires_after } = checked(createSchema, body)
    if (expires_after != null) throw unsupportedExpiry()
    const id = newId('upload_')
    const created_at = seconds()
    const upload: UploadRecord = {
      ...{ id, object: 'upload', bytes, created_at, expires_at: created_at + LIFE_SECONDS },
      ...{ filename: safeName(filename), purpose: checkedPurpose(purpose) as 'fine-tune' },
      ...{ status: 'pending', file_id: null, sequence: this.#records.nextSequence() },
    }
    await this.#records.begin(id)
    await this.#records.put(upload)
    return this.#shown(upload)
  }

  /** Adds a part. Parts may come side by side, and in any order. @throws {ApiError} for an upload that is over */
  async add(id: string, body: Readable, headers: IncomingHttpHeaders): Promise<PartObject> {
    await this.#pending(id)
    const part = newId('part_')
    const path = this.#records.path(id, part)
    try {
      await spooled(body, headers, { part: 'data', most: MOST_PART, path: `${path}.new` })
      await rename(`${path}.new`, path)
    } catch (error) {
      await rm(`${path}.new`, { force: true })
      // The upload may be what has ended.
      await this.#pending(id)
      throw error
    }
    return { id: part, object: 'upload.part', created_at: seconds(), upload_id: id }
  }

  /** Makes a file of the parts. @throws {ApiError} for parts that are not the upload, or rows that cannot be trained on */
  complete(id: string, body: unknown): Promise<UploadObject> {
    return this.#turns.run(async () => {
      const { part_ids, md5 } = checked(completeSchema, body)
      const upload = await this.#pending(id)
      const file = upload.file_id ?? newId('file-')
      if (upload.file_id === null) await this.#records.put({ ...upload, file_id: file })
      if (!this.#files.has(file)) {
        const paths = part_ids.map((part, index) => {
          const path = this.#records.path(id, part)
          if (!isId('part_', part) || !existsSync(path))
            throw invalid(`part_ids[${index}]`, `No such part of the upload: ${part}`)
          return path
        })
        if (new Set(part_ids).size < part_ids.length) throw invalid('part_ids', 'A part is given twice.')
        let bytes = 0
        for (const path of paths) bytes += (await stat(path)).size
        if (bytes !== upload.bytes)
          throw invalid('part_ids', `The parts have ${bytes} bytes, and the upload has ${upload.bytes}.`)
        await this.#files.join(file, upload.filename, paths, md5 ?? null)
      }
      return this.#end({ ...upload, file_id: file }, 'completed')
    })
  }

  /** @throws {ApiError} for an upload that is over */
  cancel(id: string): Promise<UploadObject> {
    return this.#turns.run(async () => this.#end(await this.#pending(id), 'cancelled'))
  }

  async #pending(id: string): Promise<UploadRecord> {
    const upload = await this.#current(id)
    if (upload.status === 'pending') return upload
    throw new ApiError(400, `The upload is ${upload.status}, not pending.`, 'invalid_state')
  }

  /** An upload as it is now: one whose time is over has expired. */
  async #current(id: string): Promise<UploadRecord> {
    const upload = this.#records.get(id)
    if (upload === undefined) throw new ApiError(404, `No such Upload object: ${id}`, null, 'id')
    if (upload.status !== 'pending') return upload
    if (seconds() <= upload.expires_at) return upload
    await this.#end(upload, 'expired')
    return this.#records.get(id) as UploadRecord
  }

  async #end(upload: UploadRecord, status: UploadObject['status']): Promise<UploadObject> {
    const ended = { ...upload, status }
    await this.#records.put(ended)
    await this.#records.empty(upload.id)
    return this.#shown(ended)
  }

  #shown({ sequence: _, file_id, ...upload }: UploadRecord): UploadObject {
    const isThere = upload.status === 'completed' && file_id !== null && this.#files.has(file_id)
    return { ...upload, file: isThere ? this.#files.get(file_id) : null }
  }
}
