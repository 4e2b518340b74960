/** Splits off the held-out rows of a dataset, such that a run and later evaluations select the same rows. */
import * as z from 'zod'
import { ConfigError } from '../core/errors.js'
import { integer, positive, text } from '../core/schema.js'
import type { EncodedDataset } from '../data/encoded-dataset.js'
import { splitHeldOut, splitHeldOutGroups } from '../data/pack.js'
import { ascending, shuffle } from '../data/permutation.js'

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
  if (groupBy === undefined && data.wholeRows)
    return splitHeldOutGroups(chatsOf(data), { fraction, seed }, 'chats')
  if (groupBy === undefined) return splitHeldOut(data.length, { fraction, seed })
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
  throw new ConfigError(
    `all ${rows.length} examples are of one chat, so none can be set aside for validation; add chats, or set reasoning_history: keep.`,
    { rows: rows.length },
  )
}

/**
 * Draws rows to validate on; examples of one chat stay together.
 * @param rows to draw from
 * @param count number of rows to draw, or fewer where the next chat has too many
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
  if (!data.wholeRows) return { drawn: order.slice(0, count).sort(), others: order.slice(count).sort() }
  const chats = chatsOf(data)
  const byChat = new Map<number, number[]>()
  for (const row of order) {
    const chat = chats[row] as number
    byChat.set(chat, [...(byChat.get(chat) ?? []), row])
  }
  const drawn = new Set<number>()
  for (const examples of byChat.values()) {
    if (drawn.size > 0 && drawn.size + examples.length > count) break
    for (const row of examples) drawn.add(row)
  }
  return { drawn: rows.filter((row) => drawn.has(row)), others: rows.filter((row) => !drawn.has(row)) }
}

/** `[examples]`: number of the chat that an example is from; the same for both copies in a file that is listed twice. */
function chatsOf(data: EncodedDataset): Uint32Array {
  const chats = new Map<string, number>()
  return ascending(data.length).map((row) => {
    const { path, line } = data.place(row)
    const place = `${line} ${path}`
    const chat = chats.get(place) ?? chats.size
    chats.set(place, chat)
    return chat
  })
}
