/** An append-only file. */
import { type FileHandle, open } from 'node:fs/promises'
import { WriteError } from '../core/errors.js'
import { cleanUp } from './cleanup.js'

/** A file that is open for appending. */
export class GrowingFile {
  readonly #path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  static async open(path: string): Promise<GrowingFile> {
    return new GrowingFile(path, await open(path, 'a'))
  }

  /** @throws {WriteError} when the disk is full or refuses the write */
  async append(data: string | Uint8Array): Promise<void> {
    try {
      await this.#handle.appendFile(data)
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
      throw new WriteError(
        `cannot append to ${this.#path}: ${(cause as Error).message}`,
        { path: this.#path, reason },
        { cause },
      )
    }
  }

  async close(): Promise<void> {
    await cleanUp(this.#path, () => this.#handle.close())
  }
}
