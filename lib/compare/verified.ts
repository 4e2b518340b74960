/** What verifications found, as kept in the results of a compare. */
import type { CompareResults } from './results.js'

/** A cell that a verification trained again. */
export type VerifiedRecord = NonNullable<CompareResults['verified']>[number]

/** The records of cells as they are now. A cell with another hash has changed since, so its record says nothing. */
export function verifiedNow({ entries, verified = [] }: CompareResults): VerifiedRecord[] {
  const hashes = new Map(entries.flatMap(({ cells }) => cells.map(({ id, hash }) => [id, hash])))
  return verified.filter(({ id, expected }) => hashes.get(id) === expected)
}

/** What was verified, in words, and a sentence for each cell that became another one. */
export function verifiedWords(results: CompareResults): { told: string; wrong: string[] } {
  const found = verifiedNow(results)
  const equal = found.filter(({ same }) => same)
  const wrong = found.flatMap(({ id, same, level, at, difference }) =>
    same ? [] : [`${id} was trained again on ${at.slice(0, 10)} (${level}) with other bits: ${difference}.`],
  )
  if (found.length === 0) return { told: 'Not verified yet: run lowrank compare verify results.json.', wrong }
  const all = results.entries.reduce((sum, { cells }) => sum + cells.length, 0)
  const cells = new Set(equal.map(({ id }) => id)).size
  const levels = [...new Set(found.map(({ level }) => level))].join(' and ')
  const days = [...new Set(found.map(({ at }) => at.slice(0, 10)))].toSorted()
  const when = days.length === 1 ? `on ${days[0]}` : `from ${days[0]} to ${days.at(-1)}`
  const told = `${cells} of ${all} cells ${cells === 1 ? 'was' : 'were'} trained again with equal bits, on the instruction set ${levels}, ${when}.`
  return { told, wrong }
}
