/** Converts adapters to plain LoRA: A and B of each layer, with all other factors multiplied into them. */

import { UnsupportedError } from '../core/errors.js'
import { deepFreeze } from '../core/schema.js'
import type { AdapterSpec, DecomposeOptions, NativeAdapter, TermSpec } from '../native/addon.js'
import { translatedAsync } from '../native/errors.js'
import type { LoraConfig } from './configs.js'
import { type StartingBase, weightAt } from './describe.js'
import { factorA, factorB, type ProductTerm, pickColumns, pickRows, snapshotRatio } from './factors.js'
import { lora, loraNames } from './lora.js'
import type { AdapterDescription, Conversion, LinearSite, ReadFactor } from './strategy.js'
import { targetNames } from './targets.js'
import { adaptedEmbedding, isRanked, type KroneckerTerm, type LowRankTerm } from './terms.js'

/** The update of one linear layer: s B A x with s = `scale`. */
export interface LowRankPair {
  /** Path of the layer. */
  target: string
  in: number
  out: number
  rank: number
  scale: number
  /** `[rank, in]`, row-major, computed anew on each call. */
  a(): Float32Array
  /** `[out, rank]`. */
  b(): Float32Array
}

/**
 * The adapter as equivalent factor pairs. Ranks with zero gain are omitted, as are layers that have no other ranks; an
 * adapter of only zeros keeps everything.
 * @throws {UnsupportedError} for an adapter that is not a sum of low-rank products at linear layers
 */
export function lowRankPairs(
  { strategy, spec }: AdapterDescription,
  sites: readonly LinearSite[],
  read: ReadFactor,
): LowRankPair[] {
  refuseWhole(strategy.name, spec)
  if (spec.terms.some(({ parameters }) => parameters.magnitude !== undefined))
    throw new UnsupportedError(
      `${strategy.name} scales the rows of the weights, so it cannot be converted to LoRA; merge it, export the whole model, or ${NEAREST}.`,
      { strategy: strategy.name },
    )
  const site = new Map(sites.map((one) => [one.path, one]))
  const shapes = new Map(spec.parameters.map(({ name, rows, cols }) => [name, { rows, cols }]))
  const products = spec.terms
    .filter((term) => !isProduct(term))
    .map((term) => {
      const at = site.get(term.target) as LinearSite
      return kroneckerPair(strategy.name, expectKronecker(strategy.name, term), at, shapes, read)
    })
  const terms = spec.terms.filter(isProduct)
  const acting = terms.map((term) => actingRanks(read, term))
  const zero = acting.every((ranks) => ranks.length === 0)
  const lowRank = terms.flatMap((term, i) => {
    const { target, numbers } = term
    const ranks = zero ? [...Array(rankOf(read, term)).keys()] : (acting[i] as number[])
    if (ranks.length === 0) return []
    const shape = site.get(target) as LinearSite
    const a = () => pickRows(factorA(read, term, shape.in), rankOf(read, term), ranks)
    const b = () => pickColumns(factorB(read, term, shape.out), rankOf(read, term), ranks)
    return [{ target, in: shape.in, out: shape.out, rank: ranks.length, scale: numbers.scale, a, b }]
  })
  return [...lowRank, ...products]
}

const isProduct = (term: TermSpec): term is ProductTerm => isRanked(term) || term.kind === 'pair'

function expectKronecker(strategy: string, term: TermSpec): KroneckerTerm {
  if (term.kind === 'kronecker') return term as KroneckerTerm
  throw new UnsupportedError(
    `${strategy} at ${term.target} has no low-rank form, so it cannot be converted to LoRA; merge it, export the whole model, or ${NEAREST}.`,
    { strategy, target: term.target },
  )
}

/** Advice for adapters with no exact LoRA equivalent. */
const NEAREST = "save the nearest LoRA of a rank with save(path, { form: 'lora', rank: 16 })"

function refuseWhole(strategy: string, { terms }: AdapterSpec): void {
  if (terms.length > 0) return
  throw new UnsupportedError(
    `${strategy} trains the weights of the model, so it cannot be converted to LoRA; save or export the whole model.`,
    { strategy },
  )
}

/** Only updates of linear layers can be decomposed. */
function refuseBeside(strategy: string, spec: AdapterSpec): void {
  const beside = adaptedEmbedding(spec) ?? spec.copies?.[0]?.weight
  if (beside === undefined) return
  throw new UnsupportedError(
    `${strategy} trains ${beside} in addition to linears, but the nearest LoRA of a rank supports only linears; save it with form lora, which keeps its ranks, or merge it.`,
    { strategy, beside },
  )
}

