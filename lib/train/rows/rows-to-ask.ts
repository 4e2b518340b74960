/** The choice of rows that a run asks: some of those that it has kept as text. */
import type { AskedRow } from '../../data/asked-rows.js'

/** The rows to ask. */
export interface AskedRows {
  rows: readonly AskedRow[]
  /** True if the run did not train on them. */
  heldOut: boolean
}

/**
 * The held-out rows that can be asked.
 * @param heldOut indices of the held-out rows of `train`, in ascending order
 */
export function unseenRows(
  train: readonly AskedRow[],
  separate: readonly AskedRow[] | null,
  heldOut: Uint32Array | undefined,
): readonly AskedRow[] {
  const apart = new Set(heldOut)
  return separate ?? train.filter(({ index }) => apart.has(index))
}

/** The first `count` held-out rows, or training rows if there are none. */
export function chooseRows(
  count: number,
  train: readonly AskedRow[],
  unseen: readonly AskedRow[],
): AskedRows {
  return unseen.length > 0
    ? { rows: unseen.slice(0, count), heldOut: true }
    : { rows: train.slice(0, count), heldOut: false }
}

/** JSON of the tools that all rows have; undefined if they have none, or different ones. */
export function sharedTools([first, ...others]: readonly AskedRow[]): string | undefined {
  return others.every(({ tools }) => tools === first?.tools) ? first?.tools : undefined
}
