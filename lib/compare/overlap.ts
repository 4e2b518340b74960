/** Checks that no test row is also a row to train on, which an adapter could learn by heart. */
import { createHash } from 'node:crypto'
import { ConfigError } from '../core/errors.js'
import type { EncodedDataset } from '../data/encoded-dataset.js'
import type { Examples } from '../train/rows/data.js'

/** @throws {ConfigError} naming the first test row with the tokens and labels of a row to train on */
export function checkApart(pool: Examples, test: Examples): void {
  const tested = new Map<string, number>()
  for (const row of test.rows) tested.set(contentOf(test.data, row), row)
  const found = new Map<number, number>()
  for (const row of pool.rows) {
    const same = tested.get(contentOf(pool.data, row))
    if (same !== undefined && !found.has(same)) found.set(same, row)
  }
  const [first] = found
  if (first === undefined) return
  const [testRow, trainRow] = first
  const named = (data: EncodedDataset, row: number) => {
    const { path, line } = data.place(row)
    return `${path}, line ${line}`
  }
  const count = found.size
  throw new ConfigError(
    `compare: ${count} of ${tested.size} test rows ${count === 1 ? 'is' : 'are'} also among the rows to train on; the first is ${named(test.data, testRow)}, the same as ${named(pool.data, trainRow)}. Remove them from one of the two, since strategies would be compared by what they learn by heart.`,
    { rows: count, test: named(test.data, testRow), train: named(pool.data, trainRow) },
  )
}

function contentOf(data: EncodedDataset, row: number): string {
  return createHash('sha1').update(data.ids(row)).update(data.labels(row)).digest('base64')
}
