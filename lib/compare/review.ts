/** The statistics of a finished compare, computed anew, as by a newer version; nothing is trained. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { ConfigError } from '../core/errors.js'
import type { CompareResults } from './results.js'
import { readResults, resultsPath, sealed, writeResults } from './results-file.js'
import { judgedAgain } from './verdict.js'

/** True for results.json of a compare, or a folder that has one. */
export function isCompare(path: string): boolean {
  const file = resultsPath(path)
  if (!existsSync(file) || !statSync(file).isFile()) return false
  const head = Buffer.alloc(200)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, head)
  } finally {
    closeSync(descriptor)
  }
  return head.includes('"kind":"compare"')
}

/** True once every entry is trained with every seed. */
export function isComplete({ entries, seeds }: CompareResults): boolean {
  return entries.every(({ cells }) => cells.length === seeds.length)
}

/**
 * Computes the statistics anew, and writes them and the page where they have changed.
 * @param path of results.json, or of its folder
 * @throws {ConfigError} for a compare that is not finished
 * @throws {FileFormatError} for results that were changed by hand
 */
export async function reviewed(path: string): Promise<CompareResults> {
  const earlier = await readResults(path)
  const file = resultsPath(path)
  if (!isComplete(earlier))
    throw new ConfigError(
      `compare: ${file} has cells that are not trained yet. Continue with: ${earlier.command ?? 'the same compare and --resume'}`,
      { path: file, command: earlier.command },
    )
  const results = sealed(judgedAgain(earlier))
  if (results.hash === earlier.hash) return results
  await writeResults(path, results)
  if (file !== path) {
    const { writePage } = await import('./page.js')
    await writePage(dirname(file), results)
  }
  return results
}