/** Rank of a term's total update: doubled if it has an active snapshot. */
const rankOf = (read: ReadFactor, term: ProductTerm): number =>
  snapshotRatio(read, term) === 0 ? term.numbers.rank : 2 * term.numbers.rank

function actingRanks(read: ReadFactor, term: ProductTerm): number[] {
  const { d, mask } = term.parameters as LowRankTerm['parameters']
  const gains = [d, mask].flatMap((name) => (name === undefined ? [] : [read(name)]))
  return [...Array(rankOf(read, term)).keys()].filter((i) => gains.every((values) => values[i] !== 0))
}

/** kron(C, d d2) = kron(C, d) kron(I, d2), which has rank p r. */
function kroneckerPair(
  strategy: string,
  { target, parameters: { c, c2, d, d2 }, numbers: { scale } }: KroneckerTerm,
  site: LinearSite,
  shapes: ReadonlyMap<string, { rows: number; cols: number }>,
  read: ReadFactor,
): LowRankPair {
  const shapeOf = (name: string) => shapes.get(name) as { rows: number; cols: number }
  const p = shapeOf(c2 ?? c).cols
  if (d2 === undefined) {
    const { rows, cols } = shapeOf(d)
    throw new UnsupportedError(
      `${strategy} at ${target}: its second side is one whole matrix [${rows}, ${cols}], so the change has full rank and cannot be converted to LoRA; merge it instead, ${NEAREST}, or train with r below ${Math.max(rows, cols) / 2}.`,
      { target },
    )
  }
  const [l, r, k, q] = [shapeOf(c).rows, shapeOf(d2).rows, shapeOf(d).rows, shapeOf(d2).cols]
  const rank = p * r
  const first = () => (c2 === undefined ? read(c) : product(read(c), read(c2), l, p))
  return {
    target,
    in: site.in,
    out: site.out,
    rank,
    scale,
    a: () => {
      const [values, factor] = [new Float32Array(rank * site.in), read(d2)]
      for (let i = 0; i < p; i++)
        for (let j = 0; j < r; j++)
          values.set(factor.subarray(j * q, (j + 1) * q), (i * r + j) * site.in + i * q)
      return values
    },
    b: () => {
      const [values, left, right] = [new Float32Array(site.out * rank), first(), read(d)]
      for (let at = 0; at < values.length; at++) {
        const [row, column] = [Math.floor(at / rank), at % rank]
        const i = Math.floor(row / k) * p + Math.floor(column / r)
        values[at] = (left[i] as number) * (right[(row % k) * r + (column % r)] as number)
      }
      return values
    },
  }
}

/** `[rows, n]` times `[n, cols]`. */
function product(a: Float32Array, b: Float32Array, rows: number, cols: number): Float32Array {
  const inner = a.length / rows
  const out = new Float32Array(rows * cols)
  for (let at = 0; at < out.length; at++) {
    let sum = 0
    const [row, column] = [Math.floor(at / cols), at % cols]
    for (let i = 0; i < inner; i++) sum += (a[row * inner + i] as number) * (b[i * cols + column] as number)
    out[at] = sum
  }
  return out
}

/**
 * The adapter as an equivalent plain LoRA, without dropout, which applies only in training.
 * @throws {UnsupportedError} for an adapter that is not a sum of low-rank products at linear layers
 */
export function asLora(
  description: AdapterDescription,
  sites: readonly LinearSite[],
  read: ReadFactor,
): Conversion {
  const pairs = lowRankPairs(description, sites, read)
  const values = new Map(
    pairs.flatMap(({ target, a, b }) => {
      const names = loraNames(sites.find(({ path }) => path === target) as LinearSite)
      return [
        [names.a, a],
        [names.b, b],
      ]
    }),
  )
  const { modulesToSave = null, bias = 'none' } = description.targeting
  return {
    strategy: deepFreeze({ ...loraOf(pairs, description.linears), modulesToSave, bias }),
    // Parameters besides the factors are kept unchanged.
    read: (name) => values.get(name)?.() ?? read(name),
  }
}

/**
 * The pairs as a LoRA with one rank and one alpha, for readers that know no others: shorter pairs get zeros, and scales
 * other than the most frequent one are multiplied into B. A pair of the common rank and scale keeps its values.
 */
