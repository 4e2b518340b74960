/**
 * Simulated compares in which no strategy differs, so that every claim of a difference is false, and further ones of
 * known differences. A spread is the standard deviation of a strategy over seeds.
 */

import { isPaired, metricStatistics } from '../../lib/compare/statistics/index.js'
import { normals } from '../../lib/compare/statistics/simulate.js'
import { counterUniforms } from '../../lib/core/counter-random.js'

interface Shape {
  strategies: number
  seeds: number
  rows: number
}

/** Random numbers of one simulated compare. */
interface Draws {
  normal: () => number
  /** Between 0 and 1. */
  uniform: () => number
}

/** Effects from which scores are added up; each defaults to none, except for the seeds', which are normal of 1. */
interface Effects {
  /** True mean of a strategy, e.g. the luck of one search for all its seeds. */
  ofStrategy?: (strategy: number, draws: Draws) => number
  /** Effect of a seed on one strategy. */
  ofSeed?: (strategy: number, draws: Draws) => number
  /** Effects of a seed, by strategy, that several strategies have in common. */
  shared?: (draws: Draws, strategies: number) => readonly number[]
  /** Standard deviation of what a strategy gains or loses on a row with all seeds. */
  rowSpread?: number
  /** Residual of a row and a seed. */
  noise?: (draws: Draws) => number
  /** Score for the sum of effects; default: the sum. */
  score?: (sum: number, draws: Draws) => number
}

export interface NullKind extends Shape, Effects {
  name: string
  /** Remark that compare prints on such results, which may have more false claims. */
  remark?: 'unstable' | 'shared search'
}

const usual: Shape = { strategies: 13, seeds: 4, rows: 20 }
const quiet = ({ normal }: Draws) => 0.3 * normal()

/** Spread of one strategy in units of the others'. */
const spreads =
  (...own: number[]) =>
  (strategy: number, { normal }: Draws) =>
    (own[strategy] ?? 1) * normal()

/** Best of rates half a decade apart by noisy losses, on a parabola whose neighbors lose `curvature` spreads. */
function searched(curvature: number, noise: number) {
  return (_: number, { normal, uniform }: Draws) => {
    const away = uniform() - 0.5
    const losses = [-2, -1, 0, 1, 2].map((rate) => curvature * (rate + away) ** 2)
    const seen = losses.map((loss) => loss + noise * normal())
    return normal() + (losses[seen.indexOf(Math.min(...seen))] as number)
  }
}

/** Student's t with three degrees of freedom, of variance 1. */
function heavy(_: number, { normal }: Draws): number {
  const chi = normal() ** 2 + normal() ** 2 + normal() ** 2
  return normal() / Math.sqrt(chi)
}

export const nullKinds: readonly NullKind[] = [
  { name: 'two equal strategies', ...usual, strategies: 2, seeds: 3 },
  { name: 'four', ...usual, strategies: 4, seeds: 3 },
  { name: 'thirteen', ...usual, seeds: 3 },
  { name: 'thirteen', ...usual, seeds: 10 },
  {
    ...{ name: 'luck of the rate, half a spread, with each seed', ...usual },
    ofSeed: (_, { normal }) => normal() + 0.5 * normal(),
  },
  {
    ...{ name: 'luck of the rate, one spread, with each seed', ...usual },
    ofSeed: (_, { normal }) => normal() + normal(),
  },
  { name: 'rates chosen by noisy losses', ...usual, ofSeed: searched(1, 1) },
  { name: 'one noisy strategy, 3 spreads', ...usual, ofSeed: spreads(1, 3) },
  { name: 'one noisy strategy, 30 spreads', ...usual, ofSeed: spreads(1, 30) },
  { name: 'two noisy strategies, 5 spreads', ...usual, ofSeed: spreads(1, 5, 5) },
  {
    name: 'every strategy of another spread',
    ...usual,
    ofSeed: (s, { normal }) => 1.3 ** (s - 6) * normal(),
  },
  { name: 'heavy tails (t with 3 degrees of freedom)', ...usual, ofSeed: heavy },
  {
    ...{ name: 'skewed seeds (exponential)', ...usual },
    ofSeed: (_, { uniform }) => -Math.log(1 - uniform()),
  },
  { name: 'five rows', ...usual, rows: 5, rowSpread: 1, noise: ({ normal }) => normal() },
  { name: 'rows vary more than seeds', ...usual, rowSpread: 3, noise: ({ normal }) => 3 * normal() },
  {
    ...{ name: 'exact match of 100 rows', ...usual, rows: 100, rowSpread: 0.5, noise: () => 0 },
    ofSeed: (_, { normal }) => 0.1 * normal(),
    score: (sum, { uniform }) => (uniform() < 1 / (1 + Math.exp(-sum)) ? 1 : 0),
  },
  {
    ...{ name: 'two families, each with its own luck of a seed', ...usual },
    shared: ({ normal }, strategies) => {
      const luck = [normal(), normal()]
      return Array.from({ length: strategies }, (_, s) => luck[s % 2] as number)
    },
  },
  { name: 'a noisy reference, 3 spreads', ...usual, ofSeed: spreads(3), remark: 'unstable' },
  { name: 'a noisy reference, 3 spreads', ...usual, seeds: 10, ofSeed: spreads(3), remark: 'unstable' },
  {
    ...{ name: 'one search for all seeds, half a spread', ...usual, remark: 'shared search' },
    ofStrategy: (_, { normal }) => 0.5 * normal(),
  },
  {
    ...{ name: 'one search for all seeds, one spread', ...usual, remark: 'shared search' },
    ofStrategy: (_, { normal }) => normal(),
  },
]

