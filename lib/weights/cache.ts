/**
 * Weights as they are held in memory, kept on the disk so that they are quantized once and mapped from then on: one
 * file for each model, its content and how it is held. What is there may be removed at any time; it is made again.
 */
import { createHash } from 'node:crypto'
import { chmod, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
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
  /** True if files are kept. */
  keeps: boolean
  /** Most bytes of all files together; the ones that were not used for longest go first. */
  limitBytes: number
}

const DEFAULT_LIMIT = 20 * 2 ** 30
const ENDING = '.weights'

/** @throws ConfigError when LOWRANK_WEIGHT_CACHE_LIMIT is no size */
export function weightCacheSettings(
  env: Readonly<Record<string, string | undefined>> = process.env,
): WeightCacheSettings {
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
  /** Path of the model, for the name of the file. */
  path: string
  /** Content hash of the model's files. */
  fingerprint: string
  /** Files that hold the tensors. */
  files: readonly string[]
  /** Quantization of the linears, and of embedding and head if it is not the default, for the name of the file. */
  quantization: string
  /** Storage format of each weight. */
  formats: Readonly<Record<string, string>>
}

/**
 * The key that the file has to carry: content, formats and, since the content hash takes samples only, when the model's
 * files were last written.
 */
export async function weightKey({ fingerprint, files, formats }: WeightOrigin): Promise<string> {
  const times = await Promise.all([...new Set(files)].map(async (file) => (await stat(file)).mtimeMs))
  return createHash('sha256')
    .update(JSON.stringify([fingerprint, times, formats]))
    .digest('hex')
}

/** Path of the file, in words that tell the user what it is. */
export function weightPath(folder: string, { path, quantization }: WeightOrigin, key: string): string {
  const name = basename(path, '.gguf').replace(/[^\w.-]+/g, '_')
  return join(folder, `${name}.${quantization}.${key.slice(0, 16)}${ENDING}`)
}

/**
 * Makes the folder, for its owner alone.
 * @throws ConfigError for one that others could put weights into; WriteError when it cannot be made
 */
export async function ownWeightFolder(folder: string): Promise<void> {
  const before = await stat(folder).catch(() => undefined)
  if (before === undefined) {
    await makeFolder(folder)
    await chmod(folder, 0o700).catch(() => undefined)
  }
  const { uid, mode } = await stat(folder)
  const user = process.getuid?.()
  if (user === undefined) return // Windows has access lists in place of modes, and a profile's are its owner's
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
 * @param write puts the file under the name that it is given; if it throws, nothing is left behind
 * @throws WriteError when the file system refuses
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

/** Removes what was not used for longest until so many bytes more fit, and what was left half written. */
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

/** A file of the cache. */
export interface WeightFileEntry {
  path: string
  /** Bytes. */
  size: number
  /** Time of the last use, ms. */
  used: number
}

/** The files of the cache, the last used first. */
export async function listWeightFiles(folder: string): Promise<WeightFileEntry[]> {
  const files: WeightFileEntry[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    const stats = name.endsWith(ENDING) ? await stat(path).catch(() => undefined) : undefined
    if (stats?.isFile()) files.push({ path, size: stats.size, used: await lastUsed(path) })
  }
  return files.sort((a, b) => b.used - a.used)
}