export function asEvenLora(
  pairs: readonly LowRankPair[],
  sites: readonly LinearSite[],
  linears: readonly string[],
): Conversion {
  const r = Math.max(...pairs.map(({ rank }) => rank))
  const common = most(pairs.map(({ scale }) => scale))
  const alpha = Math.round(common * r)
  // Readers may expect an integer.
  const isWhole = alpha > 0 && Math.abs(alpha - common * r) <= 1e-9 * alpha
  const scale = isWhole ? common : 1
  const values = new Map<string, () => Float32Array>()
  for (const pair of pairs) {
    const names = loraNames(sites.find(({ path }) => path === pair.target) as LinearSite)
    values.set(names.a, () => widened(pair.a(), 1, r * pair.in))
    values.set(names.b, () => {
      const b = widened(pair.b(), pair.out, r)
      return pair.scale === scale ? b : b.map((value) => (value * pair.scale) / scale)
    })
  }
  const targetModules = targetNames(
    pairs.map(({ target }) => target),
    linears,
  )
  return {
    strategy: lora({ r, loraAlpha: isWhole ? alpha : r, targetModules }),
    read: (name) => (values.get(name) as () => Float32Array)(),
  }
}

/** Rows of a matrix with zeros behind them, `[rows, cols]`. */
function widened(values: Float32Array, rows: number, cols: number): Float32Array {
  const own = values.length / rows
  if (own === cols) return values
  const wide = new Float32Array(rows * cols)
  for (let row = 0; row < rows; row++) wide.set(values.subarray(row * own, (row + 1) * own), row * cols)
  return wide
}

/**
 * The LoRA of a given rank closest to the adapter: a truncated singular value decomposition of its weight update at
 * each layer, for any strategy.
 * @returns the LoRA, and the norm of the error relative to the norm of the update
 * @throws {UnsupportedError} for adapters that train base weights
 */
export async function nearestLora(
  { strategy, spec, linears }: AdapterDescription,
  rank: number,
  base: StartingBase,
  adapter: NativeAdapter,
): Promise<{ lora: Conversion; error: number }> {
  refuseWhole(strategy.name, spec)
  refuseBeside(strategy.name, spec)
  const values = new Map<string, Float32Array>()
  const pairs: { target: string; rank: number; scale: number }[] = []
  let [square, kept] = [0, 0]
  for (const { target } of spec.terms) {
    const { name, rows, cols } = weightAt(target, base.graph)
    const own = Math.min(rank, rows, cols)
    const options: DecomposeOptions = { form: 'svd', rank: own, adapters: [{ adapter }], target }
    const factors = await translatedAsync(() => base.native.decompose(name, options).promise)
    values.set(`${target}.lora_A.weight`, factors.a)
    values.set(`${target}.lora_B.weight`, factors.b)
    pairs.push({ target, rank: own, scale: 1 })
    square += factors.square
    kept += factors.kept
  }
  const lora = { strategy: loraOf(pairs, linears), read: (name: string) => values.get(name) as Float32Array }
  return { lora, error: square === 0 ? 0 : Math.sqrt(Math.max(0, square - kept) / square) }
}

/**
 * Options of a LoRA with these ranks and scales.
 * @param linears paths of all linear layers of the model
 */
export function loraOf(
  pairs: readonly { target: string; rank: number; scale: number }[],
  linears: readonly string[],
): LoraConfig {
  const [r, loraAlpha] = [most(pairs.map(({ rank }) => rank)), most(pairs.map(alphaOf))]
  const others = <T>(value: (pair: (typeof pairs)[number]) => T, common: T) =>
    Object.fromEntries(
      pairs.filter((one) => value(one) !== common).map((one) => [pathPattern(one.target), value(one)]),
    )
  return lora({
    r,
    loraAlpha,
    rankPattern: others(({ rank }) => rank, r),
    alphaPattern: others(alphaOf, loraAlpha),
    targetModules: targetNames(
      pairs.map(({ target }) => target),
      linears,
    ),
  })
}

/** PEFT computes the scale as alpha / rank, in double precision. */
const alphaOf = ({ rank, scale }: { rank: number; scale: number }): number => scale * rank

/** A pattern that matches only this path. */
const pathPattern = (path: string): string => path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** The most frequent value; the first one if tied. */
function most(values: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0]
}
