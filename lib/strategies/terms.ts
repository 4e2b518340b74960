/**
 * Kinds of terms shared by several strategies. Parameters are `[rows, cols]`; omitted ones are treated as all ones.
 * Kinds used by a single strategy are defined in its file.
 */
import type { AdapterSpec, TermSpec } from '../native/addon.js'

/**
 * y += s * diag(b_gain) B diag(d * mask) A x. A frozen A may be wider, and a frozen B taller, than the layer; then the
 * first columns or rows are used.
 */
export interface LowRankTerm extends TermSpec {
  kind: 'low_rank'
  parameters: {
    /** `[rank, in]` */
    a: string
    /** `[out, rank]` */
    b: string
    /** `[1, rank]` gains between A and B. */
    d?: string
    /** `[1, rank]` frozen factors of `d`, usually 0 or 1. */
    mask?: string
    /** `[1, out]` gains of the output rows. */
    bGain?: string
    /**
     * `[1, out]` magnitudes m of the rows of the adapted weight. The layer becomes y = diag(m / c) (W + delta) x, where
     * delta is the update above and c_i = ||W_i + delta_i|| is constant in the backward pass. With other adapters, or a
     * weight other than 1, it adds the difference between this output and the base's.
     */
    magnitude?: string
    /**
     * Frozen A* and B* shaped like A and B, and a `[1, 1]` ratio. If the ratio is nonzero, the output is s * ((1 +
     * ratio) B A - ratio B* A*) x, and A and B get the gradients of s B A x. Either all three are given or none.
     */
    snapshotA?: string
    snapshotB?: string
    snapshotRatio?: string
  }
  numbers: {
    rank: number
    scale: number
    /** With `active` leading ranks in use, the scale is `scale * (rank / active) ** rankPower`. Default 0. */
    rankPower?: number
    /** Dropout probability on the adapter's input during training. Default 0. */
    dropout?: number
    /** 1: with a snapshot the output is s * (B A - ratio B* A*) x. Default 0. */
    subtracts?: number
  }
}

/** Dropout of a weight update in training, drawn anew for each micro-step. */
export type DeltaDropout = {
  /** Probability of zeroing each output row of the update. Default 0. */
  rowDropout?: number
  /** 1: rescale the remaining rows to compensate. Default 0. */
  rowDropoutScale?: number
  /** Probability of dropping the whole update. Default 0. */
  moduleDropout?: number
}

/** y += s * ((b a) ∘ (b2 a2)) x, a Hadamard product of rank r1 r2, stored as `rank`. */
export interface PairTerm extends TermSpec {
  kind: 'pair'
  /** `[r1, in]`, `[out, r1]`, `[r2, in]`, `[out, r2]` */
  parameters: { a: string; b: string; a2: string; b2: string }
  numbers: { rank: number; scale: number } & DeltaDropout
}

/** y += s * (C ⊗ D) x with C [l, p] and D [k, q] at a layer of shape [l k, p q]. */
export interface KroneckerTerm extends TermSpec {
  kind: 'kronecker'
  parameters: {
    /** `[l, p]`, or `[l, rank]` if `c2` is given. */
    c: string
    /** `[rank, p]`: C is then the product c c2. */
    c2?: string
    /** `[k, q]`, or `[k, rank]` if `d2` is given. */
    d: string
    /** `[rank, q]`: D is then the product d d2. */
    d2?: string
  }
  numbers: { scale: number } & DeltaDropout
}

/** y = E[id] + s * B A[:, id] at an embedding E: A [rank, vocabulary] and B [dimension, rank]. */
export interface EmbeddingTerm extends TermSpec {
  kind: 'embedding'
  parameters: { a: string; b: string }
  /** As in `LowRankTerm`. */
  numbers: { rank: number; scale: number; rankPower?: number }
}

/** A term whose ranks are rows of a single A and columns of a single B. */
export type RankedTerm = LowRankTerm | EmbeddingTerm

export const isLowRank = (term: TermSpec): term is LowRankTerm => term.kind === 'low_rank'
export const isRanked = (term: TermSpec): term is RankedTerm => isLowRank(term) || term.kind === 'embedding'

/** The terms of an adapter with an A and a B. */
export const rankedTerms = ({ terms }: Pick<AdapterSpec, 'terms'>): RankedTerm[] => terms.filter(isRanked)

/** Path of the embedding that an adapter modifies; undefined if none. */
export const adaptedEmbedding = ({ terms }: Pick<AdapterSpec, 'terms'>): string | undefined =>
  terms.find(({ kind }) => kind === 'embedding')?.target

/** A term with additional parameters. */
export const withRoles = <Term extends TermSpec>(
  term: Term,
  roles: Readonly<Record<string, string>>,
): Term => ({
  ...term,
  parameters: { ...term.parameters, ...roles },
})
