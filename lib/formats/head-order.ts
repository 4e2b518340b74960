/**
 * Order of value heads in GGUF files of Qwen3.5. Models have the value heads of a key head together; files have the first
 * of each key head, then the second of each, and so on.
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

/** The order of a tensor by its Hugging Face name; undefined if files have it as models do. */
export function headOrder(name: string, sizes: DeltaRuleSizes): HeadOrder | undefined {
  const { keyHeads, valueHeads: heads, keyDim, valueDim, taps } = sizes
  const [, part] = /\.linear_attn\.(\w+)(\.weight)?$/.exec(name) ?? []
  if (part === undefined || heads === keyHeads) return undefined
  const before = 2 * keyHeads * keyDim
  const places: Readonly<Record<string, Omit<HeadOrder, 'heads' | 'keyHeads'>>> = {
    in_proj_qkv: { size: valueDim, first: before },
    conv1d: { size: valueDim * taps, first: before * taps },
    in_proj_z: { size: valueDim },
    in_proj_b: { size: 1 },
    in_proj_a: { size: 1 },
    A_log: { size: 1 },
    dt_bias: { size: 1 },
    out_proj: { size: valueDim, columns: true },
  }
  const place = places[part]
  return place && { heads, keyHeads, ...place }
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
