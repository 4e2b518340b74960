/** results.json on disk: written atomically, with a hash that reveals later edits. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { checkedPath } from '../core/arguments.js'
import { FileFormatError } from '../core/errors.js'
import { isRecord } from '../core/schema-shape.js'
import { writeFileWhole } from '../io/atomic.js'
import { readJsonObject } from '../io/input.js'
import { hashOf } from '../train/checkpoints/run-identity.js'
import { type CompareResults, compareResults } from './results.js'
import { judgedAgain } from './verdict.js'

const NAME = 'results.json'
/** File name of the page of a compare, next to its results. */
export const PAGE = 'compare.html'
const SIZE_LIMIT = 1 << 30

/** Path of results.json, given the output folder of a compare or the file itself. */
export function resultsPath(path: string): string {
  return path.endsWith('.json') ? path : join(path, NAME)
}

/** True if every entry has been trained with every seed. */
export function isComplete({ entries, seeds }: CompareResults): boolean {
  return entries.every(({ cells }) => cells.length === seeds.length)
}

/** The results with a hash over all other fields. */
export function sealed(results: CompareResults): CompareResults {
  const { hash, ...rest } = results
  return { ...results, hash: hashOf(rest) }
}

/**
 * Reads the results of a compare.
 * @param path of the file, or of its folder
 * @returns the results as `compare()` returned them, or the current state of an unfinished compare
 * @throws {FileFormatError} when the file is missing, is not from a compare, or was edited since it was written
 */
export async function readResults(path: string): Promise<CompareResults> {
  const file = resultsPath(checkedPath(path, 'readResults()', 'path'))
  if (!existsSync(file))
    throw new FileFormatError(
      `${file} does not exist; expected results.json of \`lowrank compare\`, or its folder.`,
      { path: file },
    )
  const raw = await readJsonObject(file, SIZE_LIMIT)
  if (raw.kind !== 'compare' || ![1, 2].includes(raw.version as number))
    throw new FileFormatError(
      `${file} is no result of a compare that this version reads: kind is ${JSON.stringify(raw.kind) ?? 'absent'} and version ${JSON.stringify(raw.version) ?? 'absent'}, expected "compare" and 1 or 2.`,
      { path: file, kind: raw.kind ?? null, version: raw.version ?? null },
    )
  const { hash, ...rest } = raw
  const old = hasLetters(raw)
  const parsed = compareResults.safeParse(upgraded(old ? { ...raw, statistics: null } : raw), {
    jitless: true,
  })
  if (hash !== hashOf(rest) || !parsed.success)
    throw new FileFormatError(
      `${file} was changed after lowrank wrote it: its contents do not match its hash. Restore the file, or run the compare again with --force.`,
      { path: file, hash: hash ?? null },
    )
  return old && isComplete(parsed.data) ? judgedAgain(parsed.data) : parsed.data
}

/** Writes results.json atomically into an existing folder, with the hash of its contents. */
export async function writeResults(folder: string, results: CompareResults): Promise<void> {
  await writeFileWhole(resultsPath(folder), `${JSON.stringify(sealed(results))}\n`)
}

/** True of statistics that earlier versions wrote: letters of groups in place of verdicts. They are computed again. */
function hasLetters({ statistics }: Record<string, unknown>): boolean {
  return isRecord(statistics) && Object.values(statistics).some((one) => isRecord(one) && 'groups' in one)
}

/** Results of version 1, which have one search for all seeds, in the form of today. */
function upgraded(raw: Record<string, unknown>): Record<string, unknown> {
  if (raw.version !== 1) return raw
  const { entries, base } = raw as unknown as {
    entries: { search?: object }[]
    base: { validation_loss: number } | null
  }
  const withSearches = entries.map(({ search, ...entry }) => ({
    ...entry,
    ...(search && { searches: [{ seed: null, start: base?.validation_loss ?? null, ...search }] }),
  }))
  return { ...raw, entries: withSearches }
}
