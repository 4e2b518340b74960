/** Factors of terms as plain matrices: A and B with gains, products, and snapshots applied. */
import type { ReadFactor } from './strategy.js'
import type { EmbeddingTerm, LowRankTerm, PairTerm } from './terms.js'

/** A term that adds a product of two matrices. */
export type ProductTerm = LowRankTerm | EmbeddingTerm | PairTerm

/** Parameters of any product term; some roles may be absent. */
const rolesOf = (term: ProductTerm) =>
  term.parameters as LowRankTerm['parameters'] & Partial<PairTerm['parameters']>

/** Ratio of a term's snapshot; 0 without one. */
export function snapshotRatio(read: ReadFactor, term: ProductTerm): number {
  const { snapshotRatio: name } = rolesOf(term)
  return name === undefined ? 0 : (read(name)[0] as number)
}

/**
 * A `[rank, cols]` with the gains of its rows; the first columns of a wider, shared A. With an active snapshot, `[2
 * rank, cols]`: A times its coefficient, stacked on - ratio A*.
 */
export function factorA(read: ReadFactor, term: ProductTerm, cols: number): Float32Array {
  const { a, a2, d, mask, snapshotA } = rolesOf(term)
  const { rank, subtracts } = term.numbers as LowRankTerm['numbers']
  const stored = read(a)
  const ratio = snapshotRatio(read, term)
  if (ratio !== 0) {
    const taken = read(snapshotA as string)
    const both = new Float32Array(2 * rank * cols)
    const own = subtracts ? 1 : 1 + ratio
    both.set(stored.map((value) => own * value))
    both.set(
      taken.map((value) => -ratio * value),
      rank * cols,
    )
    return both
  }
  if (a2 !== undefined) return rowProducts(stored, read(a2), cols)
  const width = stored.length / rank
  const values = new Float32Array(rank * cols)
  for (let i = 0; i < rank; i++) values.set(stored.subarray(i * width, i * width + cols), i * cols)
  for (const gains of [d, mask]) if (gains !== undefined) scaleRows(values, read(gains), cols)
  return values
}

/**
 * B `[rows, rank]` with the gains of its rows; the first rows of a taller, shared B. With an active snapshot, B next to
 * B*.
 */
export function factorB(read: ReadFactor, term: ProductTerm, rows: number): Float32Array {
  const { b, b2, bGain, snapshotB } = rolesOf(term)
  const { rank } = term.numbers
  if (snapshotRatio(read, term) !== 0) {
    const [own, taken] = [read(b), read(snapshotB as string)]
    const both = new Float32Array(rows * 2 * rank)
    for (let i = 0; i < rows; i++) {
      both.set(own.subarray(i * rank, (i + 1) * rank), 2 * i * rank)
      both.set(taken.subarray(i * rank, (i + 1) * rank), (2 * i + 1) * rank)
    }
    return both
  }
  if (b2 !== undefined) return columnProducts(read(b), read(b2), rows)
  const values = read(b).subarray(0, rows * rank)
  if (bGain !== undefined) scaleRows(values, read(bGain), rank)
  return values
}

/** Row i n2 + j is the elementwise product of row i of the first [n1, cols] and row j of the second [n2, cols]. */
function rowProducts(first: Float32Array, second: Float32Array, cols: number): Float32Array {
  const [count, others] = [first.length / cols, second.length / cols]
  const out = new Float32Array(count * others * cols)
  for (let row = 0; row < count * others; row++) {
    const [i, j] = [Math.floor(row / others) * cols, (row % others) * cols]
    for (let c = 0; c < cols; c++) out[row * cols + c] = (first[i + c] as number) * (second[j + c] as number)
  }
  return out
}

/** Elementwise products of the columns of [rows, n1] and [rows, n2], in the same order. */
function columnProducts(first: Float32Array, second: Float32Array, rows: number): Float32Array {
  const [count, others] = [first.length / rows, second.length / rows]
  const out = new Float32Array(rows * count * others)
  for (let at = 0; at < out.length; at++) {
    const [row, column] = [Math.floor(at / (count * others)), at % (count * others)]
    const i = row * count + Math.floor(column / others)
    out[at] = (first[i] as number) * (second[row * others + (column % others)] as number)
  }
  return out
}

function scaleRows(values: Float32Array, gains: Float32Array, cols: number): void {
  for (let i = 0; i < values.length; i++)
    values[i] = (values[i] as number) * (gains[Math.floor(i / cols)] as number)
}

/** Selected rows of `[rows, cols]`, in the given order. */
export function pickRows(values: Float32Array, rows: number, picked: readonly number[]): Float32Array {
  if (picked.length === rows) return values
  const cols = values.length / rows
  const out = new Float32Array(picked.length * cols)
  picked.forEach((row, i) => {
    out.set(values.subarray(row * cols, (row + 1) * cols), i * cols)
  })
  return out
}

/** Selected columns of `[rows, cols]`, in the given order. */
export function pickColumns(values: Float32Array, cols: number, picked: readonly number[]): Float32Array {
  if (picked.length === cols) return values
  return Float32Array.from({ length: (values.length / cols) * picked.length }, (_, i) => {
    const row = Math.floor(i / picked.length)
    return values[row * cols + (picked[i % picked.length] as number)] as number
  })
}
