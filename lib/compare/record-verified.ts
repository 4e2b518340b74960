/** Records in results what a verification found. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LowrankError } from '../core/errors.js'
import { lockRun } from '../train/folders/run-lock.js'
import { PAGE, readResults, resultsPath, sealed, writeResults } from './results-file.js'
import { type VerifiedRecord, verifiedNow } from './verified.js'

/**
 * Adds records to the results in a file and to the page beside it.
 * @returns why they cannot be written, since the outcome matters more than its record; null if they are
 */
export async function recordVerified(
  file: string,
  records: readonly VerifiedRecord[],
): Promise<string | null> {
  const folder = dirname(file)
  try {
    const lock = await lockRun(folder)
    try {
      const results = await readResults(file)
      const keyOf = ({ id, level, addon }: VerifiedRecord) => [id, level, addon].join()
      const all = new Map([...verifiedNow(results), ...records].map((one) => [keyOf(one), one]))
      const whole = sealed({ ...results, verified: verifiedNow({ ...results, verified: [...all.values()] }) })
      await writeResults(file, whole)
      if (file === resultsPath(folder) && existsSync(join(folder, PAGE))) {
        const { writePage } = await import('./page.js')
        await writePage(folder, whole)
      }
    } finally {
      lock.release()
    }
    return null
  } catch (error) {
    if (error instanceof LowrankError) return error.message
    throw error
  }
}
