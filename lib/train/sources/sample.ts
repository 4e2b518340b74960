/** Draws a representative sample of a dataset. */
import type { EncodedDataset } from '../../data/encoded-dataset.js'
import { ascending, shuffle } from '../../data/permutation.js'

/** Separates this random order from those of epochs and held-out rows. */
const SAMPLE = 0x73616d70

/**
 * Draws a share of the rows from the seed. If answers repeat, as in classification, every answer gets its
 * share, and at least one row; otherwise answers are ignored.
 * @param rows indices of the rows to draw from
 * @returns indices in ascending order
 */
export function sampleRows(
  data: Pick<EncodedDataset, 'labels'>,
  rows: Uint32Array,
  fraction: number,
  seed: number,
): Uint32Array {
  const classes = new Map<string, number[]>()
  for (const row of rows) {
    const answer = data
      .labels(row)
      .filter((label) => label !== -100)
      .join()
    const members = classes.get(answer)
    if (members === undefined) classes.set(answer, [row])
    else members.push(row)
  }
  const repeat = classes.size <= rows.length / 2
  const strata = repeat ? [...classes.values()] : [[...rows]]
  const picked = strata.flatMap((members, i) => {
    const order = shuffle(ascending(members.length), seed, SAMPLE, i)
    const count = Math.max(1, Math.round(fraction * members.length))
    return [...order.subarray(0, count)].map((at) => members[at] as number)
  })
  return Uint32Array.from(picked).sort()
}