/** Scores of simulated compare `run`, by strategy, seed, and row. */
export function scoresOf(shape: Shape & Effects & { name: string }, run: number): Float64Array[][] {
  const { strategies, seeds, rows, rowSpread = 0.3 } = shape
  const { ofStrategy, ofSeed = spreads(), shared, noise = quiet, score } = shape
  const stream = `${shape.name}, ${strategies} × ${seeds} × ${rows}, ${run}`
  const uniforms = counterUniforms(7, stream)
  let index = 0
  const draws: Draws = { normal: normals(8, stream), uniform: () => uniforms(index++) }
  const ofSeeds = Array.from({ length: seeds }, () => shared?.(draws, strategies))
  return Array.from({ length: strategies }, (_, s) => {
    const mean = ofStrategy?.(s, draws) ?? 0
    const ofRows = Float64Array.from({ length: rows }, () => rowSpread * draws.normal())
    return ofSeeds.map((luck) => {
      const sum = mean + (luck?.[s] ?? 0) + ofSeed(s, draws)
      return ofRows.map((row) => {
        const value = sum + row + noise(draws)
        return score === undefined ? value : score(value, draws)
      })
    })
  })
}

/** Shares of simulated compares, from 0 to 1. */
export interface Claims {
  /** Compares that claim a difference from the reference. */
  against: number
  /** Compares that claim a difference in another pair. */
  pairs: number
  /** Compares that call the reference unstable. */
  unstable: number
  /** Compares in which a strategy left the pool. */
  left: number
}

const decided = ({ verdict }: { verdict: string }) => verdict === 'better' || verdict === 'worse'

/** Shares of `compares` simulated compares of a kind that claim a difference. */
export function claimsOf(kind: Shape & Effects & { name: string }, compares: number): Claims {
  const all = Array.from({ length: compares }, (_, run) => statisticsOf(kind, run, null))
  const share = (holds: (one: (typeof all)[number]) => boolean) => all.filter(holds).length / compares
  return {
    against: share(({ against }) => against.some(decided)),
    pairs: share(({ pairs }) => pairs.some(decided)),
    unstable: share(({ unstable_control: unstable }) => unstable !== null),
    left: share(({ left_pool: left }) => left.length > 0),
  }
}

function statisticsOf(kind: Shape & Effects & { name: string }, run: number, margin: number | null) {
  return metricStatistics({
    names: Array.from({ length: kind.strategies }, (_, s) => `s${s}`),
    scores: scoresOf(kind, run),
    ...{ control: 0, higherIsBetter: false, margin, bootstrap: { draws: 1 } },
  })
}

/**
 * Errors and power of the test of equality. `wrong`: share of compares with a margin of one spread that call a strategy
 * equal whose difference is the margin. `right`: share of equal strategies that are called equal with a margin of two.
 */
export function equalityOf(strategies: number, seeds: number, compares: number) {
  const shape = { ...usual, strategies, seeds, name: 'equality' }
  const margin = 1
  let [wrong, right] = [0, 0]
  for (let run = 0; run < compares; run++) {
    const apart = { ...shape, ofStrategy: (s: number) => (s === 0 ? 0 : margin) }
    if (statisticsOf(apart, run, margin).against.some(({ verdict }) => verdict === 'equal')) wrong++
    const { against } = statisticsOf(shape, run, 2 * margin)
    right += against.filter(({ verdict }) => verdict === 'equal').length / against.length
  }
  return { strategies, seeds, wrong: wrong / compares, right: right / compares }
}

/** Share of compares that find one strategy that differs from the reference by `difference` spreads. */
export function powerOf(strategies: number, seeds: number, difference: number, compares: number): number {
  const kind = {
    ...usual,
    strategies,
    seeds,
    name: 'power',
    ofStrategy: (s: number) => (s === 1 ? difference : 0),
  }
  let found = 0
  for (let run = 0; run < compares; run++) {
    const { against } = statisticsOf(kind, run, null)
    if (against.some((one) => one.name === 's1' && decided(one))) found++
  }
  return found / compares
}

/** How the variance between seeds is found in a compare of this size. */
export const ruleOf = ({ strategies, seeds }: Shape): 'own' | 'pool' =>
  isPaired(strategies, seeds) ? 'own' : 'pool'
