/**
 * SHA256SUMS: the hashes of all files in a folder, in the format of sha256sum, so that `sha256sum -c SHA256SUMS` can
 * verify it. It is written last, so its presence means the folder is complete.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LowrankError } from '../core/errors.js'
import { writeFileWhole } from './atomic.js'
import { readInto, readText, withInputFile } from './input.js'
import { fileInside } from './inside.js'

export const SUMS = 'SHA256SUMS'

const SIZE_LIMIT = 1 << 20
/** Bytes hashed before yielding to the event loop. */
const PIECE = 1 << 20
const LINE = /^([0-9a-f]{64}) [ *]([\w-][\w.-]*(?:\/[\w-][\w.-]*)*)$/

/** Hashes every file in a folder and its subfolders, and writes SHA256SUMS. */
export async function writeSums(folder: string): Promise<void> {
  const names = (await filesIn(folder)).filter((name) => name !== SUMS).sort()
  let text = ''
  for (const name of names) text += `${await hashFile(join(folder, name))}  ${name}\n`
  await writeFileWhole(join(folder, SUMS), text)
}

/** Folders verified by this process, with the size and modification time of each file at that time. */
const found = new Map<string, string>()

/**
 * Verifies a folder against its SHA256SUMS. A folder already verified by this process is hashed again only if the size
 * or time of a file has changed.
 * @param required names that must be listed
 * @returns a description of the damage; undefined if every file is intact
 */
export async function damageIn(folder: string, required: readonly string[]): Promise<string | undefined> {
  try {
    const sums = new Map<string, string>()
    if (!existsSync(join(folder, SUMS))) return `it has no ${SUMS}`
    for (const line of (await readText(await fileInside(folder, SUMS), SIZE_LIMIT))
      .split('\n')
      .filter(Boolean)) {
      const [, sum, name] = LINE.exec(line) ?? []
      if (sum === undefined || name === undefined) return `its ${SUMS} is damaged`
      sums.set(name, sum)
    }
    for (const name of required) if (!sums.has(name)) return `its ${SUMS} does not list ${name}`
    const state = await stateOf(folder, [SUMS, ...sums.keys()])
    if (found.get(folder) === state) return undefined
    for (const [name, sum] of sums) {
      if (!existsSync(join(folder, name))) return `it has no ${name}`
      if ((await hashFile(await fileInside(folder, name))) !== sum) return `${name} is damaged`
    }
    found.set(folder, state)
    return undefined
  } catch (error) {
    if (error instanceof LowrankError) return error.message
    throw error
  }
}

async function stateOf(folder: string, names: readonly string[]): Promise<string> {
  const parts = names.map(async (name) => {
    const stats = await stat(join(folder, name), { bigint: true }).catch(() => undefined)
    return [name, stats?.size, stats?.mtimeNs, stats?.ino].join(' ')
  })
  return (await Promise.all(parts)).join('\n')
}

/** Names of all files; those in subfolders contain a slash. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const names = entries.map(async (entry) =>
    entry.isDirectory()
      ? (await filesIn(join(folder, entry.name))).map((name) => `${entry.name}/${name}`)
      : [entry.name],
  )
  return (await Promise.all(names)).flat()
}

/** @returns SHA-256 in hex */
async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  const buffer = new Uint8Array(PIECE)
  await withInputFile(path, async (file) => {
    for (let at = 0; at < file.size; at += PIECE) {
      const piece = buffer.subarray(0, Math.min(PIECE, file.size - at))
      await readInto(file, piece, at)
      hash.update(piece)
    }
  })
  return hash.digest('hex')
}
