/**
 * The kinds of terms that strategies share. Parameters are `[rows, cols]`; those that a term does not name are ones. A
 * kind that one strategy alone has is described in its file.
 */
import type { AdapterSpec, TermSpec } from '../native/addon.js'

/**
 * y += s * diag(b_gain) B diag(d * mask) A x. A frozen A may be wider and a frozen B taller than the linear: the first
 * columns or rows are used.
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
     * `[1, out]` norms m of the rows of the adapted weight: the linear is y = diag(m / c) (W + delta) x instead, delta
     * being that matrix and c_i its row norm ||W_i + delta_i||, which counts as a constant in the backward pass. Beside
     * other adapters, or at a weight, it adds what this makes of the output less the base's.
     */
    magnitude?: string
    /**
     * A frozen pair A* and B*, shaped as A and B, and `[1, 1]` a ratio: while that is not 0, what is added is
     * s * ((1 + ratio) B A - ratio B* A*) x, and the gradients of A and B are those of s B A x. All three or none.
     */
    snapshotA?: string
    snapshotB?: string
    snapshotRatio?: string
  }
  numbers: {
    rank: number
    scale: number
    /** With the first `active` ranks in use, the scale is `scale * (rank / active) ** rankPower`. Default 0. */
    rankPower?: number
    /** Dropout probability on the adapter's input, training only. Default 0. */
    dropout?: number
    /** 1: what a snapshot makes is s * (B A - ratio B* A*) x. Default 0. */
    subtracts?: number
  }
}

/** Dropout of a weight change in training, drawn anew for each micro-step. */
export type DeltaDropout = {
  /** Probability with which an output row of the change is zero. Default 0. */
  rowDropout?: number
  /** 1: divide the rows that stay by their share. Default 0. */
  rowDropoutScale?: number
  /** Probability with which the whole change is left out. Default 0. */
  moduleDropout?: number
}

/** y += s * ((b a) ∘ (b2 a2)) x, a Hadamard product of rank r1 r2, which is `rank`. */
export interface PairTerm extends TermSpec {
  kind: 'pair'
  /** `[r1, in]`, `[out, r1]`, `[r2, in]`, `[out, r2]` */
  parameters: { a: string; b: string; a2: string; b2: string }
  numbers: { rank: number; scale: number } & DeltaDropout
}

/** y += s * (C ⊗ D) x with C [l, p] and D [k, q] at a linear of [l k, p q]. */
export interface KroneckerTerm extends TermSpec {
  kind: 'kronecker'
  parameters: {
    /** `[l, p]`, or `[l, rank]` where `c2` is given. */
    c: string
    /** `[rank, p]`: C is the product of the two. */
    c2?: string
    /** `[k, q]`, or `[k, rank]` where `d2` is given. */
    d: string
    /** `[rank, q]`: D is the product of the two. */
    d2?: string
  }
  numbers: { scale: number } & DeltaDropout
}

/** y = E[id] + s * B A[:, id] at an embedding E: A [rank, vocabulary] and B [dimension, rank]. */
export interface EmbeddingTerm extends TermSpec {
  kind: 'embedding'
  parameters: { a: string; b: string }
  /** As of `LowRankTerm`. */
  numbers: { rank: number; scale: number; rankPower?: number }
}

/** A term whose ranks are rows of one A and columns of one B. */
export type RankedTerm = LowRankTerm | EmbeddingTerm

export const isLowRank = (term: TermSpec): term is LowRankTerm => term.kind === 'low_rank'
export const isRanked = (term: TermSpec): term is RankedTerm => isLowRank(term) || term.kind === 'embedding'

/** The terms of an adapter that have A and B. */
export const rankedTerms = ({ terms }: Pick<AdapterSpec, 'terms'>): RankedTerm[] => terms.filter(isRanked)

/** Path of the embedding that an adapter acts on. */
export const adaptedEmbedding = ({ terms }: Pick<AdapterSpec, 'terms'>): string | undefined =>
  terms.find(({ kind }) => kind === 'embedding')?.target

/** A term with more parameters. */
export const withRoles = <Term extends TermSpec>(
  term: Term,
  roles: Readonly<Record<string, string>>,
): Term => ({
  ...term,
  parameters: { ...term.parameters, ...roles },
})
