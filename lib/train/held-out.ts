/** Splits off the held-out rows of a dataset, such that a run and later evaluations select the same rows. */
import * as z from 'zod'
import { integer, positive, text } from '../core/schema.js'
import type { EncodedDataset } from '../data/encoded-dataset.js'
import { splitHeldOut, splitHeldOutGroups } from '../data/pack.js'
import { ascending } from '../data/permutation.js'

/** Held-out share of a dataset. The same options and rows give the same split. */
export interface HeldOutShare {
  /** `evalFraction` of the run, above 0 and below 1. */
  fraction: number
  /** `seed` of the run. */
  seed: number
  /**
   * Column that identifies the client of each row: whole clients are held out, as in private runs. Default:
   * single rows.
   */
  groupBy?: string
}

const SHARE = 'a number between 0 and 1'
export const heldOutSchema = z.strictObject({
  fraction: positive(SHARE).lt(1, { error: SHARE }),
  seed: integer(0),
  groupBy: text('the name of a column').optional(),
})

/**
 * @param data tokenized rows, with their groups if whole groups are held out
 * @returns row indices, both in ascending order
 * @throws {ConfigError} when no rows would be left for training, or none would be held out
 */
export function splitRows(
  data: EncodedDataset,
  { fraction, seed, groupBy }: HeldOutShare,
): { train: Uint32Array; heldOut: Uint32Array } {
  if (groupBy === undefined && data.wholeRows) return splitHeldOutGroups(chatsOf(data), { fraction, seed })
  if (groupBy === undefined) return splitHeldOut(data.length, { fraction, seed })
  const groups = ascending(data.length).map((row) => data.rowGroup(row))
  return splitHeldOutGroups(groups, { fraction, seed })
}

/** `[examples]`: number of the chat that an example is from. */
function chatsOf(data: EncodedDataset): Uint32Array {
  let chat = 0
  return ascending(data.length).map((row) => {
    const [before, now] = [data.place(Math.max(0, row - 1)), data.place(row)]
    if (before.path !== now.path || before.line !== now.line) chat++
    return chat
  })
}
