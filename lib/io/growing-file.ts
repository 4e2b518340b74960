/** An append-only file. */
import { type FileHandle, open } from 'node:fs/promises'
import { WriteError } from '../core/errors.js'
import { errnoOf, errnoWords } from '../core/system-error.js'
import { cleanUp } from './cleanup.js'
import { syncFile } from './sync.js'

/** A file that is open for appending. */
export class GrowingFile {
  readonly #path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  /** @throws {WriteError} when the file cannot be opened */
  static async open(path: string): Promise<GrowingFile> {
    const handle = await open(path, 'a').catch((cause) => {
      throw refused('open', path, cause)
    })
    return new GrowingFile(path, handle)
  }

  /** @throws {WriteError} when the disk is full or refuses the write */
  async append(data: string | Uint8Array): Promise<void> {
    await this.#handle.appendFile(data).catch((cause) => {
      throw refused('append to', this.#path, cause)
    })
  }

  /**
   * Makes what was appended durable.
   * @throws {WriteError} when the disk refuses it
   */
  async sync(): Promise<void> {
    await syncFile(this.#handle).catch((cause) => {
      throw refused('append to', this.#path, cause)
    })
  }

  async close(): Promise<void> {
    await cleanUp(this.#path, () => this.#handle.close())
  }
}

function refused(what: string, path: string, cause: unknown): WriteError {
  const reason = errnoOf(cause)
  return new WriteError(
    `cannot ${what} ${path}: ${errnoWords(cause)} (${reason}).`,
    { path, reason },
    { cause },
  )
}
