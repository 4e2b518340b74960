/**
 * Disk cache of weights in their in-memory format, so that they are quantized once and memory-mapped afterward. There
 * is one file per model content and storage choice. Files may be deleted at any time and are then recreated.
 */
import { createHash } from 'node:crypto'
import { chmod, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Environment } from '../core/environment.js'
import { ConfigError } from '../core/errors.js'
import { parseBytes } from '../core/schema.js'
import { hubSettings } from '../hub/settings.js'
import { PRIVATE, syncFolder } from '../io/atomic.js'
import { makeFolder } from '../io/atomic-folder.js'
import { cleanUp } from '../io/cleanup.js'
import { movedOver } from '../io/move.js'
import { finished, removeLeftovers, temporaryBeside } from '../io/temporary.js'
import { lastUsed, recordWeights, removeWeightFile } from './record.js'

export interface WeightCacheSettings {
  folder: string
  /** True if the cache is enabled. */
  keeps: boolean
  /** Maximum total size of all files; the least recently used are deleted first. */
  limitBytes: number
}

const DEFAULT_LIMIT = 20 * 2 ** 30
const ENDING = '.weights'

/** @throws ConfigError when LOWRANK_WEIGHT_CACHE_LIMIT is not a valid size */
export function weightCacheSettings(env: Environment = process.env): WeightCacheSettings {
  const place = env.LOWRANK_WEIGHT_CACHE ?? ''
  const off = /^(0|off|no|false)$/i.test(place)
  const given = env.LOWRANK_WEIGHT_CACHE_LIMIT || undefined
  const limitBytes = given === undefined ? DEFAULT_LIMIT : parseBytes(given)
  if (limitBytes === undefined)
    throw new ConfigError(
      `LOWRANK_WEIGHT_CACHE_LIMIT is ${JSON.stringify(given)}, expected a size such as 20GiB.`,
      { value: given },
    )
  const folder = off || place === '' ? join(hubSettings(env).assetsDir, 'lowrank', 'weights') : resolve(place)
  return { folder, keeps: !off, limitBytes }
}

/** Source of a weight file. */
export interface WeightOrigin {
  /** Path of the model, used in the file name. */
  path: string
  /** Content hash of the model's files. */
  fingerprint: string
  /** Files that hold the tensors. */
  files: readonly string[]
  /** Quantization of the linear layers, and of the embedding and head if not the default; used in the file name. */
  quantization: string
  /** Storage format of each weight. */
  formats: Readonly<Record<string, string>>
}

/**
 * Key of a cached file: content hash, storage formats, and, since the content hash only samples the files, their
 * modification times.
 */
export async function weightKey({ fingerprint, files, formats }: WeightOrigin): Promise<string> {
  const times = await Promise.all([...new Set(files)].map(async (file) => (await stat(file)).mtimeMs))
  return createHash('sha256')
    .update(JSON.stringify([fingerprint, times, formats]))
    .digest('hex')
}

/** Path of a cached file, with a name that identifies the model. */
export function weightPath(folder: string, { path, quantization }: WeightOrigin, key: string): string {
  const name = basename(path, '.gguf').replace(/[^\w.-]+/g, '_')
  return join(folder, `${name}.${quantization}.${key.slice(0, 16)}${ENDING}`)
}

/**
 * Creates the folder with access only for its owner.
 * @throws ConfigError for a folder in which others could place weights; WriteError when it cannot be created
 */
export async function ownWeightFolder(folder: string): Promise<void> {
  const before = await stat(folder).catch(() => undefined)
  if (before === undefined) {
    await makeFolder(folder)
    await chmod(folder, 0o700).catch(() => undefined)
  }
  const { uid, mode } = await stat(folder)
  const user = process.getuid?.()
  if (user === undefined) return // Windows uses access lists instead of modes, and a user's profile belongs to the user
  if (uid !== user) throw notOwn(folder, `belongs to user ${uid}, not to ${user}`)
  if (mode & 0o002) throw notOwn(folder, 'is writable by everyone')
}

function notOwn(folder: string, why: string): ConfigError {
  return new ConfigError(
    `the folder for cached weights, ${folder}, ${why}, so anyone could have changed the weights in it. Set LOWRANK_WEIGHT_CACHE to a private folder (chmod 700) or to off.`,
    { folder },
  )
}

/**
 * Writes a file atomically.
 * @param write writes to the given path; if it throws, nothing is left behind
 * @throws WriteError when the disk is full or refuses the write
 */
export async function writeWeightFile(
  path: string,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  await ownWeightFolder(dirname(path))
  const temporary = temporaryBeside(path)
  try {
    await write(temporary)
    await chmod(temporary, PRIVATE)
    await removeWeightFile(path)
    await movedOver(temporary, path)
    await recordWeights(path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  } finally {
    finished(temporary)
  }
  await syncFolder(dirname(path))
}

/** Deletes incomplete files, and the least recently used ones until `bytes` more bytes fit. */
export async function makeRoom({ folder, limitBytes }: WeightCacheSettings, bytes: number): Promise<void> {
  await removeLeftovers(folder)
  const files = await listWeightFiles(folder)
  let total = bytes + files.reduce((sum, { size }) => sum + size, 0)
  for (const { path, size } of files.reverse()) {
    if (total <= limitBytes) return
    await cleanUp(path, () => removeWeightFile(path))
    total -= size
  }
}

/** A cached weight file. */
export interface WeightFileEntry {
  path: string
  /** In bytes. */
  size: number
  /** Time of last use, in ms. */
  used: number
}

/** The cached files, most recently used first. */
export async function listWeightFiles(folder: string): Promise<WeightFileEntry[]> {
  const files: WeightFileEntry[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    const stats = name.endsWith(ENDING) ? await stat(path).catch(() => undefined) : undefined
    if (stats?.isFile()) files.push({ path, size: stats.size, used: await lastUsed(path) })
  }
  return files.sort((a, b) => b.used - a.used)
}
