/**
 * Order of value heads in GGUF files with gated delta rules. Models have the value heads of a key head together; files
 * have the first of each key head, then the second of each, and so on.
 */

/** Reordered rows, columns, or elements of a vector: `heads` heads of `size`, from `first` on. */
export interface HeadOrder {
  heads: number
  keyHeads: number
  size: number
  /** Default 0. */
  first?: number
  /** True if columns are reordered. */
  columns?: true
}

/** Sizes of a gated delta rule. */
export interface DeltaRuleSizes {
  keyHeads: number
  valueHeads: number
  keyDim: number
  valueDim: number
  /** Taps of the convolution. */
  taps: number
}

/** For each of `count` rows or columns in a file, the corresponding one of the model. */
export function modelPlaces({ heads, keyHeads, size, first = 0 }: HeadOrder, count: number): Uint32Array {
  const perKey = heads / keyHeads
  return Uint32Array.from({ length: count }, (_, at) => {
    if (at < first) return at
    const head = Math.floor((at - first) / size)
    return first + ((head % keyHeads) * perKey + Math.floor(head / keyHeads)) * size + ((at - first) % size)
  })
}
