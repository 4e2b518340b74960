/**
 * Records that survive: each is a folder with `record.json`, written whole, beside the files that belong to it. All are
 * read when the server starts; whatever has no record was not finished and is removed.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PRIVATE, syncFolder, writeFileWhole } from '../io/atomic.js'
import { readJsonObject } from '../io/input.js'

const RECORD = 'record.json'
const SIZE_LIMIT = 8 << 20

/** Only their owner may read what people upload. */
const PRIVATE_FOLDER = 0o700

export interface Recorded {
  readonly id: string
  /** Orders records, since a clock may be set back. */
  readonly sequence: number
}

export class Records<T extends Recorded> {
  readonly #folder: string
  readonly #records: Map<string, T>
  #sequence: number

  private constructor(folder: string, records: Map<string, T>) {
    this.#folder = folder
    this.#records = records
    this.#sequence = this.all.at(-1)?.sequence ?? 0
  }

  /**
   * @param isOurs tells which names in the folder may be records
   * @throws {FileFormatError} for a record that cannot be read
   */
  static async open<T extends Recorded>(
    folder: string,
    isOurs: (name: string) => boolean,
  ): Promise<Records<T>> {
    await mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER })
    const found: T[] = []
    for (const name of (await readdir(folder)).filter(isOurs)) {
      const path = join(folder, name, RECORD)
      if (existsSync(path)) found.push((await readJsonObject(path, SIZE_LIMIT)) as unknown as T)
      else await rm(join(folder, name), { recursive: true, force: true })
    }
    found.sort((a, b) => a.sequence - b.sequence)
    return new Records(folder, new Map(found.map((record) => [record.id, record])))
  }

  /** Oldest first. */
  get all(): readonly T[] {
    return [...this.#records.values()]
  }

  /** A number for a new record, which no other one gets. */
  nextSequence(): number {
    return ++this.#sequence
  }

  get(id: string): T | undefined {
    return this.#records.get(id)
  }

  /** Path of a file of a record. */
  path(id: string, ...names: readonly string[]): string {
    return join(this.#folder, id, ...names)
  }

  /** Makes the folder of a record that is not written yet. */
  async begin(id: string): Promise<string> {
    const path = this.path(id)
    await mkdir(path, { recursive: true, mode: PRIVATE_FOLDER })
    return path
  }

  /** Writes a record, which is then found by others. */
  async put(record: T): Promise<void> {
    await writeFileWhole(this.path(record.id, RECORD), `${JSON.stringify(record, null, 1)}\n`, PRIVATE)
    await syncFolder(this.#folder)
    this.#records.set(record.id, record)
  }

  /** Removes all files of a record but itself. */
  async empty(id: string): Promise<void> {
    for (const name of await readdir(this.path(id)))
      if (name !== RECORD) await rm(this.path(id, name), { recursive: true, force: true })
  }

  async remove(id: string): Promise<void> {
    this.#records.delete(id)
    // Without its record, what is left of the folder is removed by the next start.
    await rm(this.path(id, RECORD), { force: true })
    await rm(this.path(id), { recursive: true, force: true })
  }
}
