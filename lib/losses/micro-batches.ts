/** Packs rows into micro-batches, and maps log-probabilities back to rows. */
import { IGNORE } from '../data/encoded-row.js'
import type { MicroBatch } from '../native/addon.js'
import type { ScoredRow } from './rows.js'
import type { Split, TokenRow } from './token-rows.js'

/** Rows in one micro-batch, in order. */
export interface RowBatch {
  readonly rows: readonly TokenRow[]
  readonly batch: MicroBatch
  /** The row and token of each scored position. */
  readonly places: readonly (readonly [row: number, token: number])[]
}

/** True for the rows of a micro-batch, by index, of which every token is scored, whatever its weight. */
type ScoresAll = (row: number) => boolean

/**
 * Fills micro-batches in order.
 * @param groups rows that must share a micro-batch
 * @param scoresAll true for rows of a micro-batch, by index, whose tokens of weight 0 are scored too; default: none
 */
export function inMicroBatches(
  groups: readonly (readonly TokenRow[])[],
  split: Split,
  scoresAll: ScoresAll = () => false,
): RowBatch[] {
  return (typeof split === 'number' ? byTokens(groups, split) : byCounts(groups, split)).map((rows) =>
    rowBatch(rows, scoresAll),
  )
}

function byCounts(groups: readonly (readonly TokenRow[])[], counts: readonly number[]): TokenRow[][] {
  let from = 0
  return counts.map((count) => {
    from += count
    return groups.slice(from - count, from).flat()
  })
}

function byTokens(groups: readonly (readonly TokenRow[])[], capacity: number): TokenRow[][] {
  const batches: TokenRow[][] = []
  let filled = Number.POSITIVE_INFINITY
  for (const group of groups) {
    const length = group.reduce((sum, { tokens }) => sum + tokens.length, 0)
    if (filled + length > capacity) {
      batches.push([])
      filled = 0
    }
    filled += length
    batches.at(-1)?.push(...group)
  }
  return batches
}

function rowBatch(rows: readonly TokenRow[], scoresAll: ScoresAll): RowBatch {
  const cuSeqlens = new Int32Array(rows.length + 1)
  for (const [index, { tokens }] of rows.entries())
    cuSeqlens[index + 1] = (cuSeqlens[index] as number) + tokens.length
  const count = cuSeqlens[rows.length] as number
  const tokens = new Int32Array(count)
  const labels = new Int32Array(count).fill(IGNORE)
  const places: [number, number][] = []
  for (const [index, row] of rows.entries()) {
    const start = cuSeqlens[index] as number
    tokens.set(row.tokens, start)
    for (let t = 1; t < row.tokens.length; t++) {
      if (row.weights[t] === 0 && !scoresAll(index)) continue
      labels[start + t - 1] = row.tokens[t] as number
      places.push([index, t])
    }
  }
  return { rows, batch: { tokens, labels, cuSeqlens }, places }
}

/**
 * The sequences of a micro-batch as separate rows, whose labeled tokens have weight 1.
 * @param scoresAll true for sequences, by index, whose other tokens are labeled too, with weight 0
 */
export function rowsOf(batch: MicroBatch, scoresAll: ScoresAll = () => false): RowBatch {
  const { tokens, cuSeqlens } = batch
  const labels = batch.labels.slice()
  const places: [number, number][] = []
  const rows = Array.from({ length: cuSeqlens.length - 1 }, (_, row) => {
    const start = cuSeqlens[row] as number
    const own = tokens.subarray(start, cuSeqlens[row + 1])
    const weights = new Float64Array(own.length)
    for (let t = 1; t < own.length; t++) {
      if (labels[start + t - 1] !== IGNORE) weights[t] = 1
      else if (scoresAll(row)) labels[start + t - 1] = own[t] as number
      else continue
      places.push([row, t])
    }
    return { tokens: own, weights }
  })
  return { rows, batch: { ...batch, labels }, places }
}

/** Log-probabilities of the tokens of each row; 0 where they were not scored. */
export function inRows({ rows, places }: RowBatch, logProbs: Float32Array): Float64Array[] {
  const found = rows.map(({ tokens }) => new Float64Array(tokens.length))
  for (const [index, [row, token]] of places.entries())
    (found[row] as Float64Array)[token] = logProbs[index] as number
  return found
}

/** The rows with their log-probabilities. */
export function scoredRows(made: RowBatch, logProbs: Float32Array): ScoredRow[] {
  const found = inRows(made, logProbs)
  return made.rows.map(({ kl: _, ...row }, index) => ({ ...row, logprobs: found[index] as Float64Array }))
}

/** Weights of the labeled positions in the head, from the gradient of a loss with respect to log-probabilities. */
export function headWeights(
  { places }: RowBatch,
  gradient: readonly Float64Array[],
  temperature: number,
): Float32Array {
  return Float32Array.from(
    places,
    ([row, token]) => -((gradient[row] as Float64Array)[token] as number) / temperature,
  )
}
