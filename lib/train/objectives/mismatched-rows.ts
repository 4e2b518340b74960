/** Rows of one prompt with the answer to another, on which the divergence of a model from its reference is estimated. */
import { IGNORE } from '../../data/encoded-row.js'
import type { TokenRow } from '../../losses/token-rows.js'
import type { Examples } from '../rows/data.js'

/** Earlier rows that are searched for one with another prompt. */
const LOOK_BACK = 32

/** The rows of a dataset, each with the answer of the closest row before it that has another prompt. */
export class MismatchedRows {
  readonly #examples: Examples
  readonly #maxLength: number
  /** Place of each row among those used. */
  readonly #places: ReadonlyMap<number, number>

  /** @param maxLength tokens after which a row is truncated */
  constructor(examples: Examples, maxLength: number) {
    this.#examples = examples
    this.#maxLength = maxLength
    this.#places = new Map(Array.from(examples.rows, (row, place) => [row, place]))
  }

  of(row: number): TokenRow {
    const { data } = this.#examples
    const other = this.#other(row)
    const prompt = this.#prompt(row)
    const start = this.#prompt(other).length
    const length = Math.min(prompt.length + data.rowLength(other) - start, this.#maxLength)
    const tokens = new Int32Array(length)
    tokens.set(prompt)
    const answer = length - prompt.length
    tokens.set(data.ids(other).subarray(start, start + answer), prompt.length)
    const labels = data.labels(other)
    const weights = Float64Array.from(tokens, (_, t) =>
      t > 0 && t >= prompt.length && labels[start + t - prompt.length] !== IGNORE ? 1 : 0,
    )
    return { tokens, weights }
  }

  #other(row: number): number {
    const { rows } = this.#examples
    const place = this.#places.get(row) as number
    const before = (back: number) => rows[(place - back + rows.length) % rows.length] as number
    for (let back = 1; back <= LOOK_BACK && back < rows.length; back++)
      if (!sameIds(this.#prompt(row), this.#prompt(before(back)))) return before(back)
    return before(1)
  }

  /** Ids before the first token that is trained on. */
  #prompt(row: number): Int32Array {
    const { data } = this.#examples
    const start = data.labels(row).findIndex((label) => label !== IGNORE)
    return data.ids(row).subarray(0, start)
  }
}

function sameIds(one: Int32Array, other: Int32Array): boolean {
  return one.length === other.length && one.every((id, t) => id === other[t])
}
