/**
 * A frozen copy of A and B beside them, for adapters that act by what they have become less what they were: Delta-LoRA,
 * and LoRA that starts from a part of the weight. In files they are plain LoRA of twice the rank.
 */
import { deepFreeze } from '../core/schema.js'
import { factorA, factorB, snapshotRatio } from './factors.js'
import type {
  AdapterDescription,
  Conversion,
  Factor,
  Initializer,
  LinearAdapter,
  ReadFactor,
  StrategyConfig,
} from './strategy.js'
import { rankedTerms, withRoles } from './terms.js'

/** Ratio of the snapshot. */
export interface SnapshotRatio {
  /** One parameter for all linears. */
  name: string
  initializer: Initializer
  /** As of `LowRankTerm`. */
  subtracts: boolean
}

/** The same linear with a snapshot of its A and B, of zeros at first. */
export function withSnapshot(answer: LinearAdapter, ratio: SnapshotRatio): LinearAdapter {
  const { term, factors } = answer
  const still = (name: string, rows: number, cols: number, initializer: Initializer): Factor => {
    return { name, rows, cols, trained: false, initializer, group: 'lora' }
  }
  const copies = factors.map(({ name, rows, cols }) =>
    still(`${name}.snapshot`, rows, cols, { kind: 'zeros' }),
  )
  const [snapshotA, snapshotB] = copies.map(({ name }) => name) as [string, string]
  const { name, initializer, subtracts } = ratio
  return {
    ...answer,
    term: {
      ...withRoles(term, { snapshotA, snapshotB, snapshotRatio: name }),
      numbers: { ...term.numbers, ...(subtracts ? { subtracts: 1 } : {}) },
    },
    factors: [...factors, ...copies, still(name, 1, 1, initializer)],
  }
}

/** The ranks and scales of a LoRA. */
interface Scaled extends StrategyConfig {
  readonly r: number
  readonly loraAlpha: number
  readonly useRslora: boolean
  readonly rankPattern: Readonly<Record<string, number>>
  readonly alphaPattern: Readonly<Record<string, number>>
}

/**
 * The plain LoRA that computes the same: of the same rank while the snapshot does not count, of twice the rank once it
 * does.
 * @param config the LoRA that the terms are without their snapshots
 */
export function savedWithSnapshot<Config extends Scaled>(
  config: Config,
  { spec, factors }: AdapterDescription,
  read: ReadFactor,
): Conversion {
  const terms = rankedTerms(spec)
  const acts = terms.some((term) => snapshotRatio(read, term) !== 0)
  if (!acts) return { strategy: deepFreeze(config), read }
  // The scale stays: alpha / r, or alpha / sqrt(r).
  const alphas = config.useRslora ? Math.SQRT2 : 2
  const times = (by: number, pattern: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * by]))
  const shapes = new Map(factors.map((factor) => [factor.name, factor]))
  const values = new Map(
    terms.flatMap((term) => {
      const { a, b } = term.parameters
      return [
        [a, () => factorA(read, term, (shapes.get(a) as Factor).cols)],
        [b, () => factorB(read, term, (shapes.get(b) as Factor).rows)],
      ]
    }),
  )
  return {
    strategy: deepFreeze({
      ...config,
      r: config.r * 2,
      loraAlpha: config.loraAlpha * alphas,
      rankPattern: times(2, config.rankPattern),
      alphaPattern: times(alphas, config.alphaPattern),
    }),
    // Parameters besides the factors are saved unchanged.
    read: (name) => values.get(name)?.() ?? read(name),
  }
}
