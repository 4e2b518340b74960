/**
 * Record of a cached weight file: the hash of its bytes, and the last time they were verified. They are verified once
 * per boot, and again if the file was modified.
 */
import { createHash } from 'node:crypto'
import { open, readFile, stat, utimes } from 'node:fs/promises'
import * as z from 'zod'
import { PRIVATE, writeFileWhole } from '../io/atomic.js'
import { bootId } from '../io/boot-id.js'
import { removed } from '../io/move.js'

const PIECE = 4 << 20

const recordSchema = z.object({
  sha256: z.string(),
  /** Modification time of the file when it was verified, in ms. */
  mtimeMs: z.number(),
  /** Identifies the boot in which it was verified. */
  boot: z.string(),
})
type WeightRecord = z.infer<typeof recordSchema>

const recordOf = (path: string) => `${path}.json`

/** Records the hash of a newly written file. */
export async function recordWeights(path: string): Promise<void> {
  await write(path, await hashOf(path))
}

/**
 * Checks that a file has its original bytes.
 * @param thoroughly read it even if it was already verified since boot
 */
export async function hasItsBytes(path: string, thoroughly = false): Promise<boolean> {
  const record = await read(path)
  if (record === undefined) return false
  const { mtimeMs } = await stat(path)
  const seen = bootId() !== '' && record.boot === bootId() && record.mtimeMs === mtimeMs
  if (seen && !thoroughly) return true
  if ((await hashOf(path)) !== record.sha256) return false
  await write(path, record.sha256)
  return true
}

/** Updates the time of last use. */
export async function touchWeightFile(path: string): Promise<void> {
  const now = new Date()
  await utimes(recordOf(path), now, now).catch(() => undefined)
}

/** Time of last use of a file, in ms. */
export async function lastUsed(path: string): Promise<number> {
  const stats = await stat(recordOf(path)).catch(() => stat(path))
  return stats.mtimeMs
}

/** Deletes a file and its record. */
export async function removeWeightFile(path: string): Promise<void> {
  await removed(path)
  await removed(recordOf(path))
}

async function read(path: string): Promise<WeightRecord | undefined> {
  try {
    return recordSchema.parse(JSON.parse(await readFile(recordOf(path), 'utf8')))
  } catch {
    return undefined
  }
}

async function write(path: string, sha256: string): Promise<void> {
  const { mtimeMs } = await stat(path)
  const record: WeightRecord = { sha256, mtimeMs, boot: bootId() }
  await writeFileWhole(recordOf(path), JSON.stringify(record), PRIVATE)
}

async function hashOf(path: string): Promise<string> {
  const handle = await open(path)
  try {
    const hash = createHash('sha256')
    const buffer = new Uint8Array(PIECE)
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, PIECE)
      if (bytesRead === 0) return hash.digest('hex')
      hash.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await handle.close()
  }
}
