/**
 * The folders that a client may name paths in. Paths are those of the system: links, `..`, devices, and pipes are refused,
 * so that no path leads out of them. Folders of the client (its roots) can only narrow them.
 */
import { lstat, readdir, realpath } from 'node:fs/promises'
import { isAbsolute, join, normalize, relative, resolve, sep } from 'node:path'
import { ConfigError } from '../../core/errors.js'
import { errnoOf } from '../../core/system-error.js'

/** More entries than folders of models and data have. */
const MOST_ENTRIES = 20_000

interface Root {
  /** As given at the start. */
  given: string
  real: string
}

export class Places {
  readonly #roots: readonly Root[]
  #narrowed: readonly string[] | undefined

  private constructor(roots: readonly Root[]) {
    this.#roots = roots
  }

  /** @throws {ConfigError} for a folder that is not there */
  static async open(folders: readonly string[]): Promise<Places> {
    const roots = folders.map(async (folder) => {
      const given = resolve(folder)
      const real = await realpath(given).catch(() => undefined)
      if (real === undefined || !(await lstat(real)).isDirectory())
        throw new ConfigError(`--allow ${folder}: expected a folder.`, { path: folder })
      return { given, real }
    })
    return new Places(await Promise.all(roots))
  }

  /** Where relative paths begin. */
  get first(): string {
    return this.#roots[0]?.real as string
  }

  get names(): string {
    return (this.#narrowed ?? this.#roots.map(({ real }) => real)).join(', ')
  }

  /** Allows no more than what is also in these folders; undefined: whatever the start allows. */
  async narrow(folders: readonly string[] | undefined): Promise<void> {
    const real = await Promise.all((folders ?? []).map((folder) => realpath(folder).catch(() => undefined)))
    this.#narrowed = folders && real.filter((folder) => folder !== undefined)
  }

  /**
   * Path of a file or folder that is there.
   * @param name of the argument, for messages
   * @throws {ConfigError} for a path that may not be used
   */
  async existing(path: string, name: string): Promise<string> {
    const { place, isThere } = await this.#placed(path, name)
    if (!isThere) throw new ConfigError(`${name}: there is nothing at ${path}.`, { path })
    await this.#checkEntries(place, path, name)
    return place
  }

  /**
   * Path where nothing is yet.
   * @throws {ConfigError} for a path that may not be used
   */
  async free(path: string, name: string): Promise<string> {
    const { place, isThere } = await this.#placed(path, name)
    if (isThere)
      throw new ConfigError(`${name}: ${path} is there already; name a path where nothing is.`, { path })
    return place
  }

  async #placed(path: string, name: string): Promise<{ place: string; isThere: boolean }> {
    if (path === '' || path.includes('\0') || path.split(/[\\/]/).includes('..'))
      throw new ConfigError(`${name}: expected a path without "..".`, { path })
    let absent: string | undefined
    for (const { given, real } of this.#roots) {
      const below = isAbsolute(path) ? (under(given, path) ?? under(real, path)) : normalize(path)
      const place = below === undefined ? undefined : join(real, below)
      if (below === undefined || place === undefined || !this.#isNarrow(place)) continue
      if (await walked(real, below, path, name)) return { place, isThere: true }
      // A relative path is in the first folder that has it, else in the first of all.
      absent ??= place
    }
    if (absent !== undefined) return { place: absent, isThere: false }
    throw new ConfigError(`${name}: ${path} is outside of the folders that may be used: ${this.names}.`, {
      path,
    })
  }

  #isNarrow(place: string): boolean {
    return this.#narrowed?.some((folder) => under(folder, place) !== undefined) ?? true
  }

  /** @throws {ConfigError} for a folder with links out of what may be used, or with what is no file */
  async #checkEntries(place: string, path: string, name: string): Promise<void> {
    if (!(await lstat(place)).isDirectory()) return
    const entries = await readdir(place, { recursive: true, withFileTypes: true })
    if (entries.length > MOST_ENTRIES)
      throw new ConfigError(`${name}: ${path} has more than ${MOST_ENTRIES} files; name a smaller folder.`, {
        path,
      })
    for (const entry of entries) {
      if (entry.isFile() || entry.isDirectory()) continue
      // Snapshots of the hub are links to files beside them.
      const target = entry.isSymbolicLink()
        ? await realpath(join(entry.parentPath, entry.name)).catch(() => undefined)
        : undefined
      const isInside =
        target !== undefined && this.#roots.some(({ real }) => under(real, target) !== undefined)
      if (!isInside || !(await lstat(target)).isFile())
        throw new ConfigError(`${name}: ${path} has ${entry.name}, a link out of it or no file.`, { path })
    }
  }
}

/** The way from a folder to a path in it; undefined for a path elsewhere. */
function under(folder: string, path: string): string | undefined {
  const way = relative(folder, path)
  return way.split(sep)[0] === '..' || isAbsolute(way) ? undefined : way
}

/** Looks at each part of a path. @returns true if all are there */
async function walked(root: string, below: string, path: string, name: string): Promise<boolean> {
  let place = root
  for (const part of below.split(sep).filter((one) => one !== '')) {
    place = join(place, part)
    const stats = await lstat(place).catch((error: unknown) => {
      if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined
      throw new ConfigError(`${name}: ${path} cannot be read.`, { path })
    })
    if (stats === undefined) return false
    if (!stats.isDirectory() && !stats.isFile())
      throw new ConfigError(
        `${name}: ${path} has a link, a device, or a pipe on its way; name the file itself.`,
        { path },
      )
  }
  return true
}
