/** Splits off the held-out rows of a dataset, such that a run and later evaluations select the same rows. */
import * as z from 'zod'
import { ConfigError } from '../../core/errors.js'
import { integer, positive, text } from '../../core/schema.js'
import type { EncodedDataset } from '../../data/encoded-dataset.js'
import { splitHeldOut, splitHeldOutGroups } from '../../data/pack.js'
import { ascending, shuffle } from '../../data/permutation.js'

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
  if (groupBy === undefined) {
    const origins = originsOf(data)
    return origins === undefined
      ? splitHeldOut(data.length, { fraction, seed })
      : splitHeldOutGroups(origins, { fraction, seed }, data.wholeRows ? 'chats' : 'rows')
  }
  const groups = ascending(data.length).map((row) => data.rowGroup(row))
  return splitHeldOutGroups(groups, { fraction, seed })
}

/**
 * Sets training rows aside for validation, by `drawRows`.
 * @throws {ConfigError} when that would leave none to train on
 */
export function setAside(
  data: EncodedDataset,
  rows: Uint32Array,
  count: number,
  ...counters: number[]
): { drawn: Uint32Array; others: Uint32Array } {
  const split = drawRows(data, rows, count, ...counters)
  if (split.others.length > 0) return split
  const [what, advice] = data.wholeRows
    ? ['of one chat', 'add chats, or set reasoning_history: keep']
    : ['copies of one', 'add rows']
  throw new ConfigError(
    `all ${rows.length} examples are ${what}, so none can be set aside for validation; ${advice}.`,
    { rows: rows.length },
  )
}

/**
 * Draws rows to validate on; examples of one origin stay together.
 * @param rows to draw from
 * @param count number of rows to draw, or fewer where the next origin has too many
 * @param counters the same ones draw the same rows
 * @returns row indices, both in ascending order
 */
export function drawRows(
  data: EncodedDataset,
  rows: Uint32Array,
  count: number,
  ...counters: number[]
): { drawn: Uint32Array; others: Uint32Array } {
  const order = shuffle(rows.slice(), ...counters)
  const origins = originsOf(data)
  if (origins === undefined) return { drawn: order.slice(0, count).sort(), others: order.slice(count).sort() }
  const byOrigin = new Map<number, number[]>()
  for (const row of order) {
    const origin = origins[row] as number
    byOrigin.set(origin, [...(byOrigin.get(origin) ?? []), row])
  }
  const drawn = new Set<number>()
  for (const examples of byOrigin.values()) {
    if (drawn.size > 0 && drawn.size + examples.length > count) break
    for (const row of examples) drawn.add(row)
  }
  return { drawn: rows.filter((row) => drawn.has(row)), others: rows.filter((row) => !drawn.has(row)) }
}

/**
 * `[examples]`: number of what an example is from: its chat, if a chat makes several, else its row. Copies in a file that
 * is listed again have the same. Undefined if every example is alone.
 */
function originsOf(data: EncodedDataset): Uint32Array | undefined {
  if (!data.wholeRows && !data.hasCopies) return undefined
  const numbers = new Map<string, number>()
  let [start, file] = [0, 0]
  return ascending(data.length).map((row) => {
    const own = data.file(row)
    if (own !== file) [start, file] = [row, own]
    const origin = `${data.wholeRows ? data.place(row).line : row - start} ${data.filePath(row)}`
    const number = numbers.get(origin) ?? numbers.size
    numbers.set(origin, number)
    return number
  })
}
