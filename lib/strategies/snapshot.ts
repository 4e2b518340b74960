/**
 * Frozen copies of A and B, for adapters whose output depends on the change since a snapshot: Delta-LoRA, and LoRA
 * initialized from a part of the weight. In files these are plain LoRA of twice the rank.
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

/** The ratio that controls the snapshot. */
export interface SnapshotRatio {
  /** One parameter shared by all layers. */
  name: string
  initializer: Initializer
  /** As in `LowRankTerm`. */
  subtracts: boolean
}

/** Adds a snapshot of A and B, initially zero, to a layer. */
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
 * The equivalent plain LoRA: of the same rank while the snapshot is inactive, of twice the rank once it is active.
 * @param config the LoRA described by the terms without their snapshots
 */
export function savedWithSnapshot<Config extends Scaled>(
  config: Config,
  { spec, factors }: AdapterDescription,
  read: ReadFactor,
): Conversion {
  const terms = rankedTerms(spec)
  const acts = terms.some((term) => snapshotRatio(read, term) !== 0)
  if (!acts) return { strategy: deepFreeze(config), read }
  // Keeps the scale, alpha / r or alpha / sqrt(r), when r doubles.
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
    // Parameters other than the factors are saved unchanged.
    read: (name) => values.get(name)?.() ?? read(name),
  }
}
