/** Recomputes the statistics of a finished compare, e.g. with a newer version, without training anything. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { ConfigError } from '../core/errors.js'
import { type Margin, marginsOf, withMargins } from './margin.js'
import type { CompareResults } from './results.js'
import { isComplete, readResults, resultsPath, sealed, writeResults } from './results-file.js'
import { judgedAgain } from './verdict.js'

/** True if the path is results.json of a compare, or a folder that contains one. */
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

/**
 * Recomputes the statistics, and rewrites them and the page if they changed.
 * @param path of results.json, or of its folder
 * @param margin differences that do not matter; null: those of the results
 * @throws {ConfigError} for an unfinished compare, or a margin of an unknown metric
 * @throws {FileFormatError} for results that were edited by hand
 */
export async function reviewed(path: string, margin: Margin | null = null): Promise<CompareResults> {
  const earlier = await readResults(path)
  const file = resultsPath(path)
  if (!isComplete(earlier))
    throw new ConfigError(
      `compare: ${file} has cells that are not trained yet. Continue with: ${earlier.command ?? 'the same compare and --resume'}`,
      { path: file, command: earlier.command },
    )
  const margins = marginsOf(margin, earlier.metrics, earlier.margins)
  const results = sealed(judgedAgain(withMargins(earlier, margins)))
  if (results.hash === earlier.hash) return results
  await writeResults(path, results)
  if (file !== path) {
    const { writePage } = await import('./page.js')
    await writePage(dirname(file), results)
  }
  return results
}
